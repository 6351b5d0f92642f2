"""What the towers' bench says where its baselines are missing."""

import sys

import numpy as np
import pytest

from jax3dret.bench import towers
from jax3dret.core.types import ConfigError


@pytest.mark.parametrize("missing", ["torch", "efficientnet_lite_pytorch", "transformers"])
def test_a_missing_baseline_is_named(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'jax3dret\[bench\]'"):
        towers._torch_towers(np.zeros((1, 8, 8, 3), np.float32), np.zeros((1, 8), np.int32))
