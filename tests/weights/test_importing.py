"""From a file to a folder and back: every number arrives, what does not fit is refused, and the
folder is of use.
"""

import json
import pathlib
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import FakeSource
from weights import kinds
from weights import torch_writer as tw

from jax3dret import cli
from jax3dret.core import checkpoint, train
from jax3dret.core import config as configs
from jax3dret.core.types import ConfigError, DataError
from jax3dret.inputs.points import Points
from jax3dret.models.mvtn import base_views
from jax3dret.models.pointbert import PointBert
from jax3dret.search.encode import open_encoder
from jax3dret.tasks import imported
from jax3dret.tasks.ulip2 import finetune
from jax3dret.tasks.ulip2 import viewgcn as viewgcn_task
from jax3dret.weights import mobilenet, pointbert
from jax3dret.weights.importing import export_state_dict, import_weights, inspect, load_imported
from jax3dret.weights.mvtn import BUFFERS
from jax3dret.weights.summary import next_steps


def small(**more):
    return {**kinds.SMALL, "depth": 1, **more}


def save_npz(path, tensors):
    with path.open("wb") as file:
        np.savez(file, **tensors)
    return path


def entries(table):
    return {entry.name: entry.shape for entry in table}


def script(path, tensors):
    tree: dict = {}
    for name, value in tensors.items():
        *holders, last = name.split(".")
        node = tree
        for holder in holders:
            node = node.setdefault(holder, {})
        node[last] = value

    def module(node):
        return tw.script_module(
            "M", {k: module(v) if isinstance(v, dict) else v for k, v in node.items()}
        )

    return tw.write_script(path, module(tree))


def wrapped(write, wrapper, prefix=""):
    def run(path, tensors):
        return write(
            path, {wrapper: {prefix + name: value for name, value in tensors.items()}, "epoch": 250}
        )

    return run


TEXT = {**kinds.SMALL_PICTURE, **kinds.SMALL_TEXT}
CASES = {
    "ulip_xyz": (
        kinds.ulip(16, **small()),
        wrapped(tw.write_zip, "state_dict", "module."),
        {"logit_scale"},
    ),
    "ulip2_rgb": (
        kinds.ulip(24, **small(channels=6, depth=2)),
        wrapped(tw.write_zip, "state_dict", "module."),
        {"logit_scale"},
    ),
    "ulip_pointnet2": (
        {**kinds.point_net2("point_encoder.", 16), "pc_projection": (16, 12)},
        wrapped(tw.write_older, "state_dict", "module."),
        set(),
    ),
    "pointbert": (kinds.masked(**small()), wrapped(tw.write_older, "base_model", "module."), None),
    "3dor": (kinds.classified(5, 12, **small()), wrapped(tw.write_zip, "state_dict"), set()),
    "pointnet2": (kinds.point_net2(scale=16), tw.write_zip, set()),
    "pointnext": (kinds.point_next(2, 5), wrapped(tw.write_zip, "model"), set()),
    "slip": (kinds.slip(**TEXT), wrapped(tw.write_older, "state_dict", "module."), set()),
    "clip": ({**kinds.clip(**TEXT), "input_resolution": ()}, script, {"input_resolution"}),
    "resnet18": (kinds.res_net18(4, 6), tw.write_zip, set()),
    "vgg16": (kinds.vgg16(32), tw.write_zip, set()),
    "viewgcn": (kinds.view_gcn(16, 3, 2, (4, 2)), tw.write_zip, {"net_2.weight", "net_2.bias"}),
    "mobilenetv2": (entries(mobilenet.entries((4, 4, 4, 4, 8, 8, 8, 8, 16))), save_npz, set()),
}


def make(folder, kind, **change):
    shapes, write, unused = CASES[kind]
    tensors = {**kinds.tensors(shapes), **change}
    return tensors, write(folder / f"{kind}.pt", tensors), unused


