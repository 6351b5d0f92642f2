"""Weights that a reference case does not store but describes: an integer hash of the seed, the name
and the position.
"""

import hashlib

import numpy as np

GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
MIX1 = np.uint64(0xBF58476D1CE4E5B9)
MIX2 = np.uint64(0x94D049BB133111EB)


def uniform(seed: int, name: str, count: int) -> np.ndarray:
    """float64[count] in [0, 1), multiples of 2^-24: splitmix64 of position + hash(seed:name),
    wrapping at 2^64.
    """
    start = np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "<u8")[0]
    z = np.arange(count, dtype=np.uint64) + start + GOLDEN_RATIO
    z = (z ^ (z >> np.uint64(30))) * MIX1
    z = (z ^ (z >> np.uint64(27))) * MIX2
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def tensor(seed: int, name: str, shape: tuple[int, ...], gain: float = 1.0) -> np.ndarray:
    """The tensor `name` of a recipe; its range follows from the name, its scale from the number of
    inputs.
    """
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    u = uniform(seed, name, int(np.prod(shape))).reshape(shape)
    signed = 2 * u - 1
    if last == "running_mean":
        value = 0.2 * signed
    elif last == "running_var":
        value = 0.5 + u
    elif name.endswith((".bias", "in_proj_bias")):
        value = 0.1 * signed
    elif len(shape) == 1 and name.endswith(".weight"):
        value = 0.8 + 0.4 * u
    elif last in ("cls_token", "cls_pos", "pos_embed", "positional_embedding"):
        value = 0.5 * signed
    elif name.endswith("_projection") and len(shape) == 2:
        value = signed * np.sqrt(3 / shape[0])
    else:
        value = signed * np.sqrt(3 / np.prod(shape[1:]))
    return (value * gain if len(shape) >= 2 else value).astype(np.float32)


def weights(info: dict) -> dict[str, np.ndarray]:
    """All tensors that a case's notes (`weight_seed`, `state_dict_shapes`, optional `weight_gain`)
    describe.
    """
    seed, gain = info["weight_seed"], info.get("weight_gain", 1.0)
    return {
        name: tensor(seed, name, tuple(shape), gain)
        for name, shape in info["state_dict_shapes"].items()
    }
