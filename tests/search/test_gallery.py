"""Indexing a folder, again and again, and searching it."""

import json
import os
import shutil

import numpy as np
import pytest
from search.toy import tetrahedron, write_obj

from jax3dret.core.types import ConfigError, DataError
from jax3dret.index.index import Index
from jax3dret.inputs.item import Item
from jax3dret.search import encode, gallery
from jax3dret.search.journal import Journal
from jax3dret.search.prepare import prepare
from jax3dret.search.query import open_gallery


@pytest.fixture(scope="module")
def first(tmp_path_factory, trained):
    """(folder of parts, index): four meshes in two folders, a cloud, a broken file and one of
    another kind.
    """
    parts = tmp_path_factory.mktemp("parts")
    for i, name in enumerate(("a/one.obj", "a/two.obj", "b/three.obj", "b/four.obj")):
        tetrahedron(parts / name, height=0.2 + i)
    np.save(parts / "cloud.npy", np.random.default_rng(0).normal(size=(200, 3)))
    (parts / "b" / "broken.obj").write_text("v 1 2 3\n")
    (parts / "notes.pdf").write_text("x")
    (parts / ".hidden.obj").write_text("x")
    out = parts / "parts.index"  # inside its own source
    summary = gallery.build([parts], out, weights=trained.path)
    assert summary == gallery.Summary(items=5, added=5, changed=0, dropped=0, embedded=5, skipped=1)
    return parts, out


@pytest.fixture(scope="module")
def moved(first, tmp_path_factory):
    """The index in another place, opened."""
    folder = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.copytree(first[1], folder)
    return open_gallery(folder)


@pytest.fixture
def copied(first, tmp_path):
    """A copy of both that a test may change."""
    shutil.copytree(first[0], tmp_path / "parts")
    (tmp_path / "parts" / "parts.index").rename(tmp_path / "index")
    return tmp_path / "parts", tmp_path / "index"


def items(*paths):
    return [Item.of(path) for path in paths]


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "hashes.json"
    }


def test_what_an_index_holds(first):
    parts, out = first
    assert {p.name.split("-")[0] for p in out.iterdir()} == {
        "index.json",
        "data",
        "encoder",
        "skipped.json",
        "hashes.json",
    }
    (skipped,) = json.loads((out / "skipped.json").read_text())
    assert skipped["file"] == "b/broken.obj" and skipped["path"] == str(parts / "b/broken.obj")
    assert "no faces" in skipped["reason"]
    index = Index.load(out)
    assert index.ids == ["a/one.obj", "a/two.obj", "b/four.obj", "b/three.obj", "cloud.npy"]
    assert index.distance == "cosine" and index.meta["model"]["num_points"] == 64


def test_every_item_finds_itself_in_a_moved_index(first, moved):
    parts, _ = first
    answers = list(moved.query(items(*(parts / name for name in moved.index.ids)), k=99))
    for name, answer in zip(moved.index.ids, answers, strict=True):
        assert [r["rank"] for r in answer["results"]] == [1, 2, 3, 4, 5], "k is cut to the size"
        best = answer["results"][0]
        assert (
            best["id"] == name
            and best["path"] == str(parts / name)
            and best["score"] == pytest.approx(1, abs=1e-4)
        )
        assert answer["query"] == str(parts / name)
    scores = [r["score"] for r in answers[0]["results"]]
    assert scores == sorted(scores, reverse=True)


def test_embeddings_are_those_of_the_prepared_points(first, moved, trained):
    parts, _ = first
    row = moved.index.ids.index("cloud.npy")
    points = prepare(Item.of(parts / "cloud.npy"), moved.encoder.inputs["shape"]).row["points"]
    np.testing.assert_allclose(moved.index.vectors[row], trained.embed(points[None])[0], atol=2e-5)


def test_a_second_run_changes_nothing(first, monkeypatch):
    parts, out = first
    before = files(out)
    monkeypatch.setattr(encode.Encoder, "embed", None)
    summary = gallery.build([parts], out)
    assert summary == gallery.Summary(items=5, added=0, changed=0, dropped=0, embedded=0, skipped=1)
    assert files(out) == before


