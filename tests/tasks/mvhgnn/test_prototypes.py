"""Prototypes: of text through an imported tower, of a table, orthogonal and learned; and how
classes are said.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.text import byte_characters, load_tokenizer
from jax3dret.models.clip import TextTower, VisionTower
from jax3dret.models.sketch_tower import PromptedVisionTower, with_tower
from jax3dret.tasks.mvhgnn import prototypes
from jax3dret.weights import clip
from jax3dret.weights.importing import import_weights, load_imported

NAMES = ("bear_animal", "flying_bird", "tablelamp")
SAID = ("bear", "flying bird", "table lamp")
# The published number of merges, so that the file is read as CLIP's is: of bytes that hardly ever
# stand side by side.
MERGES = 48894
VISION = {"image_size": 8, "patch_size": 4, "width": 64, "depth": 1, "embedding_dim": 6}
TEXT = {
    "vocab_size": 512 + MERGES + 2,
    "context_length": 77,
    "width": 64,
    "depth": 1,
    "embedding_dim": 6,
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(folder of an imported CLIP, its file of merges, our variables)."""
    folder = tmp_path_factory.mktemp("clip")
    rng = np.random.default_rng(0)

    def draw(model, *args):
        shapes = jax.eval_shape(model.init, jax.random.key(0), *args)["params"]
        return jax.tree.map(
            lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.2, shapes
        )

    params = {
        "vision": draw(VisionTower(**VISION), jnp.zeros((1, 8, 8, 3))),
        "text": draw(TextTower(**TEXT), jnp.zeros((1, 77), jnp.int32)),
        "logit_scale": np.float32(2.0),
    }
    save_file(clip.to_torch({"params": params}), folder / "clip.safetensors")
    import_weights(folder / "clip.safetensors", folder / "import")
    characters = byte_characters()
    pairs = [
        f"{characters[a]} {b}{end}"
        for a in range(128, 256)
        for b in characters.values()
        for end in ("", "</w>")
    ]
    (folder / "merges.txt").write_text("\n".join(["header", *pairs]) + "\n", encoding="utf-8")
    return str(folder / "import"), str(folder / "merges.txt"), params


@pytest.fixture(scope="module")
def text(imported):
    """The prototypes of NAMES, and (sentences -> embeddings) of the same tower."""
    weights, merges, params = imported
    tokenizer, tower = load_tokenizer(merges), TextTower(**TEXT)
    apply = jax.jit(
        lambda tokens: tower.apply({"params": jax.tree.map(jnp.asarray, params["text"])}, tokens)
    )

    def embed(sentences):
        return np.stack([apply(tokenizer([sentence]).ids)[0] for sentence in sentences]).astype(
            np.float64
        )

    # The tower is 6 wide, whatever the descriptor is.
    return prototypes.from_clip_text(NAMES, 9, 0, weights=weights, merges=merges), embed


def unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def test_text_ensemble(text):
    found, embed = text
    assert found.name == "CLIP text, 4 templates" and not found.learned
    assert found.vectors.dtype == np.float32 and found.vectors.shape == (3, 6)
    sentences = (
        "a photo of a {}.",
        "a sketch of a {}.",
        "a 3D model of a {}.",
        "a rendering of a {}.",
    )
    assert sentences == prototypes.FOUR
    for name, raw, vector in zip(SAID, NAMES, found.vectors, strict=True):
        rows = embed([sentence.format(name) for sentence in sentences])
        np.testing.assert_allclose(vector, unit(unit(rows).mean(0)), rtol=0, atol=1e-5)
        wrong = {
            "not normalised before the mean": unit(rows.mean(0)),
            "not normalised after it": unit(rows).mean(0),
            "one template": unit(rows[0]),
            "the name as it stands": unit(
                unit(embed([sentence.format(raw) for sentence in sentences])).mean(0)
            ),
        }
        for what, other in wrong.items():
            assert np.abs(other - vector).max() > 1e-4, (what, name)


def test_text_of_one_template_and_own_words(text, imported):
    weights, merges, _ = imported
    _, embed = text
    found = prototypes.from_clip_text(
        ["x1"],
        6,
        0,
        weights=weights,
        merges=merges,
        templates=("one {}",),
        words={"x1": "hex bolt"},
    )
    assert found.name == "CLIP text, template 'one {}'"
    np.testing.assert_allclose(found.vectors, unit(embed(["one hex bolt"])), rtol=0, atol=1e-5)


