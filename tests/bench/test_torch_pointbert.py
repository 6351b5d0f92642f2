"""The PyTorch baseline computes what the published encoder does, so timing against it is fair."""

import pathlib

import numpy as np
import pytest
from golden_checks.case import Case

torch = pytest.importorskip("torch")


@pytest.fixture
def case(request) -> Case:
    found = sorted(
        pathlib.Path(request.config.getoption("--golden")).rglob("pointbert_eval_*.safetensors")
    )
    if not found:
        pytest.skip("no pointbert_eval case in --golden")
    return Case.load(found[0])


def test_matches_the_published_encoder(case):
    from jax3dret.bench.torch_pointbert import TorchPointBert

    names = (
        "trans_dim",
        "depth",
        "num_heads",
        "num_group",
        "group_size",
        "encoder_dims",
        "drop_path_rate",
    )
    model = TorchPointBert(**{name: case.info["config"][name] for name in names}).eval()
    prefix = "backbone.model."
    weights = {
        k.removeprefix(prefix): torch.from_numpy(v)
        for k, v in case.group("param").items()
        if k.startswith(prefix)
    }
    model.load_state_dict(
        {k: v.reshape(()) if k.endswith("num_batches_tracked") else v for k, v in weights.items()}
    )
    with torch.no_grad():
        embedding = model(torch.from_numpy(case.tensors["in/points"]))
    np.testing.assert_allclose(embedding, case.tensors["out/embedding"], rtol=0, atol=2e-5)