def test_a_run_adds_drops_changes_and_leaves_the_rest(copied, trained):
    parts, out = copied
    tetrahedron(parts / "new.obj", height=9)
    tetrahedron(parts / "a" / "one.obj", height=7)  # changed
    (parts / "a" / "two.obj").unlink()
    (parts / "b" / "three.obj").rename(parts / "b" / "renamed.obj")
    shutil.copy(parts / "b" / "four.obj", parts / "same.obj")  # known content
    (parts / "cloud.npy").write_bytes(b"")  # cannot be read any more
    old = Index.load(out)
    vectors = dict(zip(old.ids, np.array(old.vectors), strict=True))
    summary = gallery.build([parts], out)
    assert summary == gallery.Summary(items=5, added=3, changed=1, dropped=3, embedded=2, skipped=2)
    new = Index.load(out)
    assert new.ids == ["a/one.obj", "b/four.obj", "b/renamed.obj", "new.obj", "same.obj"]
    rows = dict(zip(new.ids, new.vectors, strict=True))
    np.testing.assert_array_equal(rows["b/four.obj"], vectors["b/four.obj"])
    np.testing.assert_array_equal(rows["same.obj"], vectors["b/four.obj"])
    np.testing.assert_array_equal(rows["b/renamed.obj"], vectors["b/three.obj"])
    assert not np.allclose(rows["a/one.obj"], vectors["a/one.obj"], atol=1e-3)
    assert {"b/broken.obj", "cloud.npy"} == {
        s["file"] for s in json.loads((out / "skipped.json").read_text())
    }
    # As a fresh index of the same files would have it.
    gallery.build([parts], out.with_name("fresh"), weights=trained.path)
    fresh = Index.load(out.with_name("fresh"))
    assert fresh.ids == new.ids
    np.testing.assert_allclose(fresh.vectors, new.vectors, atol=2e-5)