def test_imported_vision_tower_drops_in(imported):
    weights, _, params = imported
    meta, variables = load_imported(weights)
    tower = PromptedVisionTower(**meta["model"]["vision"], style=meta["kind"])
    started = jax.eval_shape(tower.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    filled = with_tower(started, variables["params"]["vision"])
    assert set(filled) == {"prompts", "tower"} and filled["prompts"].shape == (3, 64)
    assert jax.tree.all(jax.tree.map(np.array_equal, filled["tower"], params["vision"]))


def test_text_refuses(imported):
    weights, merges, _ = imported
    given = {"weights": weights, "merges": merges}
    for names, dim, settings, message in (
        (NAMES, 6, {}, "need imported CLIP weights"),
        (NAMES, 6, {"weights": weights}, r"config\.prototypes\.merges: "),
        (
            NAMES,
            6,
            {**given, "words": {"bar": "x"}},
            r"config\.prototypes\.words: there is no class",
        ),
        (NAMES, 6, {**given, "templates": ("a photo",)}, "one {} for the name"),
        (NAMES, 6, {**given, "templates": ()}, "one {} for the name"),
        (("bear", "bear_animal"), 6, given, "classes bear and bear_animal both read 'bear'"),
        (("Bear", "bear animal"), 6, given, "classes Bear and bear animal both read 'bear'"),
        ((), 6, given, "no classes"),
    ):
        with pytest.raises(ConfigError, match=message):
            prototypes.from_clip_text(names, dim, 0, **settings)


def test_spoken():
    said = {
        "bear_animal": "bear",
        "car_sedan": "sedan car",
        "tablelamp": "table lamp",
        "bookshelf": "bookshelf",
        "flower_with_stem": "flower with stem",
        "pipe_for_smoking": "smoking pipe",
        "person_walking": "walking person",
        "person_sitting": "sitting person",
        "standing_bird": "standing bird",
        "wrist_watch": "wrist watch",
        "ice_cream_cone": "ice cream cone",
        "The Eiffel Tower": "The Eiffel Tower",
    }
    assert {name: prototypes.spoken(name) for name in said} == said
    assert prototypes.spoken("wrist_watch", {"wrist_watch": "watch"}) == "watch"
    for written in ("Wrist Watch", "wrist-watch", "WRIST_WATCH"):
        assert prototypes.spoken(written) == "wrist watch"
        assert prototypes.spoken(written, {"wrist watch": "watch"}) == "watch"


def test_table(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(
        "3 2\nbear 3 4\nflying_bird\t0\t-2\ntable lamp 1e0 0\nother 5 5\nbear 9 9\n",
        encoding="utf-8",
    )
    found = prototypes.from_table(NAMES, 512, 0, path=str(path))
    np.testing.assert_allclose(found.vectors, [[0.6, 0.8], [0, -1], [1, 0]], rtol=1e-6)
    assert (
        found == (found.vectors, False, "table of vectors words.txt")
        and found.vectors.dtype == np.float32
    )


@pytest.mark.parametrize("width", [1, 300, 384])
@pytest.mark.parametrize("header", [False, True])
def test_a_table_has_a_width_of_its_own(tmp_path, width, header):
    rows = np.random.default_rng(0).normal(size=(3, width)).round(4) + np.arange(3)[:, None] + 5
    # The first name holds a blank, and the second is a number.
    lines = [
        f"{n} {' '.join(map(str, r))}" for n, r in zip(("table lamp", "747"), rows, strict=False)
    ]
    text = "\n".join([*([f"2 {width}"] if header else []), *lines])
    (tmp_path / "words.txt").write_text(text + "\n")
    names = ("tablelamp", "747")
    if width == 1:
        with pytest.raises(DataError, match="have the same vector"):
            prototypes.from_table(names, 512, 0, path=str(tmp_path / "words.txt"))
        return
    found = prototypes.from_table(names, 512, 0, path=str(tmp_path / "words.txt")).vectors
    np.testing.assert_allclose(found, unit(rows[:2]), rtol=1e-6)


def test_a_table_is_looked_up_however_a_name_is_written(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("Flying-Bird 1 0\nBEAR 3 4\nTable_Lamp 0 1\nt-shirt 1 1\n", encoding="utf-8")
    names = ("Bear Animal", "flying_bird", "TableLamp", "T shirt")
    found = prototypes.from_table(names, 8, 0, path=str(path)).vectors
    np.testing.assert_allclose(found[:3], [[0.6, 0.8], [1, 0], [0, 1]], rtol=1e-6)
    # What stands there exactly goes before what is only alike.
    path.write_text("Flying-Bird 1 0\nflying bird 0 1\n", encoding="utf-8")
    found = prototypes.from_table(["flying_bird"], 8, 0, path=str(path)).vectors
    np.testing.assert_array_equal(found, [[0, 1]])
    path.write_text("Flying-Bird 1 0\nFLYING_BIRD 0 1\n", encoding="utf-8")
    with pytest.raises(
        DataError, match="flying_bird could be 'Flying-Bird' or 'FLYING_BIRD'; .*prototypes.words"
    ):
        prototypes.from_table(["flying_bird"], 8, 0, path=str(path))
    words = {"Flying Bird": "FLYING_BIRD"}
    found = prototypes.from_table(["flying_bird"], 8, 0, path=str(path), words=words).vectors
    np.testing.assert_array_equal(found, [[0, 1]])
    for given, message in (
        ({"flying_brd": "bird"}, "there is no class 'flying_brd'; did you mean 'flying_bird'"),
        ({"flying_bird": "a", "Flying Bird": "b"}, "'flying_bird' and 'Flying Bird' are one class"),
    ):
        with pytest.raises(ConfigError, match=message):
            prototypes.from_table(["flying_bird"], 8, 0, path=str(path), words=given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("bear 3 4\ntablelamp 1 0\n", "no vector for 1 of 3 classes: flying_bird"),
        ("bear 3 4\ntablelamp 3 4 5\n", "line 2 has 3 numbers; expected a name and 2"),
        ("bear 3 4\ntablelamp 3\n", "line 2 has 1 numbers; expected a name and 2"),
        ("9 3\nbear 3 4\n", "line 2 has 2 numbers; expected a name and 3"),
        (
            "bear 3 4\ntablelamp 1 0\nflying_bird 0 0\n",
            "the vector of flying_bird is zero or not finite",
        ),
        (
            "bear 3 4\ntablelamp nan 0\nflying_bird 0 1\n",
            "the vector of tablelamp is zero or not finite",
        ),
        (
            "bear 3 4\ntablelamp 6 8\nflying_bird 0 1\n",
            "bear_animal and tablelamp have the same vector",
        ),
        ("bear 3 x\n", "line 1 has 0 numbers; expected a name and its numbers"),
        ("bear 3 4\ntablelamp 3 x\n", "cannot be read as a table"),
        (b"\xff\xfe\x00", "cannot be read as a table"),
    ],
)
def test_table_refuses(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        prototypes.from_table(NAMES, 2, 0, path=str(path))


def test_table_must_be_named_and_there(tmp_path):
    with pytest.raises(ConfigError, match="prototypes.path"):
        prototypes.from_table(NAMES, 2, 0)
    with pytest.raises(DataError, match="cannot be read"):
        prototypes.from_table(NAMES, 2, 0, path=str(tmp_path / "absent.txt"))


def test_orthogonal():
    names = [str(i) for i in range(9)]
    found = prototypes.orthogonal(names, 9, 3)
    assert found.name == "orthogonal vectors, without meaning" and not found.learned
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(9), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.vectors, prototypes.orthogonal(names, 9, 3).vectors)
    assert np.abs(found.vectors - prototypes.orthogonal(names, 9, 4).vectors).max() > 0.1
    assert np.abs(found.vectors).max() < 0.999, "the axes themselves would be a special choice"
    assert prototypes.orthogonal(names[:1], 1, 0).vectors.shape == (1, 1)


def test_more_classes_than_dimensions():
    """Orthogonal within each basis, said by name, and refused where nothing is nearly orthogonal."""
    found = prototypes.orthogonal([str(i) for i in range(150)], 100, 0)
    cosine = found.vectors @ found.vectors.T
    for basis in (slice(0, 100), slice(100, 150)):
        part = cosine[basis, basis]
        np.testing.assert_allclose(part, np.eye(len(part)), rtol=0, atol=1e-6)
    largest = (cosine - np.eye(150)).max()
    assert 0.2 < largest < 0.5
    assert (
        found.name.startswith("nearly orthogonal vectors") and f"up to {largest:.2f}" in found.name
    )
    with pytest.raises(ConfigError, match="width is 2, too few for 9 classes"):
        prototypes.orthogonal([str(i) for i in range(9)], 2, 0)
    with pytest.raises(ConfigError, match="0 classes"):
        prototypes.orthogonal([], 2, 0)


def test_learned():
    found = prototypes.learned(["a", "b"], 4, 0)
    assert found.learned and found.name == "learned vectors, from a random orthogonal start"
    np.testing.assert_array_equal(found.vectors, prototypes.orthogonal(["a", "b"], 4, 0).vectors)
