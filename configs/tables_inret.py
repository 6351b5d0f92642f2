"""The tables of the INRet paper: every row that the INRs of a data set allow.

    python -m jax3dret.main --config=configs/tables_inret.py

| variant | data | rows |
|---|---|---|
| demo | inr_store/demo, embedded shapes fitted on the first run | small networks, short training |
| ldraw | inr_store/ldraw (the LDraw parts) | small networks: sections 5.2 to 5.4, 8, 11 |
| psb | inr_store/psb | small networks: sections 5.2, 5.4, 8 |
| shapenet10, pix3d | inr_store/shapenet10, /pix3d: hash grids and triplanes, fast | full size |
| paper | inr_store/paper: all four architectures, of the paper's size and steps | full size |

Raw meshes: --config.data.manual_dir=RAW. Each row is an ordinary run in WORKDIR/rows/ with a report
of its own; WORKDIR/report/index.html shows them, and the paper's rows under their own names, for
neither its classes of ShapeNet nor its split of Pix3D are published. A row that lacks something
says what. The same command again goes on.

    --config.rows=REGEX           only these rows; `.` for all, those that are left out too
    --config.seeds=(0,1,2)        several runs of each row: mean and standard deviation
    --config.collect=true         only what is finished

What rows at full size take, if it is there: --config.needs.cnn=DIR, ImageNet's ResNet-18 from
`jax3dret weights import FILE --out DIR`, for View-GCN.

What a row measures stands in its report: hit_rate_k is the paper's mAP@k; of all pairs of functions
hit_rate_1_all is the mean, hit_rate_1_udf_sdf and so on are the cells, and with _same_shape behind
it the query's own shape may be found. seconds_per_query is a query from the INR to the answer.
"""

from jax3dret.experiments import tables
from jax3dret.experiments.rows import need, published_row, row, stage
from jax3dret.tasks.inret import published as paper

# The settings of equation 4: nothing across functions, the alignment alone, both.
ALONE = ("functions=('sdf',)", "loss.target=own", "loss.alignment=false")
APART = ("loss.target=own", "loss.alignment=false")
ALIGNED = ("loss.target=own",)
# Section 8.4 to 8.6: decoder function, weights of pairs, norm.
CHOICES = (
    ("decoder gives SDF", "loss.target=sdf"),
    ("decoder gives Occ", "loss.target=occ"),
    ("decoder's loss L2", "loss.norm=l2"),
    ("pairs 211", "loss.pairs.udf_sdf=2.0"),
    ("pairs 121", "loss.pairs.udf_occ=2.0"),
    ("pairs 112", "loss.pairs.sdf_occ=2.0"),
)
CHAMFER = (
    "evals.category_chamfer.name=jax3dret.tasks.inret.category_chamfer:make",
    "evals.category_chamfer.kind=hashgrid_sdf",
)
CNN = need("cnn", "cnn_weights", "a ResNet-18 with ImageNet weights", optional=True)
NOTES = (
    "hit_rate_k is what the paper calls mAP@k: queries with a shape of their class among the k "
    "nearest, the query's own shape left out.",
    "Not run: concatenated levels of an octree and summed ones of a hash grid (section 8.7), for "
    "an encoder reads a grid as its INR does; INRs of two epochs (section 9.2) and UDFs of clouds "
    "(section 10), which are other data sets of INRs. How well INRs are reconstructed (section "
    "9.1) is told by `jax3dret bench inr_fit`.",
)
FAST = (
    "These INRs are fitted fast: hash grids of 2^14 rows, 1,024 steps of 512 points of one pool. "
    "The paper's own protocol, its octrees and its plain networks are in `:paper` alone."
)
PAPER_NOTES = (
    "The paper's rows are single runs on other data: neither its ten classes of ShapeNet nor its "
    "split of Pix3D are published.",
    *paper.INCONSISTENT,
    "The paper's seconds, on an RTX 4090: a query of NGLOD 0.034, EG3D 0.031, iNGP 0.14, inr2vec "
    "0.062, PointNeXt 0.98, View-GCN 3.05; distilled first, NGLOD 30.2, EG3D 34.1, iNGP 29.6; a "
    "cloud of an SDF, UDF, Occ 0.98, 1.26, 1.82, its pictures 3.05, 4.13, 3.67; the nearest of a "
    "class 65.06, by hierarchical sampling 35.46 to 36.19, which compares 17.1 % again.",
    "The paper's Chamfer distances on ShapeNet, SDF, UDF, Occ: NGLOD 0.0168, 0.0122, 0.0210, iNGP "
    "0.0147, 0.0119, 0.0223, plain networks 0.0354, 0.0344, 0.0389; on Pix3D 0.0183, 0.0125, "
    "0.0213, 0.0146, 0.0120, 0.0241, 0.0367, 0.0351, 0.0392. gIoU on ShapeNet, SDF and Occ: 84.2 "
    "and 81.4, 86.2 and 82.1, 77.3 and 75.2; on Pix3D 85.5 and 82.2, 86.5 and 82.3, 77.5 and 74.9.",
)


