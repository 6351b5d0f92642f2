"""An index of a sketch model: the pictures that its shapes are embedded from, and drawings as
queries.
"""

import json
import logging
import shutil

import numpy as np
import pytest
from fakes import FakeSource
from PIL import Image, ImageDraw
from search.toy import make_sketch_workdir, tetrahedron, write_obj

from jax3dret import cli
from jax3dret.core.types import ConfigError, DataError
from jax3dret.data import sketches
from jax3dret.data.views import build_views, open_views
from jax3dret.geometry.cameras import by_name
from jax3dret.inputs import describe
from jax3dret.inputs.drawing import Drawing
from jax3dret.inputs.item import Item
from jax3dret.inputs.loading import kind_of, load
from jax3dret.inputs.views import Views
from jax3dret.search import encode, gallery
from jax3dret.search.prepare import prepare
from jax3dret.search.query import Gallery, open_gallery

HEIGHTS = (0.3, 1.3, 2.3)


def draw(path, size=(200, 120), *, ink="black", paper="white", mode="RGB"):
    """A picture of two strokes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size, paper)
    pen = ImageDraw.Draw(image)
    pen.line(
        [
            (0.2 * size[0], 0.8 * size[1]),
            (0.5 * size[0], 0.2 * size[1]),
            (0.8 * size[0], 0.8 * size[1]),
        ],
        ink,
        4,
    )
    image.save(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with run/, parts/ and two drawings; the index of the parts lies elsewhere, and the run
    is gone.
    """
    folder = tmp_path_factory.mktemp("sketch")
    run = make_sketch_workdir(folder / "run")
    for i, height in enumerate(HEIGHTS):
        tetrahedron(folder / f"parts/{i}.obj", height=height)
    draw(folder / "parts" / "shown.png")
    np.save(folder / "parts" / "cloud.npy", np.random.default_rng(0).normal(size=(200, 3)))
    draw(folder / "one.png")
    draw(folder / "two.jpg", (90, 300))
    y, x = np.mgrid[:120, :160] / 120
    Image.fromarray(
        (235 - 200 * ((x - 0.6) ** 2 + (y - 0.5) ** 2 < 0.15) * (1 - 0.4 * y)).astype(np.uint8)
    ).save(folder / "photo.jpg")
    done = gallery.build([folder / "parts"], folder / "index", weights=folder / "run")
    assert done == gallery.Summary(items=4, added=4, changed=0, dropped=0, embedded=4, skipped=0)
    shutil.copytree(folder / "index", folder / "elsewhere")
    shutil.rmtree(folder / "index")
    shutil.move(folder / "run", folder / "gone")
    run.path = folder / "gone"
    return folder, run


@pytest.fixture(scope="module")
def opened(made):
    return open_gallery(made[0] / "elsewhere")


def row_of(path):
    reads = Drawing(32)
    return reads.row(load(Item.of(path)), describe.constant_stream(reads))["sketch"]


def jumble(index):
    """A record's mesh: eight faces among twelve points."""
    rng = np.random.default_rng(index)
    faces = np.array([rng.permutation(12)[:3] for _ in range(8)], np.int32)
    return {"vertices": rng.normal(size=(12, 3)).astype(np.float32), "faces": faces}


@pytest.mark.parametrize("up_axis", ["y", "z"])
def test_a_file_gives_the_very_pictures_of_training(tmp_path, up_axis):
    records = FakeSource([0, 0], jumble, ids="ab", path=tmp_path, up_axis=up_axis)
    store = open_views(build_views(records, by_name("ring3"), size=24))
    for i in range(2):
        write_obj(tmp_path / "mesh.obj", records[i]["vertices"].astype(float), records[i]["faces"])
        reads = Views("ring3", 24)
        row = prepare(Item.of(tmp_path / "mesh.obj", up_axis), reads).row
        np.testing.assert_array_equal(row["views"], store.grey(i))
        np.testing.assert_array_equal(reads.batch([row])["views"][0], store[i])
        assert row["views"].shape == (3, 24, 24) and row["views"].dtype == np.uint8
        assert len(np.unique(row["views"])) > 5


def test_a_file_gives_the_very_drawing_of_an_evaluation(made):
    folder, _ = made
    png = sketches.encode(sketches.prepare_drawing(sketches.load_drawing(folder / "two.jpg")))
    record = sketches.Drawing(32)(
        {"id": "two", "png": np.frombuffer(png, np.uint8)}, np.random.default_rng(1)
    )
    row = row_of(folder / "two.jpg")
    np.testing.assert_array_equal(row, record["sketch"])
    assert row.shape == (32, 32) and row.dtype == np.uint8 and row.max() == 255 and row.min() < 128
    grey = sketches.load_drawing(folder / "two.jpg")
    record = {"id": "two", "picture": np.frombuffer(sketches.encode_picture(grey), np.uint8)}
    reads = Drawing(32, "plain")
    plain = reads.row(load(Item.of(folder / "two.jpg")), describe.constant_stream(reads))["sketch"]
    np.testing.assert_array_equal(
        plain, sketches.Drawing(32, prepare="plain")(record, np.random.default_rng(1))["sketch"]
    )
    assert (plain != row).any()
    assert [kind_of(Item.of(p)) for p in ("a/B.PNG", "a.png/b.obj", "png")] == ["image", "mesh", ""]


