"""Tables 1 to 7 of the MV-HGNN paper: every row that the weights and the data allow.

    python -m jax3dret.main --config=configs/tables_mvhgnn.py

| variant | data | rows |
|---|---|---|
| demo | parametric_shapes/sbr_demo, embedded, and drawings | small networks, short training |
| psb_quickdraw | QuickDraw's sketches, Princeton's models | MobileNetV2, two seeds each |
| shrec13 | shrec13/shapes, /sketches | tables 1 and 3 to 7, compared methods as published |
| shrec14 | shrec14/shapes, /sketches | table 2, compared methods as published |

Raw data: --config.data.manual_dir=RAW. Each row is an ordinary run in WORKDIR/rows/ with a report
of its own; WORKDIR/report/index.html shows them beside the published numbers. A row that lacks
something says what. The same command again goes on.

    --config.rows=REGEX           only these rows; `.` for all, those that the demo leaves out too
    --config.seeds=(0,1,2)        several runs of each row: mean and standard deviation
    --config.collect=true         only what is finished

What the rows need, each DIR from `jax3dret weights import FILE --out DIR`:

    --config.needs.cnn=DIR        ImageNet's ResNet-18; of psb_quickdraw MobileNetV2, for both sides
    --config.needs.clip=DIR --config.needs.merges=FILE       CLIP ViT-B/16; shrec13 and shrec14
"""

from jax3dret.experiments import tables
from jax3dret.experiments.rows import need, published_row, row
from jax3dret.tasks.mvhgnn.published import ABLATIONS, FULL_STRATEGY, NOTE, TABLES, published

SETTINGS = {"category": "category level", "zeroshot": "zero-shot"}
MERGES = need(
    "merges",
    "prototypes.merges",
    "CLIP's file of merges",
    "bpe_simple_vocab_16e6.txt.gz of the CLIP project",
    is_folder=False,
)
PAPER_NEEDS = (
    need("cnn", "cnn_weights", "a ResNet-18 with ImageNet weights"),
    need("clip", "tower_weights", "CLIP ViT-B/16"),
    need("clip", "prototypes.weights", "CLIP ViT-B/16"),
    MERGES,
)
MOBILENET = (
    need("cnn", "cnn_weights", "a MobileNetV2 with ImageNet weights"),
    need("cnn", "tower_cnn_weights", "a MobileNetV2 with ImageNet weights"),
)
SHORT = ("first.epochs=20.0", "train.epochs=6.0")
NO_ORDER = (
    "The paper ablates its encoder and the number of views at category level alone: zero-shot "
    "there is no published order of these rows."
)


def demo():
    """Small networks as they are after a few epochs; the ablations on demand."""
    config = tables.defaults()
    config.data.name = "parametric_shapes/sbr_demo"
    config.title = "Small networks on drawings of parametric shapes, rows of the MV-HGNN paper"
    config.notes = (
        "These networks and data sets are small, so that two CPU cores can train them; the paper "
        "has no numbers for them, and so short a training settles no order.",
        "Table 5 is of CLIP's tower, which these rows do not have.",
    )
    config.table = tuple(
        row(name, f"mvhgnn_shrec13.py:{variant}", settings=(*SHORT, *changed), extra=not shown)
        for setting, variant in (("category", "demo"), ("zeroshot", "demo_zeroshot"))
        for name, changed, shown in (
            (f"{SETTINGS[setting]}: full model", (), True),
            *(
                (
                    f"{SETTINGS[setting]}: {method}",
                    changed,
                    (setting, method) == ("category", "average pooling"),
                )
                for _, method, changed in ablations(setting, (3, 4, 6, 7))
            ),
        )
    )
    return config


def psb_quickdraw():
    """One frozen MobileNetV2 on both sides; what tells most stands first."""
    config = tables.defaults()
    config.data.name = "shrec13/psb_quickdraw_shapes"
    config.title = "MV-HGNN's rows on QuickDraw's sketches of Princeton's models"
    config.seeds = (0, 1)
    config.notes = (
        "Orthogonal prototypes, which know nothing of what a class is called; MobileNetV2 in place "
        "of ResNet-18 and CLIP. The paper has no numbers for this data.",
        "Frozen features are compared with the mean of each side's training data taken off: "
        "without that most of what they lack is a constant offset between drawings and shapes.",
        NO_ORDER,
    )
    frozen, rest = [], []
    for setting, variant in (("category", "psb_quickdraw"), ("zeroshot", "psb_quickdraw_zeroshot")):
        spec, said = f"mvhgnn_shrec13.py:{variant}", SETTINGS[setting]
        frozen += [
            row(f"{said}: frozen features, centred", f"{spec}_frozen", needs=MOBILENET),
            row(f"{said}: full model", spec, needs=MOBILENET),
        ]
        rest += [
            row(
                f"{said}: frozen features as they are",
                f"{spec}_frozen",
                settings=("centred=false",),
                needs=MOBILENET,
            )
        ]
        rest += [
            row(f"{said}: {method}", spec, settings=changed, needs=MOBILENET)
            for _, method, changed in ablations(setting, (3, 6, 4, 7))
        ]
    config.table = (*frozen, *sorted(rest, key=lambda r: not r["name"].endswith("average pooling")))
    return config


def full_size(data, table):
    """The published setting. table: the paper's that has the full model on this data set."""
    config = tables.defaults()
    config.data.name = f"{data}/shapes"
    more = " and ablations in tables 3 to 7" if table == 1 else ""
    config.title = f"Table {table} of the MV-HGNN paper{more}, SHREC'{data.removeprefix('shrec')}"
    config.notes = (
        "Single runs, as the paper's. Its split of the shapes and its seeds are not published.",
        NOTE,
        *((NO_ORDER,) if table == 1 else ()),
    )
    rows = []
    for setting, said in SETTINGS.items():
        compared = [m for m, s in TABLES[table] if s == setting and m != "MV-HGNN"]
        rows += [
            published_row(f"table {table}, {said}: {m}", published(table, m, setting))
            for m in compared
        ]
        rows.append(
            row(
                f"table {table}, {said}: MV-HGNN",
                f"mvhgnn_{data}.py:{setting}",
                needs=PAPER_NEEDS,
                note="The full model, which is the last row of the ablations too; table 7 prints "
                "another run of it."
                if table == 1
                else "",
            )
        )
    for setting in SETTINGS if table == 1 else ():
        rows += [
            row(
                f"table {number}, {SETTINGS[setting]}: {method}",
                f"mvhgnn_{data}.py:{setting}",
                settings=changed,
                needs=PAPER_NEEDS,
            )
            for number, method, changed in ablations(setting, (3, 4, 5, 6, 7))
            if (method, setting) in TABLES[number]
        ]
    config.table = tuple(rows)
    return config


def ablations(setting, numbers):
    """(table, row, settings) of the paper's ablations in these tables, whose settings make sense in
    either setting, without those that are the full model of this one."""
    no_term = "cls_ske" if setting == "zeroshot" else "sem_3d"  # nothing to leave out of the loss
    for number in numbers:
        for (table, method), (key, value) in ABLATIONS.items():
            is_full = key == "strategy" and value == FULL_STRATEGY[setting]
            if table == number and not is_full and no_term not in method:
                yield table, method, (f"{key}={value}",)


VARIANTS = {
    "demo": (demo,),
    "psb_quickdraw": (psb_quickdraw,),
    "shrec13": (full_size, "shrec13", 1),
    "shrec14": (full_size, "shrec14", 2),
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
