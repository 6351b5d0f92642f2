"""The PyTorch baseline computes what the equations say, so timing against it is fair."""

import pathlib

import numpy as np
import pytest
from golden_checks.case import Case

torch = pytest.importorskip("torch")


@pytest.fixture
def case(request) -> Case:
    found = sorted(
        pathlib.Path(request.config.getoption("--golden")).rglob(
            "mvhgnn_encoder_spec_*.safetensors"
        )
    )
    if not found:
        pytest.skip("no mvhgnn_encoder_spec case in --golden")
    return Case.load(found[0])


def test_matches_the_reference_in_value_and_gradient(case):
    from jax3dret.bench.torch_mvhgnn import TorchMVHGNN

    config = case.info["config"]
    model = TorchMVHGNN(
        width=config["d"],
        views=config["views"],
        k=config["k_including_self"],
        selector_hidden=config["selector_hidden"],
        head_hidden=config["d"],
        out_dim=config["out_dim"],
        dropout=0.0,
    ).eval()
    weights = {name: torch.from_numpy(value) for name, value in case.group("param").items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    inputs, out = case.group("in"), case.group("out")
    features, positions = (torch.from_numpy(inputs[name]) for name in ("F", "vertices"))
    features.requires_grad_()
    descriptor = model(features, positions)
    np.testing.assert_allclose(descriptor.detach(), out["feature"], rtol=0, atol=case.info["atol"])
    (descriptor * torch.from_numpy(inputs["cotangent"])).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()} | {
        "F": features.grad
    }
    for name, value in case.group("grad").items():
        np.testing.assert_allclose(
            gradients[name], value, rtol=0, atol=1e-4 * max(1, np.abs(value).max()), err_msg=name
        )
    model.train()
    np.testing.assert_allclose(
        model(features, positions).detach(), out["feature_trainbn"], rtol=0, atol=case.info["atol"]
    )