@pytest.mark.parametrize("kind", CASES)
def test_import_export_import_is_exact(tmp_path, kind):
    tensors, path, unused = make(tmp_path, kind)
    done = import_weights(path, tmp_path / "out")
    assert done.meta["kind"] == kind and not (tmp_path / "out.partial").exists()
    left = set(done.meta["import"]["unused"])
    assert (
        left == unused
        if unused is not None
        else all("transformer_q.norm" not in name for name in left)
    )
    exported = export_state_dict(tmp_path / "out")
    taken = {k for k in tensors if k not in left and not k.endswith("num_batches_tracked")}
    assert exported.keys() == taken
    for name in taken:
        np.testing.assert_array_equal(exported[name], tensors[name])
        assert exported[name].dtype == np.float32
    again = import_weights(tw.write_zip(tmp_path / "again.pt", exported), tmp_path / "again")
    keys = ("kind", "model", "parameters", "embedding_dim", "latent_dim", "classes")
    assert [again.meta[key] for key in keys] == [done.meta[key] for key in keys]
    for name, value in export_state_dict(tmp_path / "again").items():
        np.testing.assert_array_equal(value, exported[name])


SMALL_CAMERAS = {"views": 3, "features": 6, "widths": (4, 5, 8), "fc": (7, 5)}


def cameras_like(begins, **size):
    """Tensors of learned cameras that start from an arrangement."""
    tensors = kinds.tensors(kinds.mvtn_cameras(**size), seed=1)
    azimuth, height = base_views(begins, size["views"])
    starts = {
        "views_azim": azimuth,
        "views_elev": height,
        "views_dist": np.full(len(azimuth), 2.2, np.float32),
    }
    return {k: starts.get(k.rpartition(".")[2], v) for k, v in tensors.items()}


def test_both_networks_of_an_mvtn_checkpoint(tmp_path):
    cameras, reader = (
        cameras_like("learned_circular", **SMALL_CAMERAS),
        kinds.tensors(kinds.mvtn_reader(2, 4)),
    )
    optimizer = {"state": {0: {"exp_avg": np.ones(3, np.float32)}}}
    saved = {
        "epoch": 3,
        "state_dict": reader,
        "mvtn": cameras,
        "acc": np.array(9.0, np.float32),
        "mvtn_optimizer": optimizer,
    }
    done = import_weights(tw.write_zip(tmp_path / "checkpoint.pt", saved), tmp_path / "out")
    assert (
        done.meta["kind"] == "mvtn"
        and done.meta["classes"] == 4
        and done.meta["embedding_dim"] == 16
    )
    assert done.meta["model"] == {
        "name": "jax3dret.models.mvtn:Mvtn",
        "views": "learned_circular",
        "elevation": 30.0,
        "num_views": 3,
        "distance": 2.2,
        "features": 6,
        "widths": [4, 5, 8],
        "fc": [7, 5],
        "published_logits": True,
    }
    assert done.meta["import"]["unused"] == [] and set(done.meta["import"]["others"]) == {
        "epoch",
        "acc",
        "mvtn_optimizer",
    }
    model = configs.Config({"mvtn": done.meta["model"]}).mvtn.build()
    variables = load_imported(tmp_path / "out")[1]
    made = dict(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 9, 3))))
    assert jax.tree.map(np.shape, variables["params"]["mvtn"]) == jax.tree.map(
        np.shape, made["params"]
    )
    _, rows = checkpoint.match_params({"mvtn": made["batch_stats"]}, variables["batch_stats"])
    assert {
        row.theirs.rpartition("/")[2]
        for row in rows
        if row.status == "unused" and "mvtn" in row.theirs
    } == set(BUFFERS)
    exported = export_state_dict(tmp_path / "out")
    expected = {**reader, **{f"mvtn.{k}": v for k, v in cameras.items()}}
    assert exported.keys() == {k for k in expected if not k.endswith("num_batches_tracked")}
    for name, value in exported.items():
        np.testing.assert_array_equal(value, expected[name])
    again = import_weights(tw.write_zip(tmp_path / "again.pt", exported), tmp_path / "again")
    assert {k: v for k, v in again.meta.items() if k not in ("import", "weights")} == {
        k: v for k, v in done.meta.items() if k not in ("import", "weights")
    }
    lines = next_steps(done)
    assert f"mvtn_classify.py:paper_mvcnn --config.checkpoint.init_from={tmp_path / 'out'}" in lines
    assert (
        "--config.mvtn.views=learned_circular" in lines
        and "--config.mvtn.widths='(4, 5, 8)'" in lines
    )
    given = [word.removeprefix("--config.").partition("=") for word in shlex.split(lines)[-9:]]
    path = pathlib.Path(__file__).parents[2] / "configs" / "mvtn_classify.py"
    config, _ = configs.load(f"{path}:paper_mvcnn", [(key, value) for key, _, value in given])
    assert config.mvtn.build() == model and config.cnn_normalisation == "none"


