"""Files and folders are whole or absent; a failed write names its final path and leaves nothing."""

from __future__ import annotations

import errno
import json
import math
import os
import threading

import numpy as np
import pytest

from data_pipelines.mesh_folder import scan as mesh_scan
from jax3dret import entry
from jax3dret.core import files
from jax3dret.core.types import DataError
from jax3dret.search import scan


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_as_it_is_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "a.txt"
    files.write_text(path, "é\r\nz\n")
    assert path.read_bytes() == b"\xc3\xa9\r\nz\n" and names(path.parent) == ["a.txt"]
    files.write_bytes(path, b"\x00\xff", sync=True)
    assert path.read_bytes() == b"\x00\xff" and names(path.parent) == ["a.txt"]


def test_json_by_the_options_of_its_readers(tmp_path):
    path, value = tmp_path / "a.json", {"b": ["é", 1.5], "a": math.nan}
    files.write_json(path, value)
    assert path.read_bytes() == b'{\n "b": [\n  "\\u00e9",\n  1.5\n ],\n "a": NaN\n}\n'
    files.write_json(path, value, indent=None, sort_keys=True, ensure_ascii=False)
    assert path.read_text("utf-8") == '{"a": NaN, "b": ["é", 1.5]}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, value, allow_nan=False)
    assert path.read_text("utf-8").startswith('{"a"') and names(tmp_path) == ["a.json"]


def test_a_reader_meets_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros(3))
    with files.writing(path) as file:
        np.save(file, np.ones(10_000))
        file.flush()
        assert len(np.load(path)) == 3, "the old one while the new one is written"
    assert np.load(path).sum() == 10_000 and names(tmp_path) == ["rows.npy"]


def test_readers_never_meet_a_part_of_a_file(tmp_path):
    """The adversary: a reader that looks all the time while the file is replaced."""
    path, texts = tmp_path / "a.json", [{"x": [i] * 5_000} for i in range(2)]
    files.write_json(path, texts[0])
    done, seen = threading.Event(), []

    def read():
        while not done.is_set():
            seen.append(json.loads(path.read_text()) in texts)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        files.write_json(path, texts[turn % 2])
    done.set()
    reader.join()
    assert seen and all(seen)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_the_old_file_and_folder(tmp_path, error):
    files.write_text(tmp_path / "a", "old")
    with files.writing_folder(tmp_path / "d") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(type(error)), files.writing(tmp_path / "a") as file:
        file.write(b"new")
        raise error
    with pytest.raises(type(error)), files.writing_folder(tmp_path / "d") as folder:
        (folder / "b").write_text("new")
        raise error
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a", "d"]
    assert names(tmp_path / "d") == ["a"]


def test_a_full_disk_is_one_line_that_names_the_final_path(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text("old")
    (tmp_path / "a.json.partial").symlink_to("/dev/full")
    assert entry.run(lambda: files.write_text(path, "x" * 100_000)) == entry.FAILED
    said = capsys.readouterr().err
    assert said == f"error: {path}: the disk is full; what was complete before is untouched\n"
    assert path.read_text() == "old" and names(tmp_path) == ["a.json"]


def test_what_cannot_take_its_place_names_the_place(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "kept").touch()
    with pytest.raises(OSError) as error:
        files.write_text(tmp_path / "d", "text")
    assert error.value.filename == str(tmp_path / "d") and names(tmp_path) == ["d"]
    (tmp_path / "f").touch()
    with pytest.raises(NotADirectoryError) as error, files.writing_folder(tmp_path / "f"):
        pytest.fail("a file must not become a folder")
    assert error.value.filename == str(tmp_path / "f") and names(tmp_path) == ["d", "f"]


def test_errors_within_a_folder_name_where_the_file_will_be(tmp_path):
    with pytest.raises(OSError) as error, files.writing_folder(tmp_path / "d") as folder:
        (folder / "missing" / "a").write_text("x")
    assert error.value.filename == str(tmp_path / "d" / "missing" / "a")
    with pytest.raises(OSError) as error, files.writing_folder(tmp_path / "d"):
        (tmp_path / "other").read_text()
    assert error.value.filename == str(tmp_path / "other"), "another file keeps its own name"
    assert not names(tmp_path)


def test_a_folder_takes_the_place_of_another_and_of_what_a_killed_process_left(tmp_path):
    folder = tmp_path / "d"
    for left in (folder, tmp_path / "d.partial", tmp_path / "d.old"):
        left.mkdir()
        (left / "stale").touch()
    with files.writing_folder(folder) as beside:
        assert not names(beside) and names(folder) == ["stale"]
        (beside / "new").touch()
    assert names(folder) == ["new"] and names(tmp_path) == ["d"]


def test_an_object_is_read_or_one_line_says_why_not(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match=r"a\.json: not found"):
        files.read_json_object(path)
    for data, why in (
        (b"{", r"not readable as JSON \(.*line 1"),
        (b'"\xff"', "not readable as JSON"),
        (b"", "not readable as JSON"),
        (b"[1]", "holds a list; it must be a JSON object"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=why) as error:
            files.read_json_object(path)
        assert str(error.value).startswith(f"{path}: ")
    with pytest.raises(DataError, match="cannot be read .is a directory."):
        files.read_json_object(tmp_path)
    path.write_text('{"é": 1}', encoding="utf-8")
    assert files.read_json_object(path) == {"é": 1}


def test_files_that_only_point_to_their_content():
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 87\n"
    said = ("a Git LFS pointer, not the file it stands for", "run `git lfs pull` in its repository")
    assert files.pointer(lfs) == files.pointer(lfs[:32]) == said
    assert files.pointer(b"version https://hawser.github.com/spec/v1\n") == said
    what, right = files.pointer(b"/annex/objects/SHA256E-s9--00.ply\n") or ("", "")
    assert what.startswith("a git-annex pointer") and "git annex get" in right
    for other in (b"", b"version 1", b" " + lfs, b"# " + lfs, b"ply\n", b"\0" * 64):
        assert files.pointer(other) is None


@pytest.mark.parametrize("refused", ["scandir", "lstat"])
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch, refused):
    (tmp_path / "a.obj").write_text("x")
    files.check_readable(tmp_path)
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    class Listed:
        def __enter__(self):
            return iter([self])

        def __exit__(self, *_):
            return None

        def stat(self, *, follow_symlinks):
            raise denied

    def scandir(_):
        if refused == "scandir":
            raise denied
        return Listed()

    monkeypatch.setattr(os, "scandir", scandir)
    for check in (
        lambda: files.check_readable(tmp_path),
        lambda: scan.check_sources([tmp_path]),
        lambda: mesh_scan.scan(tmp_path),
    ):
        with pytest.raises(DataError, match=r"cannot be read \(permission denied\)") as caught:
            check()
        assert str(caught.value).startswith(str(tmp_path))
