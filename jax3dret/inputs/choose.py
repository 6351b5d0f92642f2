"""Which of a model's inputs reads an object."""

from __future__ import annotations

from collections.abc import Mapping

from jax3dret.core.types import ConfigError, Input, nearest
from jax3dret.geometry.mesh_formats import unread
from jax3dret.inputs.loading import extensions_of


def choose(
    inputs: Mapping[str, Input], kind: str, *, name: str, modality: str | None = None
) -> str:
    """The modality whose input reads an object of this kind.

    kind: as `loading.kind_of` says, empty for an unknown one. name: of the object, for messages.
    modality: the one that is asked for; None: the only one that accepts it.

    Raises: ConfigError: no input accepts it, the one asked for does not exist or does not accept
        it, or several do; a file of no known kind.
    """
    if modality is not None:
        if modality not in inputs:
            raise ConfigError(
                f"--as {modality}: the model has no such input{nearest(modality, inputs)}; "
                f"{reads(inputs)}"
            )
        if kind not in inputs[modality].accepts:
            raise ConfigError(f"{name}: cannot be read as {modality}; {reads(inputs)}")
        return modality
    fitting = [key for key, each in inputs.items() if kind in each.accepts]
    if not fitting and not kind:
        known = unread.reason_of(name)
        raise ConfigError(f"{name}: {known or f'a file of another kind; {reads(inputs)}'}")
    if not fitting:
        raise ConfigError(f"{name}: {a(kind)}, which the model does not read; {reads(inputs)}")
    if len(fitting) > 1:
        raise ConfigError(
            f"{name}: the model reads it as {' and as '.join(fitting)}; say which, --as "
            f"{fitting[0]} "
            f"or --as {fitting[1]}"
        )
    return fitting[0]


def a(kind: str) -> str:
    """The kind of an object with its article."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def reads(inputs: Mapping[str, Input]) -> str:
    """In words, for messages: what each input of a model reads, and the files that hold it."""
    parts = []
    for modality, each in inputs.items():
        suffixes = extensions_of(tuple(each.accepts))
        files = f" ({' '.join(suffixes)})" if suffixes else ""
        parts.append(f"{modality}: {', '.join(each.accepts)}{files}")
    return f"it reads {'; '.join(parts)}"
