"""Tables 1 and 2 of the ULIP-2 fine-tuning paper: every row that the weights and the data allow.

    python -m jax3dret.main --config=configs/tables_ulip2.py

| variant | data | rows |
|---|---|---|
| demo | parametric_shapes/demo, embedded | small networks: random, short classification |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb/base | small networks, all rows |
| modelnet40, shapenet_normal, ... | a data set of the paper | both tables at their published size |

Raw data: --config.data.manual_dir=RAW. Each row is an ordinary run in WORKDIR/rows/ with a report
of its own; WORKDIR/report/index.html shows them beside the published numbers. One that was measured
on other data or by another protocol is marked (⚠, in the terminal *) and says what differs; it is
left out where more than 2 % of a split's records are lacking or a setting of all rows was changed.
A row that lacks something says what. The same command again goes on.

    --config.rows=REGEX           only these rows; `.` for all, those that the demo leaves out too
    --config.seeds=(0,1,2)        several runs of each row: mean and standard deviation
    --config.collect=true         only what is finished
    --config.every_row="('eval.batch_size=8', ('ULIP2/|BERT/', 'model.remat=True'))"
                                  settings for all rows, and for those that a pattern finds; a row
                                  without such a key goes without, and says so
    --config.every_row="('eval.seeds=(0,1,2,3,4)',)"
                                  the five evaluations of a published number

Where a step does not fit into the memory of a device, model.remat=True computes activations again
instead of keeping them. No published number stands beside rows whose results a setting may change;
these change none. Of ModelNet40 as clouds MVTN can draw the points alone:
('MVTN', 'render.kind=points') and ('MVTN', 'mvtn.distance=1.0').

What the rows at their published size need, each DIR from `jax3dret weights import FILE --out DIR`:

    --config.needs.weights=DIR        ULIP-2's PointBERT, weights/ulip2_pointbert unless given
    --config.needs.cnn_weights=DIR    ImageNet's ResNet-18: View-GCN and MVTN
    --config.needs.slip=DIR --config.needs.merges=FILE --config.needs.captions=FILE     .../mmcl

Without these, rows run otherwise than the paper's:

    --config.needs.renders=DIR        textured renders, DIR/ID/VIEW.png with VIEW from 0 to 3: MMCL,
                                      which draws grey ones otherwise (jax3dret/data/own_views.py)
    --config.needs.pointnet=DIR       what MVTN's cameras begin with: MVTN as published, or the
                                      workdir of configs/mvtn_classify.py:paper_pointnet
"""

from jax3dret.experiments import tables
from jax3dret.experiments.rows import need, row, stage
from jax3dret.tasks.ulip2 import datasets

CNN = need("cnn_weights", "cnn_weights", "a ResNet-18 with ImageNet weights")
POINTNET = need(
    "pointnet",
    "pointnet_weights",
    "a PointNet for MVTN's cameras",
    "import MVTN, or train configs/mvtn_classify.py:paper_pointnet",
    optional=True,
)
TOWERS = (
    need("slip", "towers.weights", "SLIP's image and text towers"),
    need(
        "merges",
        "towers.merges",
        "CLIP's file of merges",
        "bpe_simple_vocab_16e6.txt.gz of the CLIP project",
        is_folder=False,
    ),
    need(
        "captions",
        "captions.path",
        "captions of the data set's views, a JSON Lines file",
        "`python -m jax3dret.caption --config=configs/ulip2_mmcl.py:VARIANT` makes one",
        is_folder=False,
        settings=("captions.name=jax3dret.data.captions:from_jsonl",),
    ),
    need(
        "renders",
        "views.folder",
        "textured renders of the data set's shapes, DIR/ID/VIEW.png",
        "see jax3dret.data.own_views",
        is_weights=False,
        optional=True,
    ),
)
MMCL_NOTE = (
    "The paper's pictures are textured renders of 512 pixels. Without --config.needs.renders these "
    "are grey ones of 224 pixels, of the meshes where the records hold them; the protocol says "
    "which."
)
VIEWGCN_NOTE = (
    "Two stages as the published code has them, with its switches: the selectors' softmax runs "
    "over the sampled views, the first camera is drawn at random in evaluation too, the learning "
    "rate of the second stage is halved once. Its pictures are RotationNet's renders; here grey "
    "ones of 224 pixels."
)
MVTN_NOTE = (
    "The paper names neither network nor cameras: 12 learned spherical views and View-GCN, in two "
    "stages. The PointNet that moves the cameras is trained on ModelNet40 beforehand in the "
    "published code; here it begins untrained without --config.needs.pointnet. The published code "
    "trains the cameras with AdamW and the rest with SGD; here all have SGD."
)


def demo(data):
    """The small networks as they start, and after a few epochs; every row on demand."""
    config = small(data)
    whole = [{**r, "extra": not r["name"].endswith("/random")} for r in config.table]
    config.table = (
        *(r for r in whole if not r["extra"]),
        row(
            "small PointNet++/classification, 16 epochs",
            "pointnet2_classify.py:demo",
            settings=("train.epochs=16.0",),
        ),
        row(
            "small PointBERT/classification, 8 epochs",
            "ulip2_classify.py:demo",
            settings=("train.epochs=8.0",),
        ),
        *(r for r in whole if r["extra"]),
    )
    return config


