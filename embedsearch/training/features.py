"""Frozen features: what the backbone sees in views of each photo, computed once and kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from embedsearch.encoders.base import Pixels
from embedsearch.encoders.preprocess import to_square
from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode
from embedsearch.training.export import FEATURES, INPUT

Progress = Callable[[int, int], None]
"""Told how many of how many photos are done."""

_CROP_AREA = (0.4, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_TRIES = 20
_AT_A_TIME = 256


def load_pixels(file: Path, size: int) -> Pixels:
    """The pixels that indexing would see: uint8 (H, W, 3), the shorter side ``size`` or more where
    the photo has that much. Raises :class:`~embedsearch.errors.DataError` naming the file."""
    try:
        return decode(file, size).pixels
    except PictureError as error:
        raise DataError(f"{file}: {error}") from error


def view_pixels(pixels: Pixels, view: int, rng: np.random.Generator) -> Pixels:
    """View 0 is the picture, 1 its mirror image, and any other a random part of it.

    A part has 40 to 100 % of the area and 3/4 to 4/3 of the aspect, and is mirrored half the
    time (Szegedy et al., "Going Deeper with Convolutions", 2014, section 6).
    """
    if view == 0:
        return pixels
    if view == 1:
        return pixels[:, ::-1]
    height, width = pixels.shape[:2]
    for _ in range(_TRIES):
        area = rng.uniform(*_CROP_AREA) * height * width
        aspect = width / height * math.exp(rng.uniform(*np.log(_CROP_ASPECT)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left = int(rng.integers(width - across + 1))
            top = int(rng.integers(height - down + 1))
            pixels = pixels[top : top + down, left : left + across]
            break
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


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