def test_queries_of_both_kinds_in_one_list(made, opened):
    folder, run = made
    assert opened.index.ids == ["0.obj", "1.obj", "2.obj", "cloud.npy"], (
        "pictures among the parts are no shapes"
    )
    files = [folder / "one.png", folder / "parts" / "1.obj", folder / "two.jpg"]
    answers = list(opened.query(list(map(Item.of, files)), 9))
    assert [answer["query"] for answer in answers] == list(map(str, files))
    best = answers[1]["results"][0]
    assert best["id"] == "1.obj" and best["path"] == str(folder / "parts" / "1.obj")
    assert best["score"] == pytest.approx(1, abs=1e-5) and len(answers[0]["results"]) == 4
    # Both sides are embedded as the run's own evaluation embeds them.
    drawings = np.stack([row_of(file) for file in (files[0], files[2])])
    views = np.stack(
        [
            prepare(Item.of(folder / "parts" / f"{i}.obj"), Views("ring4", 24)).row["views"]
            for i in range(2)
        ]
    )
    found = run.embed({"sketch": drawings, "views": np.repeat(views[..., None], 3, -1)})
    np.testing.assert_allclose(opened.index.vectors[:2], found["shape"], atol=2e-5)
    np.testing.assert_allclose(
        opened.encoder.embed([{"sketch": each} for each in drawings], "sketch"),
        found["sketch"],
        atol=2e-5,
    )
    unit = [
        v / np.linalg.norm(v, axis=-1, keepdims=True)
        for v in (found["sketch"], opened.index.vectors)
    ]
    for answer, expected in zip((answers[0], answers[2]), unit[0] @ unit[1].T, strict=True):
        scores = [result["score"] for result in answer["results"]]
        np.testing.assert_allclose(scores, np.sort(expected)[::-1], atol=2e-5)
    assert not np.allclose(found["sketch"][0], found["sketch"][1], atol=1e-4)
    with pytest.raises(DataError, match=r"sketch: rows with sketch uint8\[2, 16, 16\] do not fit"):
        opened.encoder.embed([{"sketch": each[:16, :16]} for each in drawings], "sketch")


def test_the_copy_holds_all_that_it_needs_and_no_more(made, opened):
    folder, run = made
    own = encode.open_encoder(run.path)
    assert (
        own.identity == opened.encoder.identity
        and own.arrays.keys() == opened.encoder.arrays.keys()
    )
    assert {name.split("/")[1] for name in own.arrays} == {"cnn", "graph", "sketch"}
    (copy,) = (folder / "elsewhere").glob("encoder-*")
    assert sorted(path.name for path in copy.iterdir()) == [
        "config.json",
        "manifest.json",
        "meta.json",
        "model.npz",
    ]
    assert b"private" not in b"".join(path.read_bytes() for path in copy.iterdir())


