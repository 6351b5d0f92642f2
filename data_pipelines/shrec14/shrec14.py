"""SHREC'14 Extended Large Scale Sketch-Based Retrieval as TFDS data sets, shapes and sketches.

Li, Lu, Li, Godil, Schreck, et al.: "SHREC'14 Track: Extended Large Scale Sketch-Based 3D Shape
Retrieval", Eurographics Workshop on 3D Object Retrieval 2014.
"""

from __future__ import annotations

from data_pipelines.shrec import Shrec, ShrecConfig, Totals

# 171 x 80 sketches; the 12,680 that the track's abstract has are a misprint of 13,680.
TOTALS = Totals(classes=171, models=8987, train=50, test=30)
UNSEEN = 38


def _config(name: str, kind: str, description: str) -> ShrecConfig:
    return ShrecConfig(
        name=name,
        description=description,
        kind=kind,
        title="SHREC'14 LSSTB",
        model_list=r"shrec(20)?14_(sbr_|lsstb_)?model\.cla",
        model_list_example="SHREC14_SBR_Model.cla",
        sketch_list=r"shrec(20)?14_(sbr_|lsstb_)?sketch_{half}\.cla",
        sketch_folders=("shrec(20)?14_?lsstb_sketches",) * 2,
        digits=6,
        totals=TOTALS,
        unseen=UNSEEN,
    )


class Shrec14(Shrec):
    """SHREC'14 LSSTB: 171 classes, 8,987 models from several collections, 13,680 sketches; the
    paper counts 38 unseen classes.
    """

    BUILDER_CONFIGS = [  # noqa: RUF012
        _config(
            "shapes",
            "shapes",
            "SHREC'14, 8,987 models: train and test of the seen classes, and the unseen ones",
        ),
        _config(
            "sketches",
            "sketches",
            "SHREC'14, 80 sketches of each of 171 classes, 50 train and 30 test",
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "manual_dir holds, in it or below, SHREC14_SBR_Model.cla, SHREC14LSSTB_SKETCHES and "
        "SHREC14LSSTB_TARGET_MODELS with "
        "M<6 digits>.off; the track's page offers them."
    )
    HOMEPAGE = "https://www.itl.nist.gov/iad/vug/sharp/contest/2014/SBR/"