def test_a_file_of_the_same_size_and_time_is_read_when_it_was_young(copied):
    parts, out = copied
    path = parts / "a" / "one.obj"
    stamp = path.stat()
    gallery.build([parts], out)
    path.write_text(path.read_text().replace("0.2 0.3 0.2", "0.2 0.3 0.9"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert path.stat().st_size == stamp.st_size
    assert gallery.build([parts], out).changed == 1


def test_a_file_that_was_given_its_old_time_is_read_again(copied):
    parts, out = copied
    path = parts / "a" / "one.obj"
    os.utime(path, ns=(0, 10**18))
    gallery.build([parts], out)
    assert str(path) in json.loads((out / "hashes.json").read_text())["files"]
    path.write_text(path.read_text().replace("0.2 0.3 0.2", "0.2 0.3 0.9"))
    os.utime(path, ns=(0, 10**18))
    assert gallery.build([parts], out).changed == 1


@pytest.mark.parametrize("entry", [3, [], [1, 2], [1, 2, 3, 4], {"a": 1}, None, "whole"])
def test_broken_hashes_are_as_good_as_none(copied, entry):
    parts, out = copied
    path = out / "hashes.json"
    known = json.loads(path.read_text())
    known["files"] = entry if entry == "whole" else {str(parts / "a" / "one.obj"): entry}
    path.write_text(json.dumps(known))
    assert gallery.build([parts], out).embedded == 0


def test_an_interrupted_run_leaves_the_old_index_and_is_gone_on_with(copied, monkeypatch):
    parts, out = copied
    before = files(out)
    for i in range(20):
        tetrahedron(parts / f"more/{i:02}.obj", height=1.5 + i / 7)
    embed, calls = encode.Encoder.embed, []

    def interrupted(self, points, *args):
        calls.append(len(points))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(self, points, *args)

    monkeypatch.setattr(encode.Encoder, "embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gallery.build([parts], out)
    assert files(out).items() > before.items() and len(Index.load(out)) == 5
    monkeypatch.setattr(encode.Encoder, "embed", embed)
    with (out / "embedded.partial.jsonl").open("a") as log:
        log.write("0123")  # the last line was being written
    summary = gallery.build([parts], out)
    assert (summary.added, summary.embedded) == (20, 4), "the first sixteen were kept"
    assert not list(out.glob("*.partial*"))


def test_other_weights_embed_everything_again(copied, trained_again):
    parts, out = copied
    summary = gallery.build([parts], out, weights=trained_again.path)
    assert (summary.embedded, summary.added, summary.changed) == (5, 0, 0)
    assert len(list(out.glob("encoder-*"))) == 1
    assert open_gallery(out).encoder.identity == encode.open_encoder(trained_again.path).identity


def test_the_up_axis_is_remembered_and_queries_follow_it(copied):
    parts, out = copied
    assert gallery.build([parts], out, up_axis="y").embedded == 5
    assert gallery.build([parts], out).embedded == 0
    opened = open_gallery(out)
    (answer,) = opened.query(items(parts / "b" / "four.obj"), 1)
    assert answer["results"][0]["id"] == "b/four.obj" and answer["results"][0][
        "score"
    ] == pytest.approx(1, abs=1e-4)


def test_nothing_to_index_leaves_the_old_index(copied, tmp_path, trained, caplog):
    _, out = copied
    before, hashes = files(out), (out / "hashes.json").read_bytes()
    (tmp_path / "bad").mkdir()
    with pytest.raises(DataError, match="no files that the model reads; supported are .3mf"):
        gallery.build([tmp_path / "bad"], out)
    for name in ("x.stl", "y.stl"):
        (tmp_path / "bad" / name).write_text("solid")
    with pytest.raises(DataError, match=r"none of the 2 files .*x.stl.*; the index is left as it"):
        gallery.build([tmp_path / "bad"], out)
    assert files(out) == before and (out / "hashes.json").read_bytes() == hashes
    assert "y.stl: " in caplog.text
    with pytest.raises(DataError, match=r"none of the 2 files .* all are listed in .*skipped.json"):
        gallery.build([tmp_path / "bad"], tmp_path / "new", weights=trained.path)
    listed = json.loads((tmp_path / "new" / "skipped.json").read_text())
    assert [s["file"] for s in listed] == ["x.stl", "y.stl"]


def test_wrong_commands(first, tmp_path, trained):
    parts, _ = first
    with pytest.raises(ConfigError, match=r"needs --weights WORKDIR.*jax3dret.main"):
        gallery.build([parts], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="nowhere: no such file or folder"):
        gallery.build([tmp_path / "nowhere"], tmp_path / "new", weights=trained.path)
    with pytest.raises(ConfigError, match="other things in it"):
        gallery.build([parts], parts / "a", weights=trained.path)
    with pytest.raises(ConfigError, match=r"would both be 'one.obj'.*one SOURCE"):
        write_obj(tmp_path / "one.obj", np.eye(3), [[0, 1, 2]])
        gallery.build([tmp_path, parts / "a"], tmp_path / "new", weights=trained.path)
    with pytest.raises(ConfigError, match="--jobs=0"):
        gallery.build([parts], tmp_path / "new", weights=trained.path, jobs=0)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"index.json": '{"name": "web", "files": {}}'}, "index.json: was not written by jax3dret"),
        ({"index.json": "[]"}, "index.json: was not written by jax3dret"),
        ({"index.json": "not JSON"}, "index.json: was not written by jax3dret"),
        ({"index.json": "{}", "data-000001/my.txt": "x"}, "was not written by jax3dret"),
        (
            {"index.json": '{"format": 2, "data": "data-000001", "files": {}}'},
            "format 2, of another version of jax3dret",
        ),
        ({"skipped.json": "[]", "photo.png": "x"}, "other things in it, such as photo.png"),
        ({"data-000001/my.txt": "x"}, "other things in it, such as data-000001"),
        ({"embedded.partial.mine": "x"}, "other things in it"),
    ],
)
def test_a_folder_of_another_program_is_left_alone(tmp_path, trained, names, says):
    tetrahedron(tmp_path / "parts" / "a.obj")
    out = tmp_path / "web"
    for name, text in names.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    before = files(out)
    with pytest.raises(ConfigError, match=says):
        gallery.build([tmp_path / "parts"], out, weights=trained.path)
    if "index.json" in names:
        with pytest.raises(ConfigError, match="left alone"):
            Index.build(np.eye(3, dtype=np.float32), ["a", "b", "c"]).save(out)
    assert files(out) == before


def test_what_is_called_like_a_part_of_an_index_stays(copied):
    parts, out = copied
    for name in ("encoder-notes", "data-000007"):
        (out / name).mkdir()
        (out / name / "mine.txt").write_text("x")
    tetrahedron(parts / "new.obj", height=9)
    assert gallery.build([parts], out).added == 1
    assert (out / "encoder-notes/mine.txt").exists() and (out / "data-000007/mine.txt").exists()


