"""Options, markers and process-wide settings of the test run."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Four virtual devices, so that sharding is tested wherever the tests run; an unsharded computation uses the first.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
HERE = pathlib.Path(__file__).parent


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
