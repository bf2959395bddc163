"""Which picture of several that show the same is the best: resolution, sharpness, exposure and
more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace

from embedsearch.records import Image

SAME_RESOLUTION = 0.8
"""A picture with at least this part of the pixels of the largest one is as large."""
BLURRED = 0.5
"""Against the median sharpness of a group."""
BADLY_EXPOSED = 0.8
"""Against the best exposure of a group."""
COMPRESSED = 0.5
"""Bytes a pixel against the median of a group."""
AS_TYPICAL = 0.02
"""Cosines that differ by less say nothing of which picture the others were made from."""
_FRAME_PART, _FRAME_RANGE = 0.88, 14
"""A line belongs to a border where this part of it is the colour of the edge, give or take so many
grey values; the rest may be words (a caption, the clock of a screenshot)."""
_HOUR = 3600 * 10**9
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
    content: float = 1.0
    """The part of the picture that is no border of one colour."""


def quality(pixels: NDArray[np.uint8]) -> Quality:
    """Measure an upright sRGB picture, (H, W, 3)."""
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    variance = float(grey.var())
    sharpness = float(laplace(grey).var()) / variance if variance > 1 else 0.0
    lost = float(np.mean((grey <= _BLACK) | (grey >= _WHITE)))
    lightness = float(grey.mean()) / 255
    exposure = (1 - lost) * (1 - (2 * lightness - 1) ** 2)
    return Quality(sharpness, exposure, _without_border(grey) * _without_border(grey.T))


def _without_border(grey: NDArray[np.float32]) -> float:
    """The part of the rows that are not border. A picture that is flat all over has none."""
    flat = []
    for lines in (grey, grey[::-1]):
        edge = np.median(lines[0])
        is_border = np.mean(np.abs(lines - edge) <= _FRAME_RANGE, axis=1) >= _FRAME_PART
        flat.append(int(np.argmin(np.append(is_border, False))))
    return 1.0 if sum(flat) >= len(grey) else 1 - sum(flat) / len(grey)


def best_first(
    images: Sequence[Image], measured: Mapping[int, Quality], typical: Mapping[int, float]
) -> list[Image]:
    """The best picture first.

    What counts, in this order: resolution, borders left out; not to be blurred
    against the others; not to be worse exposed than they; not to be compressed more; to say when it
    was taken; to be like them all, as the original is that each copy was edited from; to be older
    by an hour; a larger file; a shorter name.
    ``measured`` and ``typical`` (mean cosine with the others) are by image id.
    """
    pixels = {image.id: image.width * image.height * measured[image.id].content for image in images}
    most = max(pixels.values())
    dense = float(np.median([image.size / pixels[image.id] for image in images]))
    # The median, not the most: noise and artefacts of compression count as sharp.
    usual = float(np.median([measured[image.id].sharpness for image in images]))
    exposed = max(measured[image.id].exposure for image in images)

    def rank(image: Image) -> tuple[float | str, ...]:
        shown, found = pixels[image.id], measured[image.id]
        return (
            -(most if shown >= SAME_RESOLUTION * most else shown),
            found.sharpness < BLURRED * usual,
            found.exposure < BADLY_EXPOSED * exposed,
            image.size / shown < COMPRESSED * dense,
            image.taken_at is None,
            -round(typical[image.id] / AS_TYPICAL),
            image.mtime_ns // _HOUR,
            -image.size,
            len(image.path),
            image.path,
        )

    return sorted(images, key=rank)