def test_an_index_that_cannot_be_opened(copied, trained, trained_again, tmp_path):
    parts, out = copied
    with pytest.raises(DataError, match="is not an index"):
        open_gallery(tmp_path)
    Index.build(np.eye(3, dtype=np.float32), ["a", "b", "c"]).save(tmp_path / "bare")
    with pytest.raises(DataError, match="an index without a model in it"):
        open_gallery(tmp_path / "bare")
    with pytest.raises(DataError, match="an index without a model in it"):
        gallery.build([parts], tmp_path / "bare", weights=trained.path)
    with pytest.raises(ConfigError, match="not the parameters that"):
        open_gallery(out, weights=trained_again.path)
    assert open_gallery(out, weights=trained.path).encoder.inputs["shape"].num_points == 64
    (model,) = out.glob("encoder-*/model.npz")
    whole = model.read_bytes()
    for damaged in (b"", whole[:-200], whole.replace(b"encoder", b"encodex")):
        model.write_bytes(damaged)
        with pytest.raises(DataError, match="build the index again"):
            open_gallery(out)
    model.unlink()
    with pytest.raises(DataError, match=r"model.npz: cannot be read"):
        open_gallery(out)
    assert gallery.build([parts], out, weights=trained.path).embedded == 0
    assert (
        model.read_bytes() == whole and open_gallery(out).encoder.inputs["shape"].num_points == 64
    )


def test_queries_that_cannot_be_answered(first, moved):
    parts, _ = first
    with pytest.raises(DataError, match=r"broken.obj: .*no faces"):
        list(moved.query(items(parts / "a" / "one.obj", parts / "b" / "broken.obj"), 3))
    with pytest.raises(DataError, match=r"nowhere.obj: cannot be read \(no such file"):
        list(moved.query(items(parts / "nowhere.obj"), 3))
    with pytest.raises(DataError, match="is not a file"):
        list(moved.query(items(parts / "a"), 3))
    with pytest.raises(ConfigError, match="k=0"):
        list(moved.query(items(parts / "a" / "one.obj"), 0))


def test_embeddings_of_zeros_are_indexed_rank_last_and_are_said(copied, monkeypatch, caplog):
    parts, out = copied
    tetrahedron(parts / "a" / "lost.obj", height=9.9)
    embed = encode.Encoder.embed
    monkeypatch.setattr(encode.Encoder, "embed", lambda *a: 0 * embed(*a))
    done = gallery.build([parts], out)
    assert (done.items, done.added, done.skipped) == (6, 1, 1)
    assert "embeddings of all zeros: 1 of 6; they have no direction and rank last" in caplog.text
    opened = open_gallery(out)
    (of_zeros,) = opened.query(items(parts / "a" / "one.obj"), 6)
    assert {result["score"] for result in of_zeros["results"]} == {-2.0}
    assert "one.obj: the model's embedding of it is all zeros" in caplog.text
    monkeypatch.undo()
    (answer,) = opened.query(items(parts / "a" / "one.obj"), 6)
    scores = [result["score"] for result in answer["results"]]
    assert scores[0] == pytest.approx(1) and scores[-1] == -2.0 < scores[-2]
    assert answer["results"][-1]["id"] == "a/lost.obj"


def test_a_model_that_embeds_nothing_but_nan_is_reported(first, tmp_path, monkeypatch):
    _, out = first
    shutil.copytree(out, tmp_path / "index")
    tetrahedron(tmp_path / "more" / "x.obj", height=3.3)
    monkeypatch.setattr(
        encode.Encoder, "embed", lambda self, points, *a: np.full((len(points), self.width), np.nan)
    )
    with pytest.raises(DataError, match="embedding of it is not finite"):
        gallery.build([tmp_path / "more"], tmp_path / "index")


def test_two_runs_do_not_write_at_once(tmp_path):
    with (
        Journal(tmp_path, {"a": 1}, 4),
        pytest.raises(DataError, match="another `jax3dret index`"),
    ):
        Journal(tmp_path, {"a": 1}, 4)


def test_the_journal_keeps_whole_entries_of_the_same_header(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    with Journal(tmp_path, {"a": 1}, 4) as journal:
        journal.append(["x", "y"], rows[:2])
        journal.append(["z"], rows[2:])
    with (tmp_path / "embedded.partial.f32").open("r+b") as file:
        file.truncate(4 * 4 * 2 + 5)  # z's row was cut short
    with Journal(tmp_path, {"a": 1}, 4) as journal:
        assert journal.place == {"x": 0, "y": 1}
        journal.append(["w"], rows[2:])
        np.testing.assert_array_equal(journal.rows()[journal.place["w"]], rows[2])
        np.testing.assert_array_equal(journal.rows()[:2], rows[:2])
    with Journal(tmp_path, {"a": 2}, 4) as journal:
        assert not journal.place
    assert not list(tmp_path.iterdir())
