"""What an inspected file of weights is, in lines for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax3dret.models.pointbert import PointBert
from jax3dret.models.pointnet2 import PointNet2
from jax3dret.models.pointnext import PointNeXt
from jax3dret.weights.importing import IMAGE_NETWORKS, Inspection, Summary

SHOWN = 6


def text(inspection: Inspection) -> str:
    """One line for each thing that is known, its name first."""
    info, found = inspection.info, inspection.found
    lines = [
        ("file", f"{info.path} ({info.format}, {info.bytes:,} bytes)"),
        ("sha256", info.sha256),
        ("is", f"{found.kind}: {found.title}"),
    ]
    lines += [("note", note) for note in found.notes]
    if found.parameters:
        lines.append(("parameters", f"{found.parameters:,}"))
    if found.embedding_dim:
        latent = (
            f", {found.latent_dim} in the space shared with images and text"
            if found.latent_dim
            else ""
        )
        lines.append(("embedding", f"{found.embedding_dim} wide{latent}"))
    if found.classes:
        lines.append(("classes", str(found.classes)))
    for part in found.parts:
        fields = ", ".join(f"{key}={value}" for key, value in part.fields.items())
        where = f" below '{part.prefix}'" if part.prefix else ""
        lines.append((part.name or "network", f"{_tensors(part.tensors)}{where}: {fields}"))
    lines += [(key.replace("_", " "), str(value)) for key, value in found.preprocessing.items()]
    lines += [("assumed", f"{key}: {rule}") for key, rule in found.rules.items()]
    if info.wrapper or info.prefix:
        lines.append(
            (
                "wrapped in",
                ", ".join([*info.wrapper, *([f"'{info.prefix}'"] if info.prefix else [])]),
            )
        )
    if info.others:
        lines.append(("beside", _some([f"{name} ({what})" for name, what in info.others])))
    if found.unused and found.parts:
        lines.append(("unused", f"{_tensors(found.unused)}: {_some(found.unused)}"))
    fits = f"no: {inspection.problem}" if inspection.problem else "yes, completely"
    return "\n".join(f"{name:14} {value}" for name, value in [*lines, ("can be imported", fits)])


def next_steps(done: Summary) -> str:
    """The commands that take the imported folder."""
    lines = [f"imported into {done.folder}"]
    if done.meta["modality"] == "views":
        config, sections = VIEW_CONFIGS[done.meta["kind"]]
        flags = [f"--config.checkpoint.init_from={done.folder}"]
        for part in done.inspection.found.parts:
            if part.name in sections:
                flags += [
                    f"--config.{sections[part.name]}.{key}={_flag(value)}"
                    for key, value in part.fields.items()
                    if key != "num_classes"
                ]
        flags += ["--config.cnn_normalisation=none"] if done.meta["kind"] == "mvtn" else []
        return "\n".join([*lines, f"  python -m jax3dret.main --config={config} {' '.join(flags)}"])
    if done.meta["modality"] != "shape":
        kind = done.meta.get("kind", "")
        if kind in IMAGE_NETWORKS or kind.startswith("efficientnet_lite"):
            named = f"--config.cnn.name={IMAGE_NETWORKS[kind]} " if kind in IMAGE_NETWORKS else ""
            lines.append(f"  {named}--config.cnn_weights={done.folder}")
        keys = SETTINGS.get(kind, ())
        return "\n".join([*lines, *(f"  --config.{key}={done.folder}" for key in keys)])
    lines.append(f"  jax3dret index FOLDER --out INDEX --weights {done.folder}")
    if done.meta["channels"] == "x y z":  # the published recipes train on positions alone
        file, default = CONFIGS[done.meta["model"]["name"]]
        differs = {
            k: v
            for k, v in done.meta["model"].items()
            if k in FIELDS and _plain(getattr(default, k, v)) != v
        }
        flags = [
            f"--config.checkpoint.init_from={done.folder}",
            "--config.checkpoint.fresh='(\"head/.*\",)'",
        ]
        flags += [f"--config.model.{key}={_flag(value)}" for key, value in differs.items()]
        if done.meta["num_points"] != default_points(file):
            flags.append(f"--config.data.num_points={done.meta['num_points']}")
        lines.append(f"  python -m jax3dret.main --config={file} {' '.join(flags)}")
    return "\n".join(lines)


# Settings of configs that take other imported towers.
SETTINGS = {
    "minilm": ("towers.text_weights",),
    **dict.fromkeys(("clip", "slip"), ("towers.weights", "tower_weights", "prototypes.weights")),
}
# The config that fine-tunes each encoder at its published size, and that size.
CONFIGS = {
    "jax3dret.models.pointbert:PointBert": ("configs/ulip2_classify.py:paper_finetune", PointBert),
    "jax3dret.models.pointnet2:PointNet2": ("configs/pointnet2_classify.py:paper", PointNet2),
    "jax3dret.models.pointnext:PointNeXt": ("configs/pointnext_classify.py:paper", PointNeXt),
}
# The config that goes on from a network of views, and its sections for the parts of such an import.
VIEW_CONFIGS = {
    "viewgcn": ("configs/viewgcn_classify.py:paper", {"gcn": "model"}),
    "mvtn": ("configs/mvtn_classify.py:paper_mvcnn", {"mvtn": "mvtn"}),
}
FIELDS = (
    "trans_dim",
    "depth",
    "num_heads",
    "encoder_dims",
    "group_widths",
    "num_group",
    "group_size",
    "mlp",
    "fc",
    "width",
    "strides",
    "layers",
)


def default_points(config: str) -> int:
    return 8192 if "ulip2" in config else 1024 if "pointnext" in config else 2048


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _flag(value: Any) -> str:
    return f"'{_tuples(value)}'" if isinstance(value, list | tuple) else str(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _tensors(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (
        f", ... ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    )
