"""Options, markers and process-wide settings of the test run."""

import atexit
import os
import pathlib
import shutil
import tempfile

import jaxtyping
import pytest
from processes_together import FLAGS

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Four virtual devices, so that sharding is tested wherever the tests run; an unsharded computation
# uses the first.
os.environ.setdefault("XLA_FLAGS", f"{FLAGS}4")
# A large program is compiled once, by whichever worker or command needs it first: pytest's workers
# and the commands that tests start inherit this folder. The key of a compiled program is the
# program itself, with its flags, devices and versions. Small ones are not kept: writing one takes
# as long as compiling it. Cleared at the end, unless the caller has named a folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax3dret_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
HERE = pathlib.Path(__file__).parent
# Files whose tests wait for processes of their own: first, so that the end is made of short tests.
FIRST = ("test_devices.py", "test_entry.py")

# With JAX3DRET_CHECK_SIGNATURES=1 every function of the package checks its annotations at each
# call: types, and shapes and dtypes of arrays. Nothing of the package may be imported before this.
if os.environ.get("JAX3DRET_CHECK_SIGNATURES"):
    jaxtyping.install_import_hook(
        "jax3dret", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
    )


def pytest_addoption(parser):
    parser.addoption(
        "--golden", default=str(HERE / "golden"), help="folder of reference cases (*.safetensors)"
    )


def pytest_generate_tests(metafunc):
    if "golden_path" in metafunc.fixturenames:
        root = pathlib.Path(metafunc.config.getoption("--golden"))
        paths = sorted(root.rglob("*.safetensors"))
        if not paths:
            raise ValueError(
                f"--golden={root}: no *.safetensors there; give the folder of the reference cases"
            )
        metafunc.parametrize(
            "golden_path", paths, ids=[str(p.relative_to(root).with_suffix("")) for p in paths]
        )


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture
def unchecked(monkeypatch):
    """For a test that gives what a signature forbids: the package itself must refuse it, as it does
    for a user.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
