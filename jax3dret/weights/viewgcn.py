"""View-GCN weights under their original names: the graph network, and the view CNN in front of it.

A published file holds both. The CNN is a ResNet without its classifier, as a sequence `net_1`: its
layers are numbered in the order conv1, bn1, (ReLU, pooling,) layer1 ... layer4. The graph network
has no prefix. Beside them lies `net_2`, the classifier of the single views that the first stage
trained and nothing uses any more: it is left out, and `ignored` lists it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.weights import resnet
from jax3dret.weights.mapping import Entry, Shapes, dense, left_out, load, norm, save

NETWORK = "View-GCN"
CNN = "net_1."
IGNORED = r"net_2\..*"
# Place in the sequence -> name in a ResNet of its own.
CNN_LAYERS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def local_entries(name: str, path: tuple[str, ...], in_width: int, width: int) -> list[Entry]:
    """The table of names for a LocalGCN."""
    table = []
    for i, out in enumerate((10, 10, 1)):
        table += dense(f"{name}.KNN.R.{2 * i}", (*path, f"edge{i}"), (out, 10))
    table += dense(f"{name}.conv.0", (*path, "linear"), (width, in_width))
    return table + norm(f"{name}.conv.1", (*path, "norm"), width, running=True)


def nonlocal_entries(name: str, path: tuple[str, ...], width: int) -> list[Entry]:
    """The table of names for a NonLocalMP."""
    table = []
    for i in range(3):
        table += dense(
            f"{name}.Relation.{2 * i}", (*path, f"relation{i}"), (width, width if i else 2 * width)
        )
    table += dense(f"{name}.Fusion.0", (*path, "fusion"), (width, 2 * width))
    return table + norm(f"{name}.Fusion.1", (*path, "norm"), width, running=True)


def selector_entries(
    name: str, path: tuple[str, ...], width: int, sampled: int, num_classes: int
) -> list[Entry]:
    """The table of names for a ViewSelector that keeps `sampled` views."""
    hidden = width // 2 * sampled
    table = dense(f"{name}.cls.0", (*path, "hidden"), (hidden, width * sampled))
    return table + dense(f"{name}.cls.2", (*path, "score"), (num_classes * sampled, hidden))


def entries(
    num_classes: int,
    width: int,
    sampled: tuple[int, int],
    selector_classes: int = 0,
    in_width: int = 0,
) -> list[Entry]:
    """The table of names for a ViewGCN; in_width is that of the views' features where it is not
    `width`.
    """
    table: list[Entry] = []
    for level in (1, 2, 3):
        reads = in_width if level == 1 and in_width else width
        table += local_entries(f"LocalGCN{level}", (f"local{level}",), reads, width)
    for level in (1, 2):
        table += nonlocal_entries(f"NonLocalMP{level}", (f"nonlocal{level}",), width)
        name, path = f"View_selector{level}", (f"selector{level}",)
        table += selector_entries(
            name, path, width, sampled[level - 1], selector_classes or num_classes
        )
    for i, (place, shape) in enumerate(
        ((0, (width, 3 * width)), (2, (width, width)), (5, (num_classes, width)))
    ):
        table += dense(f"cls.{place}", (f"head{i}",), shape)
    return table


def architecture(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """The fields of ViewGCN that its tensors tell: num_classes, width, sampled and
    selector_classes.

    Raises DataError if there is no View-GCN below `prefix`.
    """
    shape = Shapes(state_dict, prefix, NETWORK)
    width, num_classes = shape("LocalGCN1.conv.0.weight", 2)[0], shape("cls.5.weight", 2)[0]
    sampled = tuple(
        shape(f"View_selector{level}.cls.0.weight", 2)[1] // max(1, width) for level in (1, 2)
    )
    selector_classes = shape("View_selector1.cls.2.weight", 2)[0] // max(1, sampled[0])
    return {
        "num_classes": num_classes,
        "width": width,
        "sampled": sampled,
        "selector_classes": 0 if selector_classes == num_classes else selector_classes,
    }


def ignored(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Names that `from_torch` leaves out on purpose."""
    return left_out(state_dict, IGNORED, prefix)


def from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, Any]:
    """{"params", "batch_stats"} of a ViewGCN from the tensors below `prefix`; those of the CNN are
    left to `cnn_from_torch`.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    own = {name: value for name, value in state_dict.items() if not name.startswith(prefix + CNN)}
    fields = architecture(own, prefix)
    in_width = np.shape(own[f"{prefix}LocalGCN1.conv.0.weight"])[1]
    return load(own, entries(**fields, in_width=in_width), prefix, NETWORK, IGNORED)


def to_torch(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The reverse of `from_torch`, also for gradients: {"params": grads}."""
    params = variables["params"]

    def shape(*path: str) -> tuple[int, ...]:
        node = params
        for key in (*path, "kernel"):
            node = node[key]
        return np.shape(node)

    in_width, width = shape("local1", "linear")
    sampled = (shape("selector1", "hidden")[0] // width, shape("selector2", "hidden")[0] // width)
    selector_classes = shape("selector1", "score")[1] // sampled[0]
    table = entries(shape("head2")[1], width, sampled, selector_classes, in_width)
    return save(variables, table, prefix)


def cnn_architecture(state_dict: Mapping[str, np.ndarray], prefix: str = CNN) -> dict[str, Any]:
    """The fields of the ResNet that is the CNN of a published file. Raises DataError if it is none."""
    return resnet.architecture(cnn_state_dict(state_dict, prefix))


def cnn_from_torch(state_dict: Mapping[str, np.ndarray], prefix: str = CNN) -> dict[str, Any]:
    """{"params", "batch_stats"} of the CNN of a published file, a ResNet without a classifier.

    Raises DataError with the list of what is missing, superfluous or of another shape.
    """
    return resnet.from_torch(cnn_state_dict(state_dict, prefix))


def cnn_to_torch(variables: Mapping[str, Any], prefix: str = CNN) -> dict[str, np.ndarray]:
    """The reverse of `cnn_from_torch`; a classifier `fc` is left out."""
    return cnn_to_original(resnet.to_torch(variables), prefix)


def cnn_state_dict(
    state_dict: Mapping[str, np.ndarray], prefix: str = CNN
) -> dict[str, np.ndarray]:
    """The tensors of the CNN of a published file under the names of a ResNet of its own, which has
    no `fc`.

    Raises DataError for a layer that a ResNet does not have in that place.
    """
    renamed = {}
    for name, value in state_dict.items():
        if not name.startswith(prefix):
            continue
        place, _, rest = name[len(prefix) :].partition(".")
        if place not in CNN_LAYERS:
            raise DataError(
                f"{NETWORK} weights do not fit: {name} has no place; its CNN is no ResNet"
            )
        renamed[f"{CNN_LAYERS[place]}.{rest}"] = value
    return renamed


def cnn_to_original(
    state_dict: Mapping[str, np.ndarray], prefix: str = CNN
) -> dict[str, np.ndarray]:
    """The reverse of `cnn_state_dict`; a classifier `fc` is left out."""
    places = {layer: place for place, layer in CNN_LAYERS.items()}
    return {
        re.sub(r"^\w+", lambda match: prefix + places[match[0]], name): value
        for name, value in state_dict.items()
        if not name.startswith("fc.")
    }