@pytest.mark.parametrize("views", ["learned_spherical", "learned_direct"])
def test_the_cameras_of_an_mvtn_alone(tmp_path, views):
    size = {**SMALL_CAMERAS, "views": 6, "direct": views == "learned_direct"}
    cameras = cameras_like(views, **size)
    path = tw.write_older(
        tmp_path / "c.pt",
        {"mvtn": cameras, "acc": np.array(9.0, np.float32), "mvtn_optimizer": {"a": np.ones(1)}},
    )
    done = import_weights(path, tmp_path / "out")
    assert done.meta["model"]["views"] == views and "elevation" not in done.meta["model"]
    exported = export_state_dict(tmp_path / "out")
    assert exported.keys() == {k for k in cameras if not k.endswith("num_batches_tracked")}


def test_cameras_of_another_kind_are_refused(tmp_path):
    at = "view_selector.chosen_view_selector."
    good = cameras_like("learned_circular", **SMALL_CAMERAS)
    fixed = {k: v for k, v in good.items() if k.rpartition(".")[2] in BUFFERS}
    for change, says in [
        (
            {f"{at}views_azim": np.zeros(3, np.float32)},
            "its cameras begin at azimuths [0.0, 0.0, 0.0]",
        ),
        ({f"{at}views_dist": np.arange(3, dtype=np.float32)}, "several distances"),
        (
            {f"{at}view_transformer.1.0.weight": np.zeros((9, 9), np.float32)},
            "9 rows; expected 6, azimuth and elevation of 3 views",
        ),
        (
            {"feature_extractor.fe_model.conv1.0.bias": np.zeros(2, np.float32)},
            "conv1.0.bias has shape (2,), not (4,)",
        ),
    ]:
        assert (
            says in inspect(tw.write_zip(tmp_path / "x.pt", {"mvtn": {**good, **change}})).problem
        )
    fixed[f"{at}views_azim"] = base_views("circular", 3)[0]
    assert (
        "its cameras are fixed" in inspect(tw.write_zip(tmp_path / "x.pt", {"mvtn": fixed})).problem
    )
    read = {"state_dict": kinds.tensors(kinds.mvtn_reader(2, 4)), "mvtn": fixed}
    done = import_weights(tw.write_zip(tmp_path / "x.pt", read), tmp_path / "out")
    assert done.meta["model"]["views"] == "circular" and set(
        load_imported(tmp_path / "out")[1]["params"]
    ) == {
        "cnn",
        "head",
    }
    assert export_state_dict(tmp_path / "out").keys() >= {f"mvtn.{k}" for k in fixed}


