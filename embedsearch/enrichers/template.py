"""One object followed from where it is in the first frame, whatever it is: no detector, no labels.

A discriminative correlation filter over gradient orientations and colour, and a second one over its
scale: Danelljan et al., "Accurate Scale Estimation for Robust Visual Tracking" (DSST), 2014, which
goes on from Bolme et al., "Visual Object Tracking using Adaptive Correlation Filters" (MOSSE),
2010. The filters learn on as the object changes, and pause while its peak is weak: then something
is before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Pixels
from embedsearch.records import Box

Real = NDArray[np.float32]
Complex = NDArray[np.complex128]

CELLS = 32
"""Side of what is searched, in cells of :data:`_CELL` pixels, after it was scaled."""
SEARCHED = 2.0
"""Side of what is searched, in sides of the object."""
RATE = 0.015
"""Part of the filters that each frame makes anew."""
SCALES, STEP = 17, 1.03
"""How many scales are tried in each frame, and the ratio of neighbours."""
WEAK = 4.0
"""Peak-to-sidelobe ratio (MOSSE, section 3.5) below which nothing is learned."""
_CELL = 4
_SCALE_CELLS = 16
_BINS = 9
_RIDGE = 0.01
_SIDES = (8.0, 4096.0)


def follow_box(frames: Iterable[Pixels], first: Box) -> Iterator[Box]:
    """Where the object is that fills the box ``first`` in the first frame: a box for each frame, in
    pixels. Deterministic."""
    filters: _Filters | None = None
    centre = np.array([first[0] + first[2] / 2, first[1] + first[3] / 2])
    size = np.array([max(first[2], 1.0), max(first[3], 1.0)])
    for picture in frames:
        if filters is None:
            filters = _Filters(picture, centre, size)
        else:
            centre, size, peak = filters.find(picture, centre, size)
            if peak >= WEAK:
                filters.learn(picture, centre, size, RATE)
        x, y = centre - size / 2
        yield (float(x), float(y), float(size[0]), float(size[1]))


class _Filters:
    """The two filters, as numerator and denominator in the frequency domain."""

    def __init__(self, picture: Pixels, centre: NDArray[np.float64], size: NDArray[np.float64]):
        self._window = np.outer(np.hanning(CELLS), np.hanning(CELLS))[..., None]
        self._scale_window = np.hanning(SCALES)[None]
        rows, columns = np.indices((CELLS, CELLS)) - CELLS // 2
        spread = CELLS / SEARCHED * 0.1
        wanted = np.exp(-(rows**2 + columns**2) / (2 * spread**2))
        self._wanted = np.fft.fft2(np.fft.ifftshift(wanted))[..., None]
        steps = np.arange(SCALES) - SCALES // 2
        self._wanted_scale = np.fft.fft(np.fft.ifftshift(np.exp(-(steps**2) / 2)))[None]
        self._steps = STEP ** steps.astype(float)
        self._place: tuple[Complex, Real] | None = None
        self._scale: tuple[Complex, Real] | None = None
        self.learn(picture, centre, size, 1.0)

    def find(
        self, picture: Pixels, centre: NDArray[np.float64], size: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """The new centre and size, and how clear the place is (peak-to-sidelobe ratio)."""
        assert self._place is not None and self._scale is not None
        peak = 0.0
        for _ in range(2):  # from nearer by, the place is found more exactly
            over, under = self._place
            spectrum = (over * self._spectrum(picture, centre, size)).sum(-1) / (under + _RIDGE)
            response = np.fft.fftshift(np.fft.ifft2(spectrum).real)
            row, column = np.unravel_index(response.argmax(), response.shape)
            peak = _clearness(response, int(row), int(column))
            moved = np.array([column, row]) - CELLS // 2
            centre = centre + moved * size * SEARCHED / CELLS
        centre = np.clip(centre, 0, [picture.shape[1], picture.shape[0]])
        over, under = self._scale
        spectrum = (over * self._scale_spectrum(picture, centre, size)).sum(0) / (under + _RIDGE)
        best = np.fft.fftshift(np.fft.ifft(spectrum).real).argmax()
        grown = float(self._steps[best])
        if _SIDES[0] <= min(size * grown) and max(size * grown) <= _SIDES[1]:
            size = size * grown
        return centre, size, peak

    def learn(
        self, picture: Pixels, centre: NDArray[np.float64], size: NDArray[np.float64], rate: float
    ) -> None:
        """Take in how the object looks now."""
        seen = self._spectrum(picture, centre, size)
        place = (self._wanted * np.conj(seen), (np.abs(seen) ** 2).sum(-1))
        self._place = _moved(self._place, place, rate)
        seen = self._scale_spectrum(picture, centre, size)
        scale = (self._wanted_scale * np.conj(seen), (np.abs(seen) ** 2).sum(0))
        self._scale = _moved(self._scale, scale, rate)

    def _spectrum(
        self, picture: Pixels, centre: NDArray[np.float64], size: NDArray[np.float64]
    ) -> Complex:
        """Shape (CELLS, CELLS, channels)."""
        seen = _features(_cut(picture, centre, size * SEARCHED, CELLS * _CELL), CELLS)
        return np.fft.fft2(seen * self._window, axes=(0, 1))

    def _scale_spectrum(
        self, picture: Pixels, centre: NDArray[np.float64], size: NDArray[np.float64]
    ) -> Complex:
        """Shape (features, SCALES)."""
        seen = [
            _features(_cut(picture, centre, size * step, _SCALE_CELLS * _CELL), _SCALE_CELLS)
            for step in self._steps
        ]
        pyramid = np.stack([one.ravel() for one in seen], axis=1)
        return np.fft.fft(pyramid * self._scale_window, axis=1)


def _moved(
    known: tuple[Complex, Real] | None, seen: tuple[Complex, Real], rate: float
) -> tuple[Complex, Real]:
    if known is None:
        return seen
    return (1 - rate) * known[0] + rate * seen[0], (1 - rate) * known[1] + rate * seen[1]


def _clearness(response: NDArray[np.float64], row: int, column: int) -> float:
    """Of the peak: how many standard deviations it stands above all that is further off than five
    cells."""
    rows, columns = np.indices(response.shape)
    aside = response[(abs(rows - row) > 5) | (abs(columns - column) > 5)]
    return float((response[row, column] - aside.mean()) / max(float(aside.std()), 1e-9))


def _cut(
    picture: Pixels, centre: NDArray[np.float64], size: NDArray[np.float64], side: int
) -> Pixels:
    """What lies around a place, scaled to (side, side, 3); its edge goes on outside the picture."""
    import cv2

    scale = size / side
    corner = centre - size / 2
    matrix = np.array([[scale[0], 0, corner[0]], [0, scale[1], corner[1]]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut: Pixels = cv2.warpAffine(
        picture, matrix, (side, side), flags=how, borderMode=cv2.BORDER_REPLICATE
    )
    return cut


def _features(cut: Pixels, cells: int) -> Real:
    """Orientations of gradients (Dalal and Triggs, 2005), normalised among neighbours, and colour
    in CIE Lab: float32 (cells, cells, 12)."""
    import cv2

    lab = cv2.cvtColor(cut.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    across = cv2.Sobel(lab[..., 0], cv2.CV_32F, 1, 0, ksize=1)
    down = cv2.Sobel(lab[..., 0], cv2.CV_32F, 0, 1, ksize=1)
    strength = np.hypot(across, down)
    place = (np.arctan2(down, across) % np.pi) / np.pi * _BINS
    lower = np.floor(place).astype(int) % _BINS
    share = place - np.floor(place)
    bins = np.zeros((*cut.shape[:2], _BINS), np.float32)
    rows, columns = np.indices(cut.shape[:2])
    bins[rows, columns, lower] += strength * (1 - share)
    bins[rows, columns, (lower + 1) % _BINS] += strength * share
    oriented = _pooled(bins, cells)
    near = cv2.blur(oriented, (3, 3))
    oriented /= np.sqrt((near**2).sum(-1, keepdims=True)) + 0.01
    colour = (_pooled(lab, cells) - np.array([50, 0, 0])) / np.array([50, 40, 40])
    return np.concatenate([oriented, colour], axis=-1, dtype=np.float32)


def _pooled(values: Real, cells: int) -> Real:
    """Means of the pixels of each cell."""
    pooled: Real = values.reshape(cells, _CELL, cells, _CELL, -1).mean((1, 3))
    return pooled
