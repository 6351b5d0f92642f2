"""Settings that a table's command gives to all of its rows, or to those that a pattern finds.

`config.every_row` holds "KEY=VALUE", for every row, and pairs of a regular expression and such a
setting, for the rows, and the runs that they start from, whose names it finds. A run whose config
has no such key goes without it, and the table says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError, UnknownKey

log = logging.getLogger("jax3dret")
# Settings that change no result.
_HARMLESS = (
    "data.num_threads",
    "eval.every",
    "eval.batch_size",
    "eval.seeds",
    "checkpoint.every",
    "checkpoint.keep",
    "log.",
    "mesh.",
)


class Setting(NamedTuple):
    """pattern: finds run names; empty: all of them."""

    pattern: str
    key: str
    value: str

    @property
    def text(self) -> str:
        """As it was given."""
        return f"{self.key}={self.value}"

    @property
    def is_harmless(self) -> bool:
        """Whether it changes how a run is computed and not what comes out."""
        return self.key.startswith(_HARMLESS) or configs.is_recomputing(self.key)

    def finds(self, name: str) -> bool:
        return re.search(self.pattern, name) is not None


class Applied(NamedTuple):
    """What of the settings a run takes, and what its config has no key for, each with why."""

    taken: tuple[Setting, ...] = ()
    unknown: tuple[tuple[Setting, UnknownKey], ...] = ()


def read(entries: Iterable[Any]) -> list[Setting]:
    """The settings of config.every_row. Raises ConfigError for what is none."""
    pairs = [("", entry) if isinstance(entry, str) else entry for entry in entries]
    configs.check_rules(pairs, where="config.every_row")
    return [Setting(pattern, *key_and_value(text)) for pattern, text in pairs]


def key_and_value(text: Any) -> tuple[str, str]:
    """Of "KEY=VALUE". Raises ConfigError for what is not of this form."""
    key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals or not key:
        raise ConfigError(f"config.every_row: '{text}' is not of the form KEY=VALUE")
    return key, value


def apply(
    every: Sequence[Setting], name: str, spec: str, settings: Sequence[tuple[str, str]]
) -> Applied:
    """Those of `every` that the run `name` takes after its own settings.

    Raises ConfigError for a value that its config does not take.
    """
    wanted = [setting for setting in every if setting.finds(name)]
    given = list(settings)
    try:
        configs.load(spec, [*given, *((s.key, s.value) for s in wanted)])
    except UnknownKey:
        pass
    else:
        return Applied(tuple(wanted))
    configs.load(spec, given)  # what its own settings lack is no matter of this file
    taken: list[Setting] = []
    unknown: list[tuple[Setting, UnknownKey]] = []
    for setting in wanted:
        try:
            configs.load(spec, [*given, (setting.key, setting.value)])
        except UnknownKey as error:
            unknown.append((setting, error))
        else:
            given.append((setting.key, setting.value))
            taken.append(setting)
    return Applied(tuple(taken), tuple(unknown))


def check(every: Sequence[Setting], applied: Sequence[tuple[str, Applied]]) -> None:
    """Says which runs go without a setting. applied: of every run by name.

    Raises ConfigError for a setting that no run takes.
    """
    for setting in every:
        found = [name for name, _ in applied if setting.finds(name)]
        if not found:
            raise ConfigError(
                f"config.every_row: '{setting.pattern}' finds none of the rows: "
                f"{', '.join(dict.fromkeys(name for name, _ in applied))}"
            )
        lacking = {name: error for name, a in applied for s, error in a.unknown if s == setting}
        if not lacking:
            continue
        if not any(setting in a.taken for _, a in applied):
            raise ConfigError(
                f"config.every_row: no row takes '{setting.key}'; of {next(iter(lacking))}: "
                f"{next(iter(lacking.values()))}"
            )
        log.warning(
            "config.every_row: %s is no setting of %s, which go without",
            setting.text,
            ", ".join(lacking),
        )


def changes(applied: Iterable[Applied]) -> list[str]:
    """The settings that may have changed the results of a row, each once."""
    return list(dict.fromkeys(s.text for a in applied for s in a.taken if not s.is_harmless))


def notes(applied: Applied) -> list[str]:
    """What a row goes without."""
    return [
        f"Without the setting {s.text}: its config has no such key." for s, _ in applied.unknown
    ]
