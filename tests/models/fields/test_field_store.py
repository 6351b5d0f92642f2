"""Folders of INRs: what is listed, what a killed writer leaves, damaged files, a full disk."""

from __future__ import annotations

import errno
import json

import jax
import numpy as np
import pytest
from models.fields.fields_of import small

from jax3dret.core import files, lock
from jax3dret.core.types import ConfigError, DataError
from jax3dret.models.fields import field_store
from jax3dret.models.fields.field import Field
from jax3dret.models.fields.field_file import write_field
from jax3dret.models.fields.field_store import FieldStore, file_of, writing


def field_of(source: str, fit: str = "f1") -> Field:
    architecture = small("siren")
    variables = jax.tree.map(np.asarray, architecture.init(jax.random.key(0)))
    return Field(architecture, "sdf", variables, about={"source": source, "fit": fit})


NAMES = [file_of(source, "siren", "sdf") for source in ("bolt/a.stl", "bolt/a.obj", "nut.stl")]


def fill(folder, names=NAMES):
    with writing(folder) as store:
        for name in names:
            store.add(name, field_of(name.removesuffix(".siren.sdf.safetensors")))
        store.save([])
    return folder


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_listed(tmp_path):
    store = FieldStore(fill(tmp_path / "s"))
    assert [entry.file for entry in store] == sorted(NAMES)
    assert {entry.source for entry in store} == {"bolt/a.stl", "bolt/a.obj", "nut.stl"}
    assert all((e.architecture, e.function, e.fit) == ("siren", "sdf", "f1") for e in store)
    store.check()
    assert store.read(NAMES[0]).about["source"] == "bolt/a.stl"
    assert not [name for name in content(tmp_path / "s") if "lock" in name or "partial" in name]
    with pytest.raises(DataError, match="is not listed in"):
        store.read("other.safetensors")
    # The order of writing leaves no trace.
    assert content(fill(tmp_path / "t", NAMES[::-1])) == content(tmp_path / "s")


def test_a_killed_writer_loses_nothing(tmp_path):
    """What is on the disk after kill -9: files that no manifest lists, and one half written."""
    whole = content(fill(tmp_path / "whole"))
    folder = tmp_path / "s"
    with writing(folder) as store:
        store.add(NAMES[0], field_of("bolt/a.stl"))
    write_field(folder / NAMES[1], field_of("bolt/a.obj"))
    (folder / (NAMES[2] + files.PARTIAL)).write_bytes(b"half")
    (folder / ".lock").write_text("process 1 on nowhere")
    with writing(folder) as store:
        assert store.has(NAMES[0], "f1") and store.has(NAMES[1], "f1")
        assert not store.has(NAMES[1], "f2") and not store.has(NAMES[2], "f1")
        store.add(NAMES[2], field_of("nut.stl"))
    assert content(folder) == whole
    # Even the manifest may go: the files say what they are.
    (folder / "manifest.json").unlink()
    with writing(folder) as store:
        assert all(store.has(name, "f1") for name in NAMES)
    assert content(folder) == whole


def test_missing_and_truncated_files_are_named(tmp_path, caplog):
    folder = fill(tmp_path / "s")
    (folder / NAMES[0]).unlink()
    (folder / NAMES[2]).write_bytes((folder / NAMES[2]).read_bytes()[:-5])
    store = FieldStore(folder)
    assert [entry.file for entry, _ in store.damaged()] == [NAMES[0], NAMES[2]]
    with pytest.raises(DataError, match=r"bolt/a\.stl\.siren.*: is missing, and 1 more files"):
        store.check()
    with pytest.raises(DataError, match="it is cut short"):
        store.read(NAMES[2])
    with writing(folder) as writer:
        assert [writer.has(name, "f1") for name in NAMES] == [False, True, False]
    assert "is missing; it is fitted again" in caplog.text
    assert [entry.file for entry in FieldStore(folder)] == [NAMES[1]]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    folder = fill(tmp_path / "s", NAMES[:2])
    before = content(folder)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "x"))

    with pytest.raises(OSError, match="No space left"), writing(folder) as store:
        monkeypatch.setattr(files, "writing", full)
        store.add(NAMES[2], field_of("nut.stl"))
    assert content(folder) == before


def test_other_folders_and_damaged_manifests(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"other things in it, such as notes.txt"):
        writing(tmp_path / "own").__enter__()
    with pytest.raises(ConfigError, match="is a file"):
        writing(tmp_path / "own" / "notes.txt").__enter__()
    with pytest.raises(ConfigError, match="it is no store of INRs"):
        FieldStore(tmp_path / "own")
    # Without its manifest a store is a store still, whatever its folders are called.
    path = fill(tmp_path / "s") / "manifest.json"
    (path.parent / "evaluated.json").write_text("{}")
    (path.parent / "parts.partial").mkdir()
    described = json.loads(path.read_text())
    for change, says in [
        ({"kind": "x"}, "is of something else"),
        ({"version": 9}, "a store of version 9"),
        ({"fields": {}}, "is damaged"),
        ({"fields": [{"file": "a"}]}, "is damaged"),
        ({"fields": [{**described["fields"][0], "file": "../a"}]}, "is damaged"),
        ({"fields": [{**described["fields"][0], "bytes": "9"}]}, "is damaged"),
    ]:
        path.write_text(json.dumps({**described, **change}))
        with pytest.raises((ConfigError, DataError), match=says):
            FieldStore(path.parent)
        assert field_store.is_store(path.parent) == ("kind" not in change)
    path.unlink()
    with writing(path.parent) as store:
        assert len(store.entries) == len(described["fields"])


def test_one_command_at_a_time(tmp_path):
    folder = fill(tmp_path / "s", NAMES[:1])
    with (
        lock.held(folder),
        pytest.raises(DataError, match="writing there.* give another --out"),
        writing(folder),
    ):
        pass
