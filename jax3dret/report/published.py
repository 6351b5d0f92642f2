"""Whether a published number may stand beside a measured one, and what differs where it does.

What the numbers were measured on stands in the config that has them:

    config.published = {"row (paper, table)": {"nn_acc": 0.931}}
    config.data.published = {
        "items": {"train": 9843, "test": 2468},   # records of each split; {"all": n}: of all of them
        "points": 16_000,                         # of a stored cloud
        "kinds": ("off", "cached_clouds"),        # `source.kind` of the manifests of such data
        "train": "train",                         # the split that trains
        "gallery": "train", "query": "test",      # the splits that are compared
    }

Whatever is not stated there is not judged, but for the counts that the builder itself knows. Judged
is what was prepared, by the records that the manifest counts, and what was evaluated, by the
protocol: not the files that a list names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax3dret.core import config as configs

# Share of the records of a split that may differ before no published number stands there any more.
_DIFFERING = 0.02
_ALL = "all"
Rows = Mapping[str, Mapping[str, float]]


class Comparison(NamedTuple):
    """rows: the published numbers that stand beside the measured ones. differs: what was measured
    otherwise, a clause each. left_out: why no number stands there; empty if one does."""

    rows: dict[str, dict[str, float]]
    differs: list[str]
    left_out: str = ""


def compare(
    published: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    result: Mapping[str, Any],
    changed: Sequence[str] = (),
) -> Comparison:
    """published: row name -> {metric: value}; a bare {metric: value} counts as one row. config:
    resolved. manifest: of the data set, its splits as counts; empty where nothing is prepared: then
    the numbers stand alone. result: "dataset" and "protocol" of the evaluation. changed: settings
    that are not the config's own, "KEY=VALUE".
    """
    rows = _rows(published)
    if not rows or not manifest:
        return Comparison(rows, [])
    data = config.get("data") or {}
    facts = data.get("published") or {}
    counts, why = _counts(facts, manifest)
    if why:
        return Comparison({}, [], why)
    differs = [
        *counts,
        *_clouds(facts, manifest, data.get("num_points")),
        *_source(facts, manifest),
        *_evaluation(facts, config, result),
    ]
    if changed:
        differs.append(f"settings other than the config's: {', '.join(changed)}")
    return Comparison(rows, differs)


def settings(overrides: Sequence[tuple[str, str]], task: str) -> list[str]:
    """Of the overrides of a command, those that change what is computed, as "KEY=VALUE".

    What names data, weights or a workdir is brought by the user and changes no setting; a seed is
    one of several that are as good.
    """
    module = configs.resolve_module(task, where="config.task")
    places = (*configs.PLACE_KEYS, *getattr(module, "PLACE_KEYS", ()), "seed", "eval.seeds")
    return [f"{key}={value}" for key, value in overrides if not key.startswith(places)]


def _rows(published: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    if published and not any(isinstance(v, Mapping) for v in published.values()):
        published = {"published": published}
    return {str(k): dict(v) for k, v in published.items() if isinstance(v, Mapping) and v}


def _counts(facts: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    """(what differs in the numbers of records, why no number can stand beside these)."""
    splits, source = manifest.get("splits") or {}, manifest.get("source") or {}
    records = {name: int(info["items"]) for name, info in splits.items()}
    expected = facts.get("items") or {}
    if not expected:
        stated = source.get("official_counts") or source.get("published_counts") or {}
        if stated and stated.keys() <= {"train", "val", "test", *records}:
            expected = stated
        elif source.get("complete") is False:
            counted = source.get("counts") or records
            instead = f" instead of {_listed(stated)}" if stated else ""
            return [], f"the prepared data is not the published set ({_listed(counted)}{instead})"
    if expected and not records:
        return ["how many records the data set has is not recorded"], ""
    found = {k: sum(records.values()) if k == _ALL else records.get(k, 0) for k in expected}
    wrong = {k: n for k, n in expected.items() if found[k] != n}
    if any(abs(found[k] - n) > _DIFFERING * n for k, n in wrong.items()):
        why = "the prepared data is not the published set"
        return [], f"{why} ({_listed(found)} instead of {_listed(expected)})"
    return [
        f"{found[k]:,} records {'in all' if k == _ALL else f'in {k}'} instead of {n:,}"
        for k, n in wrong.items()
    ], ""


def _clouds(facts: Mapping[str, Any], manifest: Mapping[str, Any], drawn: int | None) -> list[str]:
    """What differs in the points of a cloud. drawn: how many the network sees."""
    wanted = facts.get("points")
    if not wanted:
        return []
    sizes = [info.get("points") for info in (manifest.get("splits") or {}).values()]
    if not sizes or not all(sizes):
        return ["how many points its clouds have is not recorded; prepared again, it is"]
    least, most = min(s[0] for s in sizes), max(s[1] for s in sizes)
    if (least, most) == (wanted, wanted):
        return []
    have = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    again = f", of which {drawn:,} are drawn with replacement" if drawn and drawn > least else ""
    return [f"clouds of {have} points{again}, instead of {wanted:,}"]


def _source(facts: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    source = manifest.get("source") or {}
    kinds, kind = facts.get("kinds") or (), source.get("kind")
    found = []
    if kinds and kind not in kinds:
        found.append(f"made from {kind}, instead of {' or '.join(kinds)}")
    if source.get("published_split") is False:
        found.append("its split is not the published one")
    return found


def _evaluation(
    facts: Mapping[str, Any], config: Mapping[str, Any], result: Mapping[str, Any]
) -> list[str]:
    dataset, protocol = result.get("dataset") or {}, result.get("protocol") or {}
    splits = dataset.get("splits")
    splits = splits if isinstance(splits, Mapping) else {}
    training = config.get("train") or {}
    used = {
        "train": training.get("split") if training.get("steps") != 0 else None,
        "gallery": splits.get("gallery"),
        "query": splits.get("query"),
    }
    words = {"train": "trained on", "gallery": "compared with", "query": "queries of"}
    found = [
        f"{words[key]} '{split}' instead of '{facts[key]}'"
        for key, split in used.items()
        if split and facts.get(key) and split != facts[key]
    ]
    if (search := protocol.get("search", "exact")) != "exact":
        found.append(f"an approximate search ({search})")
    return found


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())