def test_weights_that_a_run_began_with_are_not_needed(tmp_path, made):
    shutil.copytree(made[1].path, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["cnn_weights"] = config["checkpoint"]["init_from"] = "/private/weights"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    encoder = encode.open_encoder(tmp_path / "run")
    encoder.save(tmp_path / "copy")
    assert "private" not in (tmp_path / "copy" / "config.json").read_text()
    assert encode.load_encoder(tmp_path / "copy").identity == encoder.identity


@pytest.mark.parametrize(
    "changes",
    [
        {"views.size": 32},
        {"views.cameras": "ring4@20"},
        {"tower_normalisation": "imagenet"},
        {"retrieve_with": "p"},
    ],
)
def test_the_identity_tells_preparations_apart(tmp_path, opened, changes):
    other = encode.open_encoder(make_sketch_workdir(tmp_path / "run", **changes).path)
    assert other.identity != opened.encoder.identity


@pytest.mark.parametrize("reads", [Views, Drawing])
def test_the_identity_covers_every_input(made, opened, monkeypatch, reads):
    monkeypatch.setattr(reads, "version", 99)
    assert encode.open_encoder(made[1].path).identity != opened.encoder.identity
    with pytest.raises(
        ConfigError, match=r"input .*, this is 99; build the index again, with --weights WORKDIR"
    ):
        open_gallery(made[0] / "elsewhere")


def test_a_run_that_knows_one_side_only(made, tmp_path):
    folder, _ = made
    first = encode.open_encoder(make_sketch_workdir(tmp_path / "first", stage="shape").path)
    assert first.inputs == {"shape": Views("ring4", 24)}
    assert {name.split("/")[1] for name in first.arrays} == {"cnn", "graph"}
    shown = Gallery(folder / "elsewhere", open_gallery(folder / "elsewhere").index, first)
    with pytest.raises(ConfigError, match=r"one.png: an image, .* reads shape: mesh, cloud \(.3mf"):
        next(shown.query([Item.of(folder / "one.png")], 3))
    alone = make_sketch_workdir(tmp_path / "alone", stage="sketch_alone")
    # What embeds drawings alone makes an index of them.
    done = gallery.build([folder / "parts"], tmp_path / "drawings", weights=alone.path)
    assert done.items == 1
    assert open_gallery(tmp_path / "drawings").index.ids == ["shown.png"]


def test_a_folder_of_drawings_is_indexed_on_request(made, opened, tmp_path):
    folder, run = made
    built = tmp_path / "drawings"
    gallery.build([folder], built, weights=run.path, modality="sketch")
    ids = ["one.png", "parts/shown.png", "photo.jpg", "two.jpg"]
    found = open_gallery(built)
    assert found.index.ids == ids and found.index.meta["gallery"]["modality"] == "sketch"
    answer = next(found.query([Item.of(folder / "two.jpg")], 1))
    assert answer["results"][0]["id"] == "two.jpg"
    again = gallery.build([folder], built)  # what it was made of stays what it is made of
    assert (again.items, again.embedded) == (4, 0)
    with pytest.raises(
        ConfigError, match="--as sketches: the model has no such input; did you mean"
    ):
        gallery.build([folder], tmp_path / "no", weights=run.path, modality="sketches")


def test_a_picture_asked_of_a_model_of_points(trained, made):
    folder, _ = made
    shown = Gallery(
        folder / "x", open_gallery(folder / "elsewhere").index, encode.open_encoder(trained.path)
    )
    with pytest.raises(
        ConfigError, match=r"one.png: an image, which the model does not read; it reads shape"
    ) as error:
        next(shown.query([Item.of(folder / "one.png")], 3))
    assert "\n" not in str(error.value)


def test_drawings_that_cannot_be_used(made, opened, tmp_path):
    folder, _ = made
    (tmp_path / "text.png").write_text("a chair")
    (tmp_path / "lines.svg").write_text("<svg/>")
    with pytest.raises(
        ConfigError,
        match=r"lines.svg: a file of another kind; it reads shape: mesh, cloud .*; sketch: image",
    ):
        next(opened.query([Item.of(tmp_path / "lines.svg")], 3))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nothing.png").touch()
    Image.new("L", (50, 50), 255).save(tmp_path / "empty.png")
    (tmp_path / "cut.png").write_bytes((folder / "one.png").read_bytes()[:100])
    names = ("text", "folder", "nothing", "empty", "cut", "missing")
    for name, reason in zip(names, ("no picture", "", "empty", "one colour", "", ""), strict=True):
        with pytest.raises(DataError) as error:
            # Whatever is wrong is said before the first answer.
            next(opened.query([Item.of(folder / "one.png"), Item.of(tmp_path / f"{name}.png")], 3))
        said = str(error.value)
        assert said.startswith(f"{tmp_path / name}.png: ") and reason in said and "\n" not in said


def test_a_photo_is_answered_with_a_note(made, opened, caplog):
    with caplog.at_level(logging.WARNING, "jax3dret"):
        assert row_of(made[0] / "photo.jpg").shape == (32, 32)
    (note,) = caplog.messages
    assert note.startswith(f"{made[0] / 'photo.jpg'}: ")


def test_the_command(made, capsys, monkeypatch):
    folder, _ = made
    monkeypatch.chdir(folder)
    code = cli.main(["query", "elsewhere", "one.png", "photo.jpg", "-k", "2", "--json"])
    said = capsys.readouterr()
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert code == 0 and [answer["query"] for answer in answers] == ["one.png", "photo.jpg"]
    assert [result["rank"] for result in answers[0]["results"]] == [1, 2]
    assert "photo.jpg: " in said.err and "Traceback" not in said.err
    for words, expected, says in [
        (
            ["elsewhere", "--text", "a chair"],
            2,
            "text 'a chair': a text, which the model does not read; it reads shape",
        ),
        (["elsewhere", "nowhere.png", "--json"], 1, "nowhere.png: cannot be read"),
    ]:
        code = cli.main(["query", *words])
        said = capsys.readouterr()
        assert (code, said.out) == (expected, "") and says in said.err and said.err.count("\n") == 1
