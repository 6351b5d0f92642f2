"""Item, Input and Model hold for everything that is to stand on them, with seven small fakes.

Points, views, a drawing, a photo of any size, a text (outside the package), a field that is fitted
to meshes, and a model of two towers with prototypes: keyed, loaded in a spawned worker, batched,
restored by subset, embedded.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import pickle
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from inputs.outside import Letters

from jax3dret.core import checkpoint
from jax3dret.core.types import ConfigError, DataError, Loaded, Model, TrainState
from jax3dret.inputs import batching, choose, describe, loading
from jax3dret.inputs.batching import stack
from jax3dret.inputs.drawing import Drawing
from jax3dret.inputs.item import Item
from jax3dret.inputs.points import Points
from jax3dret.inputs.views import Views


@dataclasses.dataclass(frozen=True)
class Photo:
    """Pixels of any size: pictures of one size go into one batch."""

    longest: int = 8
    accepts: ClassVar[tuple] = ("image",)
    version: ClassVar[int] = 1

    def row(self, loaded, rng):
        image = loaded.value.decoded("RGB").convert("RGB")
        image.thumbnail((self.longest, self.longest))
        return {"photo": np.asarray(image)}

    def batch(self, rows):
        return stack(rows)


@dataclasses.dataclass(frozen=True)
class Field:
    """A sphere fitted to a mesh on the device, several at a time; or a field that is one already."""

    accepts: ClassVar[tuple] = ("field", "mesh")
    version: ClassVar[int] = 1

    def lift(self, objects):
        radii = jnp.stack([jnp.abs(jnp.asarray(o.value.vertices)).max() for o in objects])
        return [
            Loaded("field", {"radius": float(radius)}, each.name)
            for each, radius in zip(objects, radii, strict=True)
        ]

    def row(self, loaded, rng):
        assert loaded.kind == "field"
        return {"radius": np.float32([loaded.value["radius"]])}

    def batch(self, rows):
        return stack(rows)


def embed_letters(variables, batch):
    table = variables["params"]["letters"]["table"]
    weights = 1.0 - batch["spare"][..., None]
    return (table[batch["letters"]] * weights).sum(1) / weights.sum(1)


def two_towers(width=4):
    """A model that compares points with texts through prototypes; training has a projector besides,
    which stays behind.
    """

    def init(key):
        first, second, third = jax.random.split(key, 3)
        return {
            "params": {
                "points": {"kernel": jax.random.normal(first, (3, width))},
                "letters": {"table": jax.random.normal(second, (3, width))},
                "prototypes": jax.random.normal(third, (5, width)),
            },
            "model_state": {"points": {"mean": jnp.zeros(3)}},
        }

    def embed(variables, batch):
        params, out = variables["params"], {}
        if "points" in batch:
            centred = batch["points"] - variables["model_state"]["points"]["mean"]
            out["shape"] = jnp.tanh(centred @ params["points"]["kernel"]).max(1)
        if "letters" in batch:
            out["text"] = embed_letters(variables, batch)
        return {key: value @ params["prototypes"].T for key, value in out.items()}

    inputs = {"shape": Points(16), "text": Letters()}
    return Model(init, embed, inputs, width=5, distance="cosine", batch_size=4)


FAKES = (Points(16), Views("ring4", 16), Drawing(32), Photo(), Letters(), Field())


def tetrahedron(path, scale=1.0):
    vertices = scale * np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0.2, 0.3, 1]])
    faces = [[1, 3, 2], [1, 2, 4], [2, 3, 4], [3, 1, 4]]
    lines = ["v {} {} {}".format(*v) for v in vertices] + ["f {} {} {}".format(*f) for f in faces]
    path.write_text("\n".join(lines) + "\n")
    return Item.of(path)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """An item of every kind that one of the fakes reads."""
    folder = tmp_path_factory.mktemp("items")
    cloud = folder / "cloud.xyz"
    np.savetxt(cloud, np.random.default_rng(0).normal(size=(40, 3)))
    picture = np.full((40, 60), 255, np.uint8)
    picture[10:30, 20:23] = 0
    PIL.Image.fromarray(picture).save(folder / "line.png")
    return {
        "mesh": tetrahedron(folder / "mesh.obj"),
        "cloud": Item.of(cloud),
        "image": Item.of(folder / "line.png"),
        "text": Item(text="abca"),
    }


def work(reads, item):
    """What a worker does with one item: all that it is given and gives back is pickled."""
    loaded = loading.load(item)
    if hasattr(reads, "lift"):
        return item.digest(), loaded
    return item.digest(), reads.row(loaded, describe.constant_stream(reads))


def test_every_input_works_in_a_spawned_process_as_here(items):
    pairs = [(r, items[kind]) for r in FAKES for kind in r.accepts if kind in items]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        there = [future.result() for future in [pool.submit(work, *pair) for pair in pairs]]
    for (reads, item), (digest, row) in zip(pairs, there, strict=True):
        assert digest == item.digest()
        here = work(reads, item)[1]
        if hasattr(reads, "lift"):
            [here], [row] = reads.lift([here]), reads.lift([row])
            assert here.value == row.value and here.name == item.path
            continue
        assert here.keys() == row.keys()
        assert all(np.array_equal(here[name], row[name]) for name in here)


@pytest.mark.parametrize("reads", FAKES, ids=lambda r: type(r).__name__)
def test_an_input_is_described_and_restored(reads):
    described = describe.describe(reads)
    again = describe.restore(described, where="meta", foreign=True)
    assert again == reads and describe.identity(again) == describe.identity(reads)
    assert pickle.loads(pickle.dumps(reads)) == reads


def test_what_a_description_may_not_hold():
    for changes, message in (
        ({"version": 1}, "version 1 of the input jax3dret.inputs.points:Points, this is 2"),
        ({"name": "jax3dret.inputs.points:Point"}, "did you mean 'Points'"),
        ({"name": "inputs.outside:Letters"}, "code outside jax3dret.*--weights"),
        ({"num_point": 3}, "takes no 'num_point'; did you mean 'num_points'"),
    ):
        with pytest.raises(ConfigError, match=message):
            describe.restore(describe.describe(Points(16)) | changes, where="meta")
    identities = {describe.identity(r) for r in (*FAKES, Points(17), Views("ring6", 16))}
    assert len(identities) == len(FAKES) + 2


def test_an_items_digest_is_of_its_content(items, tmp_path):
    mesh = items["mesh"]
    copy = tetrahedron(tmp_path / "renamed.obj")
    assert copy.digest() == mesh.digest() != tetrahedron(tmp_path / "b.obj", 2.0).digest()
    different = (
        mesh,
        Item.of(mesh.path, "y"),
        dataclasses.replace(mesh, unit="mm"),
        Item(text="abca"),
        Item(text="abcb"),
        Item(array=np.zeros((4, 3))),
        Item(array=np.zeros((4, 3), np.float32)),
        Item(array=np.zeros((3, 4))),
    )
    assert len({item.digest() for item in different}) == len(different)
    assert Item.of(mesh.path, "z").digest() == mesh.digest()  # as the format has it
    for wrong in ({}, {"path": "a", "text": "b"}, {"text": "b", "up_axis": "x"}):
        with pytest.raises(ConfigError):
            Item(**wrong)
    with pytest.raises(DataError, match="is not a file"):
        Item.of(tmp_path).digest()


def test_rows_of_one_object_do_not_depend_on_its_file(items, tmp_path):
    # The same vertices and faces in another format: the stream is the input's, not the file's.
    vertices = loading.load(items["mesh"]).value
    off = tmp_path / "same.off"
    lines = ["OFF", f"{len(vertices.vertices)} {len(vertices.faces)} 0"]
    lines += [" ".join(map(repr, v)) for v in vertices.vertices.tolist()]
    lines += ["3 " + " ".join(map(str, f)) for f in vertices.faces.tolist()]
    off.write_text("\n".join(lines) + "\n")
    rows = [work(Points(16), item)[1]["points"] for item in (items["mesh"], Item.of(off))]
    assert np.array_equal(*rows)
    turned = work(Points(16), Item.of(off, "y"))[1]["points"]
    assert not np.array_equal(turned, rows[0])
    assert np.linalg.norm(rows[0], axis=1).max() <= 1 + 1e-6


def test_batches_hold_every_row_once_and_few_shapes():
    rng = np.random.default_rng(0)
    sizes = [(8, 6), (8, 8), (8, 6), (6, 8), (8, 6), (8, 6), (8, 6)]
    rows = [{"photo": rng.integers(0, 255, (*size, 3), np.uint8)} for size in sizes]
    groups = list(batching.batches(Photo(), rows, 4))
    assert [group.places for group in groups] == [[0, 2, 4, 5], [6], [1], [3]]
    assert [group.batch["photo"].shape[0] for group in groups] == [4, 1, 1, 1]
    for group in groups:
        for place, row in zip(group.places, group.batch["photo"], strict=False):
            assert np.array_equal(row, rows[place]["photo"])
    three = list(batching.batches(Photo(), [rows[0]] * 3, 16))
    assert [len(group.batch["photo"]) for group in three] == [4]  # filled to a power of two
    assert list(batching.batches(Photo(), [], 4)) == []
    texts = [{"letters": np.arange(n, dtype=np.int32) % 3} for n in (2, 20, 5, 3)]
    padded = list(batching.batches(Letters(), texts, 8))
    assert [(g.places, g.batch["letters"].shape) for g in padded] == [
        ([0, 2, 3], (4, 5)),
        ([1], (1, 20)),
    ]

    class Drops(Photo):
        def batch(self, rows):
            return {"photo": np.stack([row["photo"] for row in rows[1:]])}

    with pytest.raises(DataError, match="'photo' has 3 rows, expected 4"):
        list(batching.batches(Drops(), [rows[0]] * 4, 4))


def test_a_model_is_restored_by_subset_and_embeds(items, tmp_path):
    model = two_towers()
    made = model.init(jax.random.key(0))
    training = {
        "params": {**made["params"], "projector": {"kernel": jnp.ones((4, 9))}},
        "model_state": {**made["model_state"], "projector": {"mean": jnp.ones(9)}},
    }
    saved = checkpoint.Checkpoints(tmp_path, keep=1)
    saved.save(TrainState(jnp.int32(7), **training, opt_state={"m": jnp.zeros(2)}), None, {})
    saved.close()
    opened = checkpoint.Checkpoints(tmp_path)
    wanted = jax.eval_shape(model.init, jax.random.key(1))
    found = opened.restore_subset(wanted)
    assert jax.tree.structure(found) == jax.tree.structure(made)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, found, made)))
    other = {
        **wanted,
        "params": {**wanted["params"], "more": jax.ShapeDtypeStruct((2,), np.float32)},
    }
    with pytest.raises(ConfigError, match="params/more is absent there and \\(2,\\) here"):
        opened.restore_subset(other)
    opened.close()

    embed = jax.jit(model.embed)
    for modality, kind in (("shape", "mesh"), ("text", "text")):
        reads = model.inputs[choose.choose(model.inputs, kind, name="x")]
        row = work(reads, items[kind])[1]
        [group] = batching.batches(reads, [row] * 3, model.batch_size)
        out = embed(found, group.batch)
        assert out.keys() == {modality} and out[modality].shape == (4, model.width)


def test_which_input_reads_a_file():
    both = {"sketch": Drawing(32), "image": Photo()}
    assert choose.choose(both, "image", name="a.png", modality="image") == "image"
    with pytest.raises(ConfigError, match="as sketch and as image; say which, --as sketch or --as"):
        choose.choose(both, "image", name="a.png")
    with pytest.raises(
        ConfigError, match=r"a.obj: a mesh, which .* it reads sketch: image \(.bmp "
    ):
        choose.choose(both, "mesh", name="a.obj")
    with pytest.raises(ConfigError, match="did you mean 'sketch'"):
        choose.choose(both, "image", name="a.png", modality="sketsh")
    with pytest.raises(ConfigError, match="a.obj: cannot be read as sketch"):
        choose.choose(both, "mesh", name="a.obj", modality="sketch")
    with pytest.raises(ConfigError, match="a.docx: a file of another kind; it reads sketch"):
        choose.choose(both, loading.kind_of(Item.of("a.docx")), name="a.docx")
