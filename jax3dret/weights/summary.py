"""What an inspected file of weights is, in lines for a person."""

from __future__ import annotations

from collections.abc import Sequence

from jax3dret.weights.importing import Inspection, Summary

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
        latent = f", {found.latent_dim} in the space shared with images and text" if found.latent_dim else ""
        lines.append(("embedding", f"{found.embedding_dim} wide{latent}"))
    if found.classes:
        lines.append(("classes", str(found.classes)))
    for part in found.parts:
        fields = ", ".join(f"{key}={value}" for key, value in part.fields.items())
        where = f" below '{part.prefix}'" if part.prefix else ""
        lines.append((part.name or "network", f"{len(part.tensors)} tensors{where}: {fields}"))
    lines += [(key.replace("_", " "), str(value)) for key, value in found.preprocessing.items()]
    lines += [("assumed", f"{key}: {rule}") for key, rule in found.rules.items()]
    if info.wrapper or info.prefix:
        lines.append(("wrapped in", ", ".join([*info.wrapper, *([f"'{info.prefix}'"] if info.prefix else [])])))
    if info.others:
        lines.append(("beside", _some([f"{name} ({what})" for name, what in info.others])))
    if found.unused and found.parts:
        lines.append(("unused", f"{len(found.unused)} tensors: {_some(found.unused)}"))
    fits = f"no: {inspection.problem}" if inspection.problem else "yes, completely"
    return "\n".join(f"{name:14} {value}" for name, value in [*lines, ("can be imported", fits)])


def next_steps(done: Summary) -> str:
    """The commands that take the imported folder."""
    lines = [f"imported into {done.folder}"]
    if done.meta["modality"] == "shape":
        lines.append(f"  jax3dret index FOLDER --out INDEX --weights {done.folder}")
        lines.append(
            f"  python -m jax3dret.main --config=configs/ulip2_classify.py:paper_finetune --config.checkpoint.init_from={done.folder}"
        )
    return "\n".join(lines)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names) - SHOWN} more)" if len(names) > SHOWN else "")
