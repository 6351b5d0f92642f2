"""A reference case: tensors and the notes that came with them."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from safetensors.numpy import load_file


@dataclasses.dataclass(frozen=True)
class Case:
    path: pathlib.Path
    tensors: dict[str, np.ndarray]
    info: dict[str, Any]

    @classmethod
    def load(cls, path: pathlib.Path) -> "Case":
        return cls(path, load_file(path), json.loads(path.with_suffix(".json").read_text("utf-8")))

    @property
    def kind(self) -> str:
        return self.path.stem.rsplit("_", 1)[0]

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """Tensors below `prefix/`, without the prefix; float16 becomes float32 (it is exact)."""
        found = {
            k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + "/")
        }
        return {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in found.items()}
