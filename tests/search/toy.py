"""A trained workdir and mesh files for the tests of encoders and galleries: no step taken, a very
small model.
"""

import json
import types

import jax
import numpy as np
from fakes import FakeSource

from jax3dret.core import checkpoint
from jax3dret.core import config as configs
from jax3dret.core.types import TrainState
from jax3dret.tasks.mvhgnn import experiment
from jax3dret.tasks.ulip2 import finetune, viewgcn


def config_of_points(**model):
    config = finetune.defaults()
    config.data.num_points = 64
    config.head = {"name": "jax3dret.models.heads:ClassificationHead", "hidden": (8,)}
    config.model = {
        "name": "jax3dret.models.pointbert:PointBert",
        "trans_dim": 24,
        "depth": 1,
        "num_heads": 2,
        "num_group": 8,
        "group_size": 4,
        "encoder_dims": 16,
        "group_widths": (8, 8, 16),
        **model,
    }
    return config


def config_of_sketches(**changes):
    """changes: by dotted key."""
    config = experiment.defaults()
    config.stage = "joint"
    config.sketches.update(name="things_sketches", size=32)
    config.views.update(cameras="ring4", size=24)
    config.cnn = {"name": "jax3dret.models.resnet:ResNet", "stage_sizes": (1,), "width": 8}
    config.model = {
        "name": "jax3dret.models.mvhgnn:MVHGNN",
        "out_dim": 16,
        "selector_hidden": 8,
        "head_hidden": 8,
    }
    config.tower = {
        "name": "jax3dret.models.sketch_tower:SmallViT",
        "image_size": 32,
        "patch_size": 8,
        "width": 16,
        "depth": 1,
        "num_heads": 2,
        "embedding_dim": 16,
    }
    config.update_from_flattened_dict(changes)
    return config


def config_of_views(**changes):
    """View-GCN on six views of a small CNN that is trained with it."""
    config = viewgcn.defaults()
    config.views.update(cameras="ring6", size=16)
    config.cnn = {"name": "jax3dret.models.resnet:ResNet", "stage_sizes": (1,), "width": 8}
    config.model = {
        "name": "jax3dret.models.viewgcn:ViewGCN",
        "width": 16,
        "sampled": (4, 2),
        "k": 3,
    }
    config.update_from_flattened_dict(changes)
    return config


def recipe_of_points(*, batch, objective="classification"):
    config = config_of_points()
    config.objective = objective
    if objective == "two_view":
        config.head = {"name": "jax3dret.models.heads:VicregProjector", "widths": (16, 16)}
        config.loss = {"name": "jax3dret.losses.vicreg:vicreg"}
    return _recipe(finetune, config, batch, steps=4)[1]


def recipe_of_sketches(*, batch):
    return _recipe(experiment, config_of_sketches(), batch, steps=4)[1]


def make_workdir(folder, seed=0, **model):
    """Writes what a finished run on points leaves, with the weights it would have begun with."""
    embed = _write(folder, finetune, config_of_points(**model), seed)
    return types.SimpleNamespace(
        path=folder, embed=lambda points: embed({"points": points})["shape"]
    )


def make_sketch_workdir(folder, seed=0, **changes):
    """Likewise of a run on rendered views and drawings. `embed` takes a batch of both."""
    embed = _write(folder, experiment, config_of_sketches(**changes), seed)
    return types.SimpleNamespace(path=folder, embed=embed)


def make_view_workdir(folder, seed=0, **changes):
    """Likewise of View-GCN. `embed` takes a batch of "views"."""
    embed = _write(folder, viewgcn, config_of_views(**changes), seed)
    return types.SimpleNamespace(path=folder, embed=lambda views: embed({"views": views})["shape"])


def _recipe(task, config, batch, *, steps, seed=0):
    config.data.name = "things"
    config.data.data_dir = "/somewhere/private"
    config.seed = seed
    config.train.update(steps=steps, batch_size=batch)
    frozen = configs.Config(config.to_dict())
    return frozen, task.make(
        frozen,
        lambda split, name=None: FakeSource(items=48, name="things", class_names=("cube", "cone")),
    )


def _write(folder, task, config, seed):
    """Writes the workdir and returns what its evaluation would embed a batch with."""
    frozen, recipe = _recipe(task, config, 4, steps=0, seed=seed)
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in recipe.example.items()
    }
    abstract = jax.eval_shape(recipe.task.init, jax.random.key(0), batch)
    rng = np.random.default_rng(seed)

    # Drawn and not initialised: nothing to compile. Vectors are positive, as variances must be.
    def draw(leaf):
        signs = 1 if leaf.ndim < 2 else rng.choice([-1, 1], leaf.shape)
        return (rng.uniform(0.02, 0.3, leaf.shape) * signs).astype(leaf.dtype)

    params, model_state = jax.tree.map(draw, abstract)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(configs.dump(frozen))
    manifest = {
        "name": "things",
        "version": "1.0.0",
        "up_axis": "z",
        "class_names": ["cube", "cone"],
    }
    (folder / "manifest.json").write_text(
        json.dumps({**manifest, "splits": {"train": {"items": 48}}})
    )
    state = TrainState(
        np.zeros((), np.int32), params, model_state, {"count": np.zeros((), np.int32)}
    )
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    checkpoints.save(state, None, {**recipe.meta, "step": 0, "train_s": 0.0})
    checkpoints.wait()
    checkpoints.close()
    return lambda batch: jax.tree.map(
        np.asarray, jax.jit(recipe.task.embed)(params, model_state, batch)
    )


def write_obj(path, vertices, faces):
    lines = ["v {} {} {}".format(*v) for v in vertices] + [
        "f {} {} {}".format(*(i + 1 for i in f)) for f in faces
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def tetrahedron(path, height=1.0, turned=False):
    """A mesh file whose shape is told by `height`; `turned`: y up instead of z."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0.2, 0.3, height]])
    if turned:
        vertices = np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], 1)
    write_obj(path, vertices, [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    return path