def demo():
    """Small networks as they are after a few epochs; the choices on demand."""
    config = table("demo", "Small networks on INRs of parametric shapes, rows of the INRet paper")
    short = ("train.epochs=20.0",)
    config.notes = (
        "These networks and data sets are small, so that two CPU cores can train them; the paper "
        "has no numbers for them, and so short a training settles no order.",
        *NOTES,
    )
    config.table = (
        row("SDF: hash grid", "inret.py:demo", settings=(*ALONE, *short)),
        untrained("demo"),
        row("SDF: PointNeXt", "inret_baselines.py:demo_sdf"),
        row("across: nothing shared", "inret.py:demo", settings=(*APART, *short)),
        row("across: alignment", "inret.py:demo", settings=(*ALIGNED, *short), extra=True),
        row("across: alignment and unified decoder", "inret.py:demo", settings=short),
        row("across: PointNeXt", "inret_baselines.py:demo", extra=True),
        row("SDF: View-GCN", "inret_baselines.py:demo_views_sdf", extra=True),
        row(
            "Category-Chamfer: hash grid",
            "inret.py:demo",
            settings=(*ALONE, *short, *CHAMFER, *points(1024, 4096)),
            extra=True,
        ),
        *choices("demo", short, extra=True),
    )
    return config


def small(data):
    """Small networks on real shapes."""
    config = table(data, f"INRet's rows on INRs of {data}, fitted fast, by small networks")
    plain = data == "ldraw"
    config.notes = (
        "The paper has no numbers for this data. Hash grids have tables of 2^14 rows, plain "
        "networks are 4 x 128, encoders are half as wide as INRet's.",
        *NOTES,
    )
    rows = [
        row("SDF: hash grid", f"inret.py:{data}", settings=ALONE),
        untrained(data),
        row("SDF: triplane", f"inret.py:{data}_triplane", settings=ALONE),
        *([row("SDF: inr2vec", "inr2vec.py:ldraw")] if plain else []),
        row("SDF: PointNeXt", f"inret_baselines.py:{data}_sdf"),
        row("SDF: View-GCN", f"inret_baselines.py:{data}_views_sdf"),
        *across(data, ("hashgrid", "triplane")),
        row("across: PointNeXt", f"inret_baselines.py:{data}"),
        row("across: View-GCN", f"inret_baselines.py:{data}_views", extra=True),
    ]
    if plain:
        rows += [distilled(data, field) for field in ("hashgrid", "triplane")]
        rows += chamfer(data, points(4096, 16_384))
    config.table = (*rows, *choices(data, (), extra=True))
    return config


def full_size(data, dataset):
    """INRet's own sizes, beside the paper's rows. dataset: the paper's."""
    config = table(data, f"The tables of the INRet paper, {paper.DATASETS[dataset]}")
    fields = ("hashgrid", "triplane", "octree") if data == "paper" else ("hashgrid", "triplane")
    config.notes = (*NOTES, *PAPER_NOTES, *((FAST,) if data != "paper" else ()))
    singles = {
        f: stage(
            f"View-GCN, single views{f}", f"inret_baselines.py:{data}_single_view{f}", needs=(CNN,)
        )
        for f in ("", "_sdf")
    }
    rows = [
        *(row(f"SDF: {NAMES[f]}", variant(data, f), settings=ALONE) for f in fields),
        untrained(data),
        row("SDF: PointNeXt", f"inret_baselines.py:{data}_sdf"),
        row("SDF: View-GCN", f"inret_baselines.py:{data}_views_sdf", starts_from=singles["_sdf"]),
        *across(data, fields),
        row("across: PointNeXt", f"inret_baselines.py:{data}"),
        row("across: View-GCN", f"inret_baselines.py:{data}_views", starts_from=singles[""]),
        *chamfer(data, ()),
    ]
    if data == "paper":
        unified = "inr2vec.py:paper_unified"
        rows += [
            row("SDF: inr2vec", "inr2vec.py:paper"),
            row("across: inr2vec, nothing shared", unified, settings=APART),
            row("across: inr2vec, alignment and unified decoder", unified),
            *(distilled(data, field) for field in fields),
        ]
    config.table = (*rows, *choices(data, ()), *published_rows(dataset))
    return config