def test_a_published_view_gcn_is_imported_whole(tmp_path):
    tensors, path, _ = make(tmp_path, "viewgcn")
    done = import_weights(path, tmp_path / "out")
    meta, variables = load_imported(tmp_path / "out")
    assert set(variables["params"]) == set(variables["batch_stats"]) == {"gcn", "cnn"}
    config = viewgcn_task.defaults()
    config.cnn.width, config.model = (
        2,
        {k: v for k, v in meta["model"].items() if k != "num_classes"},
    )
    config.views.size = 32
    three = FakeSource(items=48, name="things", class_names=("a", "b", "c"))
    recipe = viewgcn_task.make(configs.Config(config.to_dict()), lambda split, name=None: three)
    state = train.abstract_state(recipe, 0)
    _, rows = checkpoint.match_params(state.params, variables["params"])
    _, more = checkpoint.match_params(state.model_state, variables["batch_stats"])
    assert {row.status for row in rows + more} == {"loaded"}
    kernel = variables["params"]["cnn"]["layer2_0"]["conv_skip"]["kernel"]
    np.testing.assert_array_equal(
        kernel, tensors["net_1.5.0.downsample.0.weight"].transpose(2, 3, 1, 0)
    )
    assert (
        f"viewgcn_classify.py:paper --config.checkpoint.init_from={tmp_path / 'out'}"
        in next_steps(done)
    )


def test_half_precision_becomes_float32_and_towers_stand_side_by_side(tmp_path):
    tensors = kinds.tensors(kinds.clip(**TEXT), dtype=np.float16)
    import_weights(script(tmp_path / "clip.pt", tensors), tmp_path / "out")
    meta, variables = load_imported(tmp_path / "out")
    assert meta["model"]["vision"]["width"] == 64 and meta["model"]["text"]["vocab_size"] == 20
    assert (
        variables["params"].keys() == {"vision", "text", "logit_scale"}
        and variables["batch_stats"] == {}
    )
    got = variables["params"]["vision"]["projection"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, tensors["visual.proj"].astype(np.float32))


def test_eight_bit_kernels(tmp_path):
    tensors = kinds.tensors(CASES["mobilenetv2"][0])
    for name in [name for name in tensors if name.endswith("/kernel")]:
        kernel = tensors.pop(name)
        tensors[f"{name}_int8"] = np.round(kernel * 100).astype(np.int8)
        tensors[name.replace("/kernel", "/scale")] = np.full(kernel.shape[-1], 0.01, np.float32)
    found = inspect(save_npz(tmp_path / "m.npz", tensors))
    assert found.problem == "" and "8-bit" in found.found.title
    assert found.found.parameters == sum(
        v.size for k, v in tensors.items() if not k.endswith("scale")
    )


def test_the_meta_says_where_it_came_from_and_how_inputs_are_prepared(tmp_path):
    _, path, _ = make(tmp_path, "ulip2_rgb", logit_scale=np.array(4.5, np.float32))
    done = import_weights(path, tmp_path / "out")
    meta = load_imported(tmp_path / "out")[0]
    assert {**done.meta, "step": 0, "train_s": 0.0} == meta and json.loads(
        (tmp_path / "out" / "import.json").read_text()
    ) == done.meta
    assert meta["import"]["file"] == "ulip2_rgb.pt" and len(meta["import"]["sha256"]) == 64
    assert (
        meta["import"]["wrapper"] == ["state_dict"] and meta["import"]["name_prefix"] == "module."
    )
    assert meta["import"]["others"] == {"epoch": "250"} and meta["import"]["unused"] == [
        "logit_scale"
    ]
    assert "64 channels" in meta["import"]["not_told_by_tensors"]["num_heads"]
    assert (meta["num_points"], meta["up_axis"], meta["fps_start"]) == (
        10_000,
        "y",
        "pointnet2_ops",
    )
    assert (
        meta["weights"]
        == "ULIP-2, the rgb generation (6 channels, 2 blocks of width 64), from ulip2_rgb.pt"
    )


