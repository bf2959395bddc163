"""Which picture of several that show the same is the best: resolution, sharpness, exposure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace

from embedsearch.records import Image

SAME_RESOLUTION = 0.9
"""A picture with at least this part of the pixels of the largest one is as large."""
BLURRED = 0.5
"""Against the median sharpness of a group."""
BADLY_EXPOSED = 0.8
"""Against the best exposure of a group."""
MEASURED_SIDE = 256
"""Pictures are measured at this shorter side, or their own where that is less."""
_BLACK, _WHITE = 4, 251
"""Grey values from here outwards hold no detail any more."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured on the pixels of one picture."""

    sharpness: float
    """Variance of the Laplacian against that of the grey values, so that contrast does not count
    (J. L. Pech-Pacheco and others, "Diatom autofocusing in brightfield microscopy", 2000)."""
    exposure: float
    """0 to 1: less where grey values are cut off at black or white, or are dark or bright on the
    whole."""


def quality(pixels: NDArray[np.uint8]) -> Quality:
    """Measure an upright sRGB picture, (H, W, 3)."""
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    variance = float(grey.var())
    sharpness = float(laplace(grey).var()) / variance if variance > 1 else 0.0
    lost = float(np.mean((grey <= _BLACK) | (grey >= _WHITE)))
    lightness = float(grey.mean()) / 255
    return Quality(sharpness, (1 - lost) * (1 - (2 * lightness - 1) ** 2))


def best_first(
    images: Sequence[Image], measured: Mapping[int, Quality], typical: Mapping[int, float]
) -> list[Image]:
    """The best picture first.

    What counts, in this order: resolution; not to be blurred against the others; not to be worse
    exposed than they; to be the most like them all, as the original is that each copy was edited
    from; a larger file; a shorter name. ``measured`` and ``typical`` (mean cosine with the others)
    are by image id.
    """
    most = max(image.width * image.height for image in images)
    # The median, not the most: noise and artefacts of compression count as sharp.
    usual = float(np.median([measured[image.id].sharpness for image in images]))
    exposed = max(measured[image.id].exposure for image in images)

    def rank(image: Image) -> tuple[float | str, ...]:
        pixels = image.width * image.height
        found = measured[image.id]
        return (
            -(most if pixels >= SAME_RESOLUTION * most else pixels),
            found.sharpness < BLURRED * usual,
            found.exposure < BADLY_EXPOSED * exposed,
            -round(typical[image.id], 3),
            -image.size,
            len(image.path),
            image.path,
        )

    return sorted(images, key=rank)
