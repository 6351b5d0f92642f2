"""Made-up drawings and shapes whose embeddings stand in the records, for the evaluator and the
report.
"""

import dataclasses

import numpy as np
import PIL.Image
import PIL.ImageDraw
from fakes import FakeSource, reading

from jax3dret.core.types import DataSpec
from jax3dret.data.sketches import SKETCH_SIZE, encode
from jax3dret.evaluators import shrec

CLASSES = ("bolt", "nut", "washer", "gear")
VIEWS = 12


def split_of(vectors, labels, *, drawings, name="toys/shapes", classes=CLASSES):
    """Drawings ("png") or shapes ("points"), with "vector" to embed; `vectors` may be changed
    afterwards."""

    def record(row):
        label, vector = int(made.labels[row]), made.vectors[row]
        if drawings:
            return {"vector": vector, "png": np.frombuffer(encode(drawing(label)), np.uint8)}
        angle = np.linspace(0, 2 * np.pi, 40 * (label + 1), endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle), 0.2 * np.sin((label + 1) * angle)], axis=1)
        return {"vector": vector, "points": ring.astype(np.float32)}

    ids = [f"{classes[c]}/{i}" for i, c in enumerate(labels)]
    made = FakeSource(labels, None, name=name, split="test", class_names=classes, ids=ids)
    made.vectors, made.record = np.asarray(vectors, np.float32), record
    return made


def drawing(label):
    """A polygon with label + 3 corners."""
    image = PIL.Image.new("L", (SKETCH_SIZE,) * 2, 255)
    PIL.ImageDraw.Draw(image).regular_polygon((224, 224, 180), label + 3, outline=0, width=5)
    return np.asarray(image)


@dataclasses.dataclass(frozen=True)
class Keep:
    """record["vector"] under the name of its modality."""

    name: str

    def __call__(self, record, rng):
        return {self.name: record["vector"]}


def embed(batch):
    """Gives view scores for shapes alone, one view far ahead of the rest."""
    if "drawn" in batch:
        return {"sketch": batch["drawn"]}
    scores = np.tile(np.linspace(0.1, 0.3, VIEWS, dtype=np.float32), (len(batch["shaped"]), 1))
    scores[:, 3] = 0.8
    return {"shape": batch["shaped"], "view_scores": scores}


def clusters(num, seed, *, width=8, noise=0.5):
    classes = len(CLASSES)
    centers = np.random.default_rng(99).normal(size=(classes, width))
    labels = np.arange(num) * classes // num
    return centers[labels] + noise * np.random.default_rng(seed).normal(size=(num, width)), labels


def sides(queries=30, items=42, **kwargs):
    shapes = split_of(*clusters(items, 1, **kwargs), drawings=False)
    drawn = split_of(*clusters(queries, 2, **kwargs), drawings=True, name="toys/sketches")
    return shapes, drawn


def evaluator(gallery, queries, *, views=None, data=None, **settings):
    """The SHREC evaluator of these two; views: the file of the gallery's views."""

    def read(modality, split):
        if modality == "views":
            return DataSpec("shape", split, 8, arrays=(("views", views),))
        return reading(shape=Keep("shaped"), sketch=Keep("drawn"))(modality, split)

    settings = {"neighbours": 20, "show_views": views is not None, **settings}
    sources = {"shape": gallery, "sketch": queries}
    return shrec.make(data or read, lambda split, name: sources[name], **settings)