def test_an_imported_encoder_embeds_as_the_network_does(tmp_path):
    tensors, path, _ = make(tmp_path, "pointbert")
    import_weights(path, tmp_path / "out")
    encoder = open_encoder(tmp_path / "out")
    points = np.random.default_rng(0).normal(size=(1, 1024, 3)).astype(np.float32) / 3
    # The network's own fields, so that whatever the import left out would show.
    model = PointBert(
        trans_dim=64,
        depth=1,
        num_heads=1,
        encoder_dims=16,
        group_widths=(8, 8, 16),
        num_group=64,
        group_size=32,
        fps_start_eval="pointnet2_ops",
    )
    assert configs.Config({"model": encoder.meta["model"]}).model.build() == model
    own = {name: value for name, value in tensors.items() if name.startswith("transformer_q.")}
    expected = pointbert.from_torch(own, "transformer_q.")
    for name, array in encoder.arrays.items():
        collection, _, *path = name.split("/")
        node = expected[{"params": "params", "model_state": "batch_stats"}[collection]]
        for key in path:
            node = node[key]
        np.testing.assert_array_equal(array, node)
    embedding = encoder.embed([{"points": points[0]}], "shape")
    assert embedding.shape == (1, 128) and np.isfinite(embedding).all() and embedding.std() > 0
    assert encoder.width == 128 and encoder.inputs == {"shape": Points(1024)}


@pytest.mark.parametrize("kind", ["ulip_xyz", "ulip2_rgb", "ulip_pointnet2", "3dor", "pointnet2"])
def test_every_point_encoder_opens(tmp_path, kind):
    _, path, _ = make(tmp_path, kind)
    import_weights(path, tmp_path / "out")
    encoder = open_encoder(tmp_path / "out")
    params = load_imported(tmp_path / "out")[1]["params"]
    assert encoder.inputs["shape"].num_points == encoder.meta["num_points"]
    assert all("encoder" in name for name in encoder.arrays)
    assert encoder.width == encoder.meta["embedding_dim"] and set(params) <= {
        "encoder",
        "projection",
        "head",
    }


def test_a_cloud_without_colours_becomes_grey():
    out = imported.coloured(jnp.ones((1, 2, 3)), 6)
    np.testing.assert_allclose(out, [[[1, 1, 1, 0.4, 0.4, 0.4]] * 2])
    assert (
        imported.coloured(jnp.ones((1, 2, 6)), 6).shape
        == imported.coloured(jnp.ones((1, 2, 6)), 3).shape
        == (1, 2, 6)
    )


def training_params(meta, **model):
    """The parameters of a fine-tuning run, as shapes."""
    config = finetune.defaults()
    config.data.num_points = 8192
    config.train.update(steps=0, batch_size=4)
    config.head = {"name": "jax3dret.models.heads:ClassificationHead", "hidden": (8,)}
    config.model = {**meta["model"], **model}
    recipe = finetune.make(
        configs.Config(config.to_dict()),
        lambda split, name=None: FakeSource(items=48, name="things", class_names=("cube", "cone")),
    )
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in recipe.example.items()
    }
    return jax.eval_shape(recipe.task.init, jax.random.key(0), batch)[0]


