"""Photos to calibrate on, to measure agreement on, and to train on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.folder import EncoderFolder
from embedsearch.encoders.preprocess import to_square
from embedsearch.errors import DataError
from embedsearch.images.scan import scan
from embedsearch.training.data.pixels import load_pixels

AGREEMENT = 64
"""Photos on which the quantised encoder is compared with the float32 one."""


def find_photos(folder: Path, seed: int) -> list[Path]:
    """The pictures under a folder, in an order drawn by ``seed``.

    Raises :class:`~embedsearch.errors.DataError` where there are none.
    """
    faults: list[str] = []
    root = os.fsencode(folder.absolute())
    found = [
        Path(os.fsdecode(os.path.join(root, file.path)))
        for file in scan(root, on_failure=lambda path, why: faults.append(why))
    ]
    if not found:
        why = f" ({faults[0]})" if faults else ""
        raise DataError(f"{folder}: no photos to calibrate on{why}; name a folder of pictures")
    found.sort()
    return [found[place] for place in np.random.default_rng(seed).permutation(len(found))]


def part(photos: Sequence[Path], calibration: int) -> tuple[list[Path], list[Path]]:
    """Photos to calibrate on, and others to compare on; of few photos the same ones for both."""
    if len(photos) >= calibration + 1:
        return list(photos[:calibration]), list(photos[calibration : calibration + AGREEMENT])
    return list(photos), list(photos)


def squares(photos: Sequence[Path], about: EncoderFolder) -> list[NDArray[np.uint8]]:
    """Photos as the encoder sees them, uint8 (size, size, 3). Raises
    :class:`~embedsearch.errors.DataError` naming one that cannot be read."""
    return [
        to_square(
            load_pixels(photo, about.input_size),
            about.input_size,
            about.resize,
            about.interpolation,
        )
        for photo in photos
    ]
