"""MobileNetV2 with random weights, for tests: as uneven between channels as trained ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embedsearch.training.networks.mobilenetv2 import MobileNetV2


def random_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """All 265 arrays of the network by their names in the file."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for convolution, norm, unit in MobileNetV2().units():
        shape = tuple(unit[0].weight.shape)
        spread = np.sqrt(2 / np.prod(shape[1:]))
        arrays[f"{convolution}_weight"] = rng.normal(0, spread, shape)
        arrays[f"{norm}_gamma"] = rng.lognormal(-0.7, 0.5, shape[0])
        arrays[f"{norm}_beta"] = rng.normal(0.2, 0.2, shape[0])
        arrays[f"{norm}_running_mean"] = rng.normal(0, 0.1, shape[0])
        arrays[f"{norm}_running_var"] = rng.lognormal(0, 0.3, shape[0])
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def write_weights(path: Path, seed: int = 0) -> Path:
    np.savez(path, **random_arrays(seed))
    return path
