"""SHREC'13 Sketch-Based Retrieval as TFDS data sets, shapes and sketches; and Quick, Draw! sketches
of PSB models in its layout.

Li, Lu, Godil, Schreck, Aono, Johan, Saavedra, Tashiro: "SHREC'13 Track: Large Scale Sketch-Based 3D
Shape Retrieval", Eurographics Workshop on 3D Object Retrieval 2013.
"""

from __future__ import annotations

from data_pipelines.shrec import Shrec, ShrecConfig, Totals

TOTALS = Totals(classes=90, models=1258, train=50, test=30)
UNSEEN = 23

_FOLDERS = ("shrec(20)?13_sbr_training_sketches", "shrec(20)?13_sbr_testing_sketches")


def _track(name: str, kind: str, description: str) -> ShrecConfig:
    return ShrecConfig(
        name=name,
        description=description,
        kind=kind,
        title="SHREC'13 SBR",
        model_list=r"shrec(20)?13_(sbr_)?model\.cla",
        model_list_example="SHREC13_SBR_Model.cla",
        sketch_list=r"shrec(20)?13_(sbr_)?sketch_{half}\.cla",
        sketch_folders=_FOLDERS,
        totals=TOTALS,
        unseen=UNSEEN,
    )


def _quickdraw(name: str, kind: str, description: str) -> ShrecConfig:
    return ShrecConfig(
        name=name,
        description=description,
        kind=kind,
        title="Quick, Draw! sketches of PSB models",
        model_list=r"shrec(20)?13_like_model\.cla",
        model_list_example="SHREC2013_like_Model.cla",
        sketch_list=r"shrec(20)?13_like_sketch_{half}\.cla",
        sketch_folders=_FOLDERS,
    )


class Shrec13(Shrec):
    """SHREC'13 SBR: 90 classes, 1,258 models of the Princeton Shape Benchmark, 7,200 sketches; the
    paper counts 23 unseen classes.
    """

    BUILDER_CONFIGS = [  # noqa: RUF012
        _track(
            "shapes",
            "shapes",
            "SHREC'13 SBR, 1,258 models: train and test of the seen classes, and the unseen ones",
        ),
        _track(
            "sketches",
            "sketches",
            "SHREC'13 SBR, 80 sketches of each of 90 classes, 50 train and 30 test",
        ),
        _quickdraw(
            "psb_quickdraw_shapes", "shapes", "PSB models of the classes that Quick, Draw! has too"
        ),
        _quickdraw(
            "psb_quickdraw_sketches",
            "sketches",
            "Quick, Draw! sketches of these classes, laid out as SHREC'13",
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir holds, in it or below, SHREC13_SBR_Model.cla, SHREC13_SBR_TRAINING_SKETCHES "
        "and SHREC13_SBR_TESTING_SKETCHES, "
        "and the models as m<N>.off or as the Princeton Shape Benchmark has them; the track's page "
        "and shape.cs.princeton.edu "
        "offer them."
    )
    HOMEPAGE = "https://www.itl.nist.gov/iad/vug/sharp/contest/2013/SBR/"
