"""Frozen features: what the backbone sees in views of each photo, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from embedsearch.encoders.preprocess import to_square
from embedsearch.training.data.pixels import load_pixels, view_pixels
from embedsearch.training.networks.export import FEATURES, INPUT

Progress = Callable[[int, int], None]
"""Told how many of how many photos are done."""

_AT_A_TIME = 256


def extract_features(
    backbone: ModelProto,
    files: Sequence[Path],
    *,
    views: int,
    size: int,
    seed: int,
    cache: Path,
    threads: int = 2,
    progress: Progress = lambda done, total: None,
) -> NDArray[np.float16]:
    """Features of ``views`` views of each photo: float16 (views, N, 1280).

    The result is kept in the folder ``cache`` under a name made of all it depends on, and read
    from there the next time.
    """
    kept = cache / f"features-{_fingerprint(backbone, files, views, size, seed)}.npy"
    if kept.is_file():
        features: NDArray[np.float16] = np.load(kept)
        return features
    session = _session(backbone)

    def look(place: int) -> NDArray[np.float16]:
        pixels = load_pixels(files[place], size)
        rng = np.random.default_rng([seed, place])
        seen = (to_square(view_pixels(pixels, view, rng), size) for view in range(views))
        rows = [session.run([FEATURES], {INPUT: square[None]})[0][0] for square in seen]
        return np.stack(rows).astype(np.float16)

    found: list[NDArray[np.float16]] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), _AT_A_TIME):
            found += pool.map(look, range(start, min(start + _AT_A_TIME, len(files))))
            progress(len(found), len(files))
    features = np.stack(found, axis=1)
    cache.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial.npy")
    np.save(partial, features)
    partial.replace(kept)
    return features


def _session(backbone: ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        backbone.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _fingerprint(
    backbone: ModelProto, files: Iterable[Path], views: int, size: int, seed: int
) -> str:
    told = hashlib.sha256(backbone.SerializeToString(deterministic=True))
    told.update(f"{views} {size} {seed}\n".encode())
    for file in files:
        told.update(f"{file} {file.stat().st_size if file.exists() else None}\n".encode())
    return told.hexdigest()[:16]