def test_a_run_starts_from_it_and_another_generation_is_named(tmp_path):
    _, path, _ = make(tmp_path, "ulip2_rgb")
    import_weights(path, tmp_path / "rgb")
    _, path, _ = make(tmp_path, "ulip_xyz")
    import_weights(path, tmp_path / "xyz")
    (meta, rgb), (meta_xyz, xyz) = load_imported(tmp_path / "rgb"), load_imported(tmp_path / "xyz")
    params = training_params(meta_xyz)
    filled, rows = checkpoint.match_params(params, xyz["params"], fresh=("head/.*",))
    assert {row.status for row in rows if row.ours.startswith("encoder")} == {"loaded"}
    assert [row.theirs for row in rows if row.status == "unused"] == ["projection/kernel"]
    kernel = filled["encoder"]["block0"]["mlp"]["fc1"]["kernel"]
    np.testing.assert_array_equal(
        kernel,
        kinds.tensors(CASES["ulip_xyz"][0])["point_encoder.blocks.blocks.0.mlp.fc1.weight"].T,
    )
    with pytest.raises(
        ConfigError,
        match=r"the rgb generation \(6 channels, 2 blocks of width 64\).*conv1/kernel \(3, 8\) is "
        r"\(6, 8\) there",
    ):
        checkpoint.match_params(
            params,
            rgb["params"],
            fresh=("head/.*",),
            source=f"{tmp_path / 'rgb'} ({meta['weights']})",
        )


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        (
            "ulip_xyz",
            {"point_encoder.extra.weight": np.zeros(3, np.float32)},
            "point_encoder.extra.weight has no place",
        ),
        (
            "ulip_xyz",
            {"point_encoder.norm.bias": np.zeros(7, np.float32)},
            "point_encoder.norm.bias has shape (7,), not (64,)",
        ),
        (
            "ulip_xyz",
            {"point_encoder.norm.bias": np.full(64, np.nan, np.float32)},
            "point_encoder.norm.bias has values that are not finite",
        ),
        (
            "resnet18",
            {"layer2.1.bn1.running_var": np.full(8, np.inf, np.float32)},
            "layer2.1.bn1.running_var has values that are not finite",
        ),
        (
            "3dor",
            {"head.linear1.bias": np.zeros(4, np.float32)},
            "head.linear1.bias has shape (4,), not (5,)",
        ),
        (
            "slip",
            {"visual.norm.weight": np.zeros(3, np.float32)},
            "visual.norm.weight has shape (3,)",
        ),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_is_written(tmp_path, kind, change, says):
    _, path, _ = make(tmp_path, kind, **change)
    with pytest.raises(DataError) as error:
        import_weights(path, tmp_path / "out")
    assert says in str(error.value) and str(error.value).startswith(f"{path}: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    assert says in inspect(path).problem


def test_a_half_of_a_network_names_all_that_is_missing(tmp_path):
    tensors = kinds.tensors(kinds.ulip(16, **small()))
    half = {name: value for name, value in tensors.items() if "blocks.0.mlp" not in name}
    with pytest.raises(DataError) as error:
        import_weights(tw.write_zip(tmp_path / "half.pt", half), tmp_path / "out")
    for part in ("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"):
        assert f"point_encoder.blocks.blocks.0.{part} is missing" in str(error.value)


def test_only_an_import_is_replaced(tmp_path):
    tensors, path, _ = make(tmp_path, "resnet18")
    out = tmp_path / "out"
    import_weights(path, out)
    changed = tw.write_zip(tmp_path / "new.pt", {**tensors, "fc.bias": np.full(6, 9.0, np.float32)})
    import_weights(changed, out)
    assert (load_imported(out)[1]["params"]["fc"]["bias"] == 9).all()
    mine = tmp_path / "mine"
    mine.mkdir()
    import_weights(path, mine)  # empty
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a folder with other things in it"):
        import_weights(path, tmp_path / "run")
    (tmp_path / "run" / "import.json").write_text('{"import": "of another program"}')
    with pytest.raises(ConfigError, match="is a folder with other things in it"):
        import_weights(path, tmp_path / "run")
    (tmp_path / "run" / "import.json").unlink()
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        import_weights(path, path)
    for folder in ("run", "nowhere"):
        with pytest.raises(ConfigError, match=r"not imported weights \(it has no import.json\)"):
            load_imported(tmp_path / folder)
    assert {p.name for p in tmp_path.iterdir()} == {"out", "mine", "run", "new.pt", path.name}


def call(capsys, *words):
    code = cli.main(["weights", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command(tmp_path, capsys):
    _, path, _ = make(tmp_path, "ulip_xyz")
    code, out, err = call(capsys, "inspect", path)
    assert (code, err) == (0, "")
    for line in (
        "is             ulip_xyz: ULIP or ULIP-2, the xyz generation (3 channels, 1 blocks of "
        "width 64)",
        "encoder        37 tensors below 'point_encoder.': in_channels=3, trans_dim=64, depth=1",
        "num points     8192",
        "wrapped in     state_dict, 'module.'",
        "beside         epoch (250)",
        "unused         1 tensor: logit_scale",
        "can be imported yes, completely",
    ):
        assert line in out
    code, out, err = call(capsys, "inspect", path, "--json")
    report = json.loads(out)
    assert (
        (code, err) == (0, "")
        and report["imports"]
        and report["kind"] == "ulip_xyz"
        and report["unused"] == ["logit_scale"]
    )
    assert (
        report["model"]["name"] == "jax3dret.models.pointbert:PointBert"
        and report["file"]["format"] == "PyTorch file (zip)"
    )

    code, out, err = call(capsys, "import", path, "--out", tmp_path / "out")
    assert code == 0 and f"jax3dret index FOLDER --out INDEX --weights {tmp_path / 'out'}" in out
    flags = "--config.model.trans_dim=64 --config.model.depth=1 --config.model.encoder_dims=16 --config.model.group_widths="
    assert f"paper_finetune --config.checkpoint.init_from={tmp_path / 'out'}" in out
    assert f"{flags}'(8, 8, 16)' --config.model.num_heads=1\n" in out
    assert (tmp_path / "out" / "import.json").is_file() and (
        tmp_path / "out" / "config.json"
    ).is_file()


def test_the_command_goes_wrong_in_one_line(tmp_path, capsys):
    _, path, _ = make(tmp_path, "resnet18")
    unknown = tw.write_zip(tmp_path / "unknown.pt", {"w": np.ones(3, np.float32)})
    evil = tw.write_zip(tmp_path / "evil.pt", {"w": tw.call("os.system", "true")})
    (tmp_path / "page.pt").write_text("<html>")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    out = ["--out", tmp_path / "out"]
    for words, expected, says in [
        (["import", path], 2, "the following arguments are required: --out"),
        (["import", path, "--out", tmp_path / "other"], 2, "is a folder with other things in it"),
        (["load", path], 2, "invalid choice: 'load'"),
        (["inspect", tmp_path / "no.pt"], 1, "no.pt: not found"),
        (["inspect", tmp_path / "page.pt"], 1, "page.pt: is a web page"),
        (["inspect", evil, "--json"], 1, "evil.pt: wants to run os.system while loading; refused"),
        (["import", evil, *out], 1, "evil.pt: wants to run os.system while loading; refused"),
        (
            ["import", unknown, *out],
            1,
            "unknown.pt: none of the networks that this project has: its 1 tensors (w)",
        ),
    ]:
        code, said, err = call(capsys, *words)
        assert (code, said) == (expected, "") and says in err and err.count("\n") == 1, (words, err)
    code, said, _ = call(capsys, "inspect", unknown)
    assert code == 0 and "can be imported no: its 1 tensors (w) are of no network" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "ulip"])
def test_full_size(tmp_path, kind):
    tensors = kinds.tensors(kinds.clip() if kind == "clip" else kinds.ulip(), dtype=np.float16)
    path = (
        script(tmp_path / "full.pt", tensors)
        if kind == "clip"
        else tw.write_zip(tmp_path / "full.pt", {"state_dict": tensors})
    )
    import_weights(path, tmp_path / "out")
    exported = export_state_dict(tmp_path / "out")
    assert len(exported) == {"clip": 302, "ulip": 159}[kind]
    for name, value in exported.items():
        np.testing.assert_array_equal(value, tensors[name].astype(np.float32))


def test_the_folder_of_a_run_is_no_import(tmp_path):
    pathlib.Path(tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="jax3dret weights import FILE --out DIR"):
        load_imported(tmp_path)