NAMES = {"hashgrid": "hash grid", "triplane": "triplane", "octree": "octree"}


def variant(data, field):
    """Of configs/inret.py."""
    return f"inret.py:{data}" + ("" if field == "hashgrid" else f"_{field}")


def table(data, title):
    config = tables.defaults()
    config.data.name = f"inr_store/{data}"
    config.title = title
    return config


def untrained(data):
    """What the architecture of the encoder does by itself."""
    return row(
        "SDF: hash grid, untrained encoder",
        f"inret.py:{data}",
        settings=(*ALONE, "train.steps=0"),
    )


def across(data, fields):
    """The three functions: nothing shared, the alignment, both (tables 3 and 4)."""
    for field in fields:
        name, spec = NAMES[field], variant(data, field)
        yield row(f"across: {name}, nothing shared", spec, settings=APART)
        yield row(f"across: {name}, alignment", spec, settings=ALIGNED)
        yield row(f"across: {name}, alignment and unified decoder", spec)


def choices(data, settings, extra=False):
    """Sections 8.4 to 8.6, of hash grids."""
    return [
        row(f"across: {name}", f"inret.py:{data}", settings=(*settings, changed), extra=extra)
        for name, changed in CHOICES
    ]


def distilled(data, field):
    """Queries are plain networks, made INRs of the architecture first (section 5.3); the encoder is
    that of "SDF"."""
    name, spec = NAMES[field], variant(data, field)
    return row(
        f"distilled: {name}",
        spec,
        settings=(
            *ALONE,
            "train.steps=0",
            "evals.distilled.name=jax3dret.tasks.inret.distillation:make",
            "evals.distilled.source=siren_sdf",
            f"evals.distilled.kind={field}_sdf",
            f"evals.distilled.preset={'paper' if data == 'paper' else 'fast'}",
        ),
        starts_from=stage(f"SDF: {name}", spec, settings=ALONE),
        note="retrieval is of INRs that were fitted to meshes, distilled/... of those distilled "
        "from plain networks.",
    )


def points(fine, truth):
    """Of the clouds that are compared, and of those that say what is right."""
    return (f"evals.category_chamfer.fine={fine}", f"evals.category_chamfer.truth={truth}")


def chamfer(data, settings):
    """Section 11: INRet and PointNeXt."""
    note = (
        "Both classify frozen embeddings; the paper asks PointNeXt's own classifier. Candidates "
        "are those of the class that is named."
    )
    specs = {
        "hash grid": (f"inret.py:{data}", ALONE),
        "PointNeXt": (f"inret_baselines.py:{data}_sdf", ()),
    }
    return [
        row(
            f"Category-Chamfer: {name}",
            spec,
            settings=(*own, "train.steps=0", *CHAMFER, *settings),
            starts_from=stage(f"SDF: {name}", spec, settings=own),
            note=note,
        )
        for name, (spec, own) in specs.items()
    ]


def published_rows(dataset):
    """The paper's rows on its own data."""
    return [
        published_row(f"paper, {table}: {name}", paper.published(table, name, dataset))
        for table in paper.TABLES
        for name in paper.rows(table, dataset)
    ]


VARIANTS = {
    "demo": (demo,),
    "ldraw": (small, "ldraw"),
    "psb": (small, "psb"),
    "shapenet10": (full_size, "shapenet10", "shapenet10"),
    "pix3d": (full_size, "pix3d", "pix3d"),
    "paper": (full_size, "paper", "shapenet10"),
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
