"""Made-up drawings and shapes whose embeddings stand in the records, for the evaluator and the report."""

import dataclasses

import numpy as np
import PIL.Image
import PIL.ImageDraw

from jax3dret.data import sketches

CLASSES = ("bolt", "nut", "washer", "gear")
VIEWS = 12


class Split:
    """What the evaluator reads of a prepared split: drawings ("png") or shapes ("points"), with "vector" to embed."""

    def __init__(
        self, name, split, vectors, labels, *, drawings, classes=CLASSES, ids=None, labelled=True
    ):
        self.vectors, self.labels = np.asarray(vectors, np.float32), np.asarray(labels, np.int32)
        self.ids = tuple(ids or (f"{classes[c]}/{i}" for i, c in enumerate(self.labels)))
        self.name, self.version, self.split, self.class_names = name, "1.0.0", split, classes
        self.features = ("drawing" if drawings else "points", "id", "label", "vector")
        self.drawings = drawings
        self.manifest = {"up_axis": "z", **({} if labelled else {"labelled": False})}

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, row):
        label = int(self.labels[row])
        record = {"id": self.ids[row], "label": label, "vector": self.vectors[row]}
        if self.drawings:
            return {**record, "png": np.frombuffer(sketches.encode(drawing(label)), np.uint8)}
        angle = np.linspace(0, 2 * np.pi, 40 * (label + 1), endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle), 0.2 * np.sin((label + 1) * angle)], axis=1)
        return {**record, "points": ring.astype(np.float32)}


def drawing(label):
    """A polygon with label + 3 corners."""
    image = PIL.Image.new("L", (sketches.SKETCH_SIZE,) * 2, 255)
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
    shapes = Split("toys/shapes", "test", *clusters(items, 1, **kwargs), drawings=False)
    drawn = Split("toys/sketches", "test", *clusters(queries, 2, **kwargs), drawings=True)
    return shapes, drawn