def small(data):
    """Networks that two CPU cores can train; the paper has no numbers for them."""
    config = tables.defaults()
    config.data.name = datasets.SMALL[data].name
    config.title = f"Small networks on {config.data.name}, the rows of tables 1 and 2"
    config.notes = (
        "These networks and data sets are small, so that two CPU cores can train them; the paper "
        "has no numbers for them.",
    )
    config.table = (
        row("small PointNet++/random", f"pointnet2_vicreg.py:{data}_random"),
        row("small PointNet++/classification", f"pointnet2_classify.py:{data}"),
        row("small PointNet++/vicreg", f"pointnet2_vicreg.py:{data}"),
        row("small PointBERT/random", f"ulip2_vicreg.py:{data}_random"),
        row("small PointBERT/classification", f"ulip2_classify.py:{data}"),
        row("small PointBERT/vicreg", f"ulip2_vicreg.py:{data}"),
        row(
            "small PointBERT/mmcl",
            f"ulip2_mmcl.py:{data}",
            note="MMCL with random towers and captions made from geometry.",
        ),
        row("small View-GCN/classification", f"viewgcn_classify.py:{data}"),
        row("small MVTN/classification", f"mvtn_classify.py:{data}"),
    )
    return config


def full_size(data, views):
    """Tables 1 and 2. views: the variant of the view-based networks' configs."""
    dataset = datasets.PAPER[data]
    config = tables.defaults()
    config.data.name = dataset.name
    config.title = f"Tables 1 and 2 of the ULIP-2 fine-tuning paper, column {dataset.column}"
    config.notes = (
        "A published number is the mean of five evaluations of one training, which differ in how "
        "points are sampled. Here ULIP2/classification is evaluated so, other rows once; "
        "--config.every_row=\"('eval.seeds=(0,1,2,3,4)',)\" evaluates all of them five times. Each "
        "seed is a whole run: initial weights, order and augmentation too.",
    )
    config.needs = {"weights": "weights/ulip2_pointbert"}
    weights = need("weights", "checkpoint.init_from", "ULIP-2's PointBERT")
    single_views = stage(
        "View-GCN/single views", f"viewgcn_classify.py:{views}_single_view", needs=(CNN,)
    )
    fixed_views = stage("MVTN/single views", f"mvtn_classify.py:{views}_single_view", needs=(CNN,))
    config.table = (
        row("PointNet++/random", f"pointnet2_vicreg.py:{data}_random"),
        row("PointNet++/classification", f"pointnet2_classify.py:{data}"),
        row("PointNet++/vicreg", f"pointnet2_vicreg.py:{data}"),
        row("PointBERT/random", f"ulip2_vicreg.py:{data}_random"),
        row("PointBERT/classification", f"ulip2_classify.py:{data}_scratch"),
        row("PointBERT/vicreg", f"ulip2_vicreg.py:{data}_scratch"),
        row("PointBERT/mmcl", f"ulip2_mmcl.py:{data}_scratch", needs=TOWERS, note=MMCL_NOTE),
        row("ULIP2/pretrained", f"ulip2_vicreg.py:{data}_pretrained", needs=(weights,)),
        row(
            "ULIP2/classification",
            f"ulip2_classify.py:{data}",
            needs=(weights,),
            note="Trained and compared as the published code does it, which is not what the "
            "paper's text says: one cycle of the learning rate, an epoch of at most 100 batches, "
            "another head, Euclidean distances.",
        ),
        row(
            "ULIP2/classification, the paper's text",
            f"ulip2_classify.py:{data}_paper_finetune",
            needs=(weights,),
            note="Trained and compared as the paper's text says: a linear rise to 5e-5 over the "
            "first fifth of the steps and a cosine, whole epochs, its own head, cosine distances.",
        ),
        row("ULIP2/vicreg", f"ulip2_vicreg.py:{data}", needs=(weights,)),
        row("ULIP2/mmcl", f"ulip2_mmcl.py:{data}", needs=(weights, *TOWERS), note=MMCL_NOTE),
        row(
            "View-GCN/classification",
            f"viewgcn_classify.py:{views}",
            starts_from=single_views,
            note=VIEWGCN_NOTE,
        ),
        row(
            "MVTN/classification",
            f"mvtn_classify.py:{views}",
            needs=(POINTNET,),
            starts_from=fixed_views,
            note=MVTN_NOTE,
        ),
    )
    return config


# What a variant runs, and on which data set of jax3dret/tasks/ulip2/datasets.py; for the paper's,
# the variant of viewgcn_classify.py and mvtn_classify.py too. The data set's name is the variant of
# the other configs.
VARIANTS = {
    "demo": (demo, "demo"),
    "modelnet10": (small, "modelnet10"),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "modelnet40": (full_size, "modelnet40", "paper"),
    "shapenet_normal": (full_size, "shapenet_normal", "shapenet_normal"),
    "shapenet_perturbed": (full_size, "shapenet_perturbed", "shapenet_perturbed"),
    "mcb": (full_size, "mcb", "mcb"),
    "objaverse_easy": (full_size, "objaverse_easy", "objaverse_easy"),
    "scanobjectnn": (full_size, "scanobjectnn", "scanobjectnn"),
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
