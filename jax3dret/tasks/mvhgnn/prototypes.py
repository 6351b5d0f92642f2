"""One vector for each class, to which sketches and shapes are drawn: of the class's name, of a
table, or of no meaning at all.

The vectors of the paper are CLIP's embeddings of sentences with the class's name (arXiv 2604.18019,
section 3.5.1, equation 9), which put like classes near each other: through them a class without
training shapes can still be found. Orthogonal and learned vectors know nothing of that. Each
function returns the name under which a report must say what was used.

Vectors that come from somewhere keep their own width, 512 of CLIP, 384 or 300 of a table; those
that are made have `dim` numbers.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax3dret.core import rng
from jax3dret.core.files import read_json_object
from jax3dret.core.types import ConfigError, DataError, nearest
from jax3dret.data.matching import folded
from jax3dret.models.clip import prompt_ensemble
from jax3dret.tasks import towers
from jax3dret.weights.importing import MARK

FOUR = ("a photo of a {}.", "a sketch of a {}.", "a 3D model of a {}.", "a rendering of a {}.")
# Names of the SHREC'13 and SHREC'14 classes that are no words; in all others underscores become
# spaces.
WORDS = {
    "bear_animal": "bear",
    "car_sedan": "sedan car",
    "tablelamp": "table lamp",
    "flower_with_stem": "flower with stem",
    "pipe_for_smoking": "smoking pipe",
    "person_walking": "walking person",
    "person_sitting": "sitting person",
    "standing_bird": "standing bird",
    "wrist_watch": "wrist watch",
}
# Beyond it vectors of different classes are no longer called nearly orthogonal.
LARGEST_COSINE = 0.5


class Prototypes(NamedTuple):
    """vectors: float32 [C, dim], rows of length 1 in the order of the class names. learned: whether
    the task is to train them from there. name: what they are, for reports.
    """

    vectors: Float[np.ndarray, "C dim"]
    learned: bool
    name: str


def spoken(class_name: str, words: Mapping[str, str] | None = None) -> str:
    """The class's name as a sentence can hold it; `words` add to and go before WORDS. A name is
    found in them however it is written ("Wrist Watch", "wrist-watch", see `folded`).
    """
    known = {folded(name): said for table in (WORDS, words or {}) for name, said in table.items()}
    return known.get(folded(class_name), " ".join(class_name.replace("_", " ").split()))


def from_clip_text(
    class_names: Sequence[str],
    dim: int,
    seed: int,
    *,
    weights: str = "",
    merges: str = "",
    templates: Sequence[str] = FOUR,
    words: Mapping[str, str] | None = None,
) -> Prototypes:
    """The mean of the class's name in every template, each embedded and at length 1, again at
    length 1.

    weights: a folder of imported CLIP (or SLIP) weights; merges: CLIP's file of merges; words:
    {class name: how to say it}. dim: not used, the text tower has its width.

    Raises: ConfigError: without weights or merges, a template without {}, words for no class, two
        classes that are said alike. DataError: files that cannot be read.
    """
    del dim
    if not weights:
        raise ConfigError(
            "config.prototypes.weights: the text prototypes need imported CLIP weights; without "
            "any, take jax3dret.tasks.mvhgnn.prototypes:orthogonal, :learned or :from_table"
        )
    _check_words(class_names, words)
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise ConfigError(
            f"config.prototypes.templates {tuple(templates)}: each needs one {{}} for the name of "
            "the class"
        )
    names = [spoken(name, words) for name in class_names]
    _check_names(class_names, names)
    meta: dict[str, Any] = read_json_object(pathlib.Path(weights) / MARK)
    section = {"weights": weights, "merges": merges, "latent": 0}
    tower = towers.text_tower({**towers.defaults(), **section}, seed, where="prototypes")
    tokens = tower.tokenize(
        [template.replace("{}", name) for name in names for template in templates]
    ).ids
    # One class after the other: all tokens have one shape, and few rows are held at once.
    rows = [tower.embed(part) for part in np.split(tokens, len(names))]
    vectors = np.asarray(prompt_ensemble(jnp.stack(rows)), np.float32)
    title = meta["kind"].upper()
    said = f"{len(templates)} templates" if len(templates) > 1 else f"template '{templates[0]}'"
    return Prototypes(_unit(vectors, class_names, weights), False, f"{title} text, {said}")


def from_table(
    class_names: Sequence[str],
    dim: int,
    seed: int,
    *,
    path: str = "",
    words: Mapping[str, str] | None = None,
) -> Prototypes:
    """Vectors from a text file, say of word vectors: in each line a name, then numbers, as many as
    in the first, with spaces or tabs between.

    A class is looked up under its own name, then as it is said ("table lamp", see `spoken`), then
    so with underscores, and after that without regard to case, blanks, "_" and "-". A first line of
    two numbers (word2vec: how many, how wide) is no vector. Neither dim nor seed is used: the table
    has its own width, and nothing is drawn.

    Raises: ConfigError: no path, words for no class. DataError: the file cannot be read, its lines
        differ in width, or classes are missing, fit several names of the table, have a vector of
        zeros, of what is no number, or the same vector.
    """
    del dim, seed
    if not path:
        raise ConfigError(
            "config.prototypes.path: the file with a vector for each class is not given"
        )
    _check_words(class_names, words)
    wanted = {folded(key) for name in class_names for key in _keys(name, words)}
    found = _read_table(pathlib.Path(path), wanted)
    places = [_place(path, name, _keys(name, words), found) for name in class_names]
    if missing := [name for name, key in zip(class_names, places, strict=True) if key is None]:
        raise DataError(
            f"{path}: no vector for {len(missing)} of {len(class_names)} classes: "
            f"{', '.join(missing[:8])}"
        )
    vectors = np.stack([found[key] for key in places if key is not None])
    return Prototypes(
        _unit(vectors, class_names, path), False, f"table of vectors {pathlib.Path(path).name}"
    )


def orthogonal(class_names: Sequence[str], dim: int, seed: int) -> Prototypes:
    """Random orthonormal vectors, which know nothing of the classes' meaning.

    More classes than dimensions: one random orthonormal basis after the other, so that a class is
    orthogonal to all but those of other bases; the name then says so, with the largest cosine.

    Raises:
        ConfigError: so few dimensions that two classes have a cosine above 0.5.
    """
    vectors, largest = _bases(len(class_names), dim, seed)
    if len(class_names) <= dim:
        return Prototypes(vectors, False, "orthogonal vectors, without meaning")
    name = f"nearly orthogonal vectors, without meaning ({len(class_names)} in {dim} dimensions, cosines up to {largest:.2f})"
    return Prototypes(vectors, False, name)


def learned(class_names: Sequence[str], dim: int, seed: int) -> Prototypes:
    """The vectors of `orthogonal` as a start: the task trains them."""
    return Prototypes(
        _bases(len(class_names), dim, seed)[0],
        True,
        "learned vectors, from a random orthogonal start",
    )


def _bases(count: int, dim: int, seed: int) -> tuple[Float[np.ndarray, "C dim"], float]:
    """Rows of as many random orthonormal bases as it takes, and the largest cosine between two
    rows.
    """
    if count < 1 or dim < 1:
        raise ConfigError(
            f"prototypes: {count} classes in {dim} dimensions; expected at least one of both"
        )
    generator = rng.host_generator(seed, "prototypes")
    rows: list[np.ndarray] = []
    for _ in range(0, count, dim):
        q, r = np.linalg.qr(generator.normal(size=(dim, dim)))
        rows.extend((q * np.sign(np.diag(r))).T)  # with these signs every basis is equally likely
    vectors = np.stack(rows[:count])
    largest = float((vectors @ vectors.T - np.eye(count)).max())
    if largest > LARGEST_COSINE:
        raise ConfigError(
            f"config.prototype_dim or the descriptor's width is {dim}, too few for {count} "
            "classes: two have a cosine of "
            f"{largest:.2f}; expected {count}"
        )
    return vectors.astype(np.float32), largest


def _unit(
    vectors: Float[np.ndarray, "C dim"], class_names: Sequence[str], source: str
) -> Float[np.ndarray, "C dim"]:
    """Rows of length 1, float32. Raises DataError for rows that have no direction, or the same one
    twice.
    """
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    if bad := [
        name for name, length in zip(class_names, lengths, strict=True) if not 0 < length < np.inf
    ]:
        raise DataError(f"{source}: the vector of {bad[0]} is zero or not finite ({len(bad)} such)")
    unit = (wide / lengths[:, None]).astype(np.float32)
    seen: dict[bytes, str] = {}
    for name, row in zip(class_names, unit, strict=True):
        if (other := seen.setdefault(row.tobytes(), name)) != name:
            raise DataError(
                f"{source}: classes {other} and {name} have the same vector, so nothing tells them "
                "apart"
            )
    return unit


def _check_names(class_names: Sequence[str], names: Sequence[str]) -> None:
    """Raises ConfigError without classes, or where two are said alike: their prototypes would be
    equal.
    """
    if not class_names:
        raise ConfigError("prototypes: no classes; expected at least one")
    seen: dict[str, str] = {}
    for class_name, name in zip(class_names, names, strict=True):
        if (other := seen.setdefault(name.casefold(), class_name)) != class_name:
            raise ConfigError(
                f"prototypes: classes {other} and {class_name} both read '{name}'; set "
                "config.prototypes.words to say one otherwise"
            )


def _check_words(class_names: Sequence[str], words: Mapping[str, str] | None) -> None:
    """Raises ConfigError for words of no class, which would do nothing, and of one class twice."""
    known = {folded(name) for name in class_names}
    seen: dict[str, str] = {}
    for name in words or {}:
        if folded(name) not in known:
            raise ConfigError(
                f"config.prototypes.words: there is no class '{name}'{nearest(name, class_names)}"
            )
        if (other := seen.setdefault(folded(name), name)) != name:
            raise ConfigError(
                f"config.prototypes.words: '{other}' and '{name}' are one class; give one of them"
            )


def _keys(class_name: str, words: Mapping[str, str] | None) -> tuple[str, ...]:
    """Under which a table may hold the class, the first that it has."""
    said = spoken(class_name, words)
    return class_name, said, said.replace(" ", "_")


def _place(
    path: str, class_name: str, keys: Sequence[str], found: Mapping[str, object]
) -> str | None:
    """The name in the table that a class stands under; None if there is none.

    Raises DataError where several names of the table fit, and none of them exactly.
    """
    for key in keys:
        if key in found:
            return key
    for key in keys:
        alike = [name for name in found if folded(name) == folded(key)]
        if len(alike) > 1:
            raise DataError(
                f"{path}: class {class_name} could be {' or '.join(map(repr, alike))}; set "
                "config.prototypes.words to say which"
            )
        if alike:
            return alike[0]
    return None


def _read_table(path: pathlib.Path, wanted: Set[str]) -> dict[str, Float[np.ndarray, " dim"]]:
    """Those lines of the file whose folded name is wanted, the first of equal names."""
    found: dict[str, np.ndarray] = {}
    width = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                fields = line.split()
                if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                    width = int(fields[1])
                if not fields or (number == 1 and width):
                    continue
                width = width or _numbers(fields)
                # A name may hold spaces; the numbers are the last fields.
                name = " ".join(fields[:-width]) if width else ""
                if not name or (len(fields) > width + 1 and _is_number(fields[-width - 1])):
                    raise DataError(
                        f"{path}: line {number} has {_numbers(fields)} numbers; expected a name "
                        f"and {width or 'its numbers'}, as the lines before"
                    )
                if folded(name) in wanted and name not in found:
                    found[name] = np.array([float(field) for field in fields[-width:]])
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table of vectors ({error})") from error
    return found


def _numbers(fields: Sequence[str]) -> int:
    """How many of the last fields are numbers; the first is a name, whatever it is."""
    texts = [place for place, field in enumerate(fields) if not _is_number(field)]
    return len(fields) - 1 - max(texts, default=0)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
