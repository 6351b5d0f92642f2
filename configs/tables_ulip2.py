"""Tables 1 and 2 of the ULIP-2 fine-tuning paper, one data set at a time: every row that the weights and the data allow.

    python -m jax3dret.main --config=configs/tables_ulip2.py:modelnet10 --config.data.manual_dir=RAW --workdir=runs/tables_modelnet10

| variant | data | rows |
|---|---|---|
| demo | parametric_shapes/demo, embedded | small networks: random weights, and a short classification; the others on demand |
| modelnet10, ldraw, psb | modelnet/10, mcb (the LDraw parts), psb (--config.data.manual_dir=RAW) | small networks, every row |
| modelnet40, shapenet_normal, ... | each of the paper's data sets (--config.data.manual_dir=RAW) | tables 1 and 2 at their published size |

Each row is an ordinary run in WORKDIR/rows/ with a report of its own; WORKDIR/report/index.html shows them beside the published
numbers. A row that lacks something says what. The same command again goes on.

    --config.rows=REGEX           only these rows; `.` for all, those that the demo leaves out too
    --config.seeds=(0,1,2)        several runs of each row: mean and standard deviation
    --config.collect=true         only what is finished
    --config.needs.weights=DIR        imported ULIP-2 PointBERT, weights/ulip2_pointbert unless given: the rows ULIP2/...
    --config.needs.slip=DIR --config.needs.merges=FILE --config.needs.captions=FILE     the rows .../mmcl at their published size
    --config.needs.cnn_weights=DIR    imported ImageNet ResNet-18: View-GCN and MVTN at their published size
    --config.every_row="('eval.batch_size=8',)"                         settings for all rows

DIR comes from `jax3dret weights import FILE --out DIR`. Expected NN accuracy of the demo, one seed, four minutes of CPU time:
PointNet++ random 80.6 %, 16 epochs 87.5 %; PointBERT random 79.7 %, 8 epochs 87.2 %. The full-size tables have not been run.
"""

from jax3dret.experiments import tables
from jax3dret.experiments.rows import need, row, stage
from jax3dret.tasks.ulip2 import presets

VARIANTS = (*presets.SMALL, *presets.DATASETS)
CNN = need("cnn_weights", "cnn_weights", "a ResNet-18 with ImageNet weights")
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
        "see jax3dret.data.captions:from_jsonl",
        is_folder=False,
        settings=("captions.name=jax3dret.data.captions:from_jsonl",),
    ),
)
# Epochs of the demo's classification rows, where the row's own demo has 40 and 30.
QUICK = {"small PointNet++/classification": 16, "small PointBERT/classification": 8}


def get_config(variant):
    config = tables.defaults()
    if variant in presets.SMALL:
        config.data.name = presets.SMALL[variant].name
        config.title = f"Small networks on {config.data.name}, the rows of tables 1 and 2"
        config.notes = (
            "These networks and data sets are small, so that two CPU cores can train them; the paper has no numbers for them.",
        )
        config.table = _quick(_small(variant)) if variant == "demo" else _small(variant)
        return config
    dataset = presets.DATASETS[variant]
    config.data.name = dataset.name
    config.title = f"Tables 1 and 2 of the ULIP-2 fine-tuning paper, column {dataset.column}"
    config.notes = (
        "A published number is the mean of five evaluations of one training, which differ in how points are sampled. Here "
        "each seed is a whole run: initial weights, order, augmentation, and the sampling of the evaluation.",
    )
    config.needs = {"weights": presets.WEIGHTS}
    config.table = _full(variant)
    return config


def _small(variant):
    return (
        row("small PointNet++/random", f"pointnet2_vicreg.py:{variant}_random"),
        row("small PointNet++/classification", f"pointnet2_classify.py:{variant}"),
        row("small PointNet++/vicreg", f"pointnet2_vicreg.py:{variant}"),
        row("small PointBERT/random", f"ulip2_vicreg.py:{variant}_random"),
        row("small PointBERT/classification", f"ulip2_classify.py:{variant}"),
        row("small PointBERT/vicreg", f"ulip2_vicreg.py:{variant}"),
        row(
            "small PointBERT/mmcl",
            f"ulip2_mmcl.py:{variant}",
            note="MMCL with random towers and captions made from geometry.",
        ),
        row("small View-GCN/classification", f"viewgcn_classify.py:{variant}"),
        row("small MVTN/classification", f"mvtn_classify.py:{variant}"),
    )


def _quick(rows):
    """Random weights and a short classification; the whole rows wait for --config.rows."""
    short = [
        row(
            f"{r['name']}, {QUICK[r['name']]} epochs",
            r["config"],
            settings=(f"train.epochs={QUICK[r['name']]}.0",),
        )
        for r in rows
        if r["name"] in QUICK
    ]
    whole = [{**r, "extra": not r["name"].endswith("/random")} for r in rows]
    return tuple(sorted(whole + short, key=lambda r: r["extra"]))


def _full(variant):
    views = "paper" if variant == "modelnet40" else variant
    weights = need("weights", "checkpoint.init_from", "ULIP-2's PointBERT")
    single_views = stage(
        "View-GCN/single views", f"viewgcn_classify.py:{views}_single_view", needs=(CNN,)
    )
    return (
        row("PointNet++/random", f"pointnet2_vicreg.py:{variant}_random"),
        row("PointNet++/classification", f"pointnet2_classify.py:{variant}"),
        row("PointNet++/vicreg", f"pointnet2_vicreg.py:{variant}"),
        row("PointBERT/random", f"ulip2_vicreg.py:{variant}_random"),
        row("PointBERT/classification", f"ulip2_classify.py:{variant}_scratch"),
        row("PointBERT/vicreg", f"ulip2_vicreg.py:{variant}_scratch"),
        row("PointBERT/mmcl", f"ulip2_mmcl.py:{variant}_scratch", needs=TOWERS),
        row("ULIP2/pretrained", f"ulip2_vicreg.py:{variant}_pretrained", needs=(weights,)),
        row(
            "ULIP2/classification",
            f"ulip2_classify.py:{variant}",
            needs=(weights,),
            note="Trained and compared as the published code does it, which is not what the paper's text says: one cycle of the "
            "learning rate, an epoch of at most 100 batches, another head, Euclidean distances.",
        ),
        row("ULIP2/vicreg", f"ulip2_vicreg.py:{variant}", needs=(weights,)),
        row("ULIP2/mmcl", f"ulip2_mmcl.py:{variant}", needs=(weights, *TOWERS)),
        row("View-GCN/classification", f"viewgcn_classify.py:{views}", starts_from=single_views),
        row("MVTN/classification", f"mvtn_classify.py:{views}", needs=(CNN,)),
    )
