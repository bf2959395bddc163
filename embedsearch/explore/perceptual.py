"""What a picture looks like, in 64 bits, and where one picture lies upon another.

The hash is pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
2010): the signs of the lowest 8 x 8 DCT coefficients of a 32 x 32 grey picture against their
median. It withstands compression, scaling, and changes of colour, light and contrast; a crop, a
turn or a mirror change it altogether. So where two hashes differ, the pictures are laid upon one
another: the middle of one is sought in the other, mirrored, turned and scaled, by normalised
cross-correlation (J. P. Lewis, "Fast Normalized Cross-Correlation", 1995), and the part that both
show is hashed.

The package ``imagehash`` computes the same hash; it would add PyWavelets and does not align.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, irfft2, rfft2
from scipy.ndimage import map_coordinates

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]

SIDE = 64
"""Longer side of the grey pictures that are laid upon one another, pixels."""
_HASHED_SIDE = 32
_LOW_FREQUENCIES = 8
_MIDDLE = 0.5
"""The part of each side that is sought: no turn reaches its corners, most crops keep it."""
_SCALES = tuple(1.13**step for step in range(-4, 5))  # 0.61 to 1.63
_TURNS = (-15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0)
_LEAST_VARIANCE = 0.0005
"""Of grey values 0 to 1: what is flatter (sky, a border) must not count as a match."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two pictures look in the part that both show."""

    distance: int
    """Bits of 64 that differ; two unrelated pictures differ in about 32."""
    mirrored: bool = False
    turn: float = 0.0
    """Degrees."""
    scale: float = 1.0
    """Of the second picture against the first, when both have the same longer side."""

    @property
    def changed(self) -> str:
        """In words; empty where the pictures lie upon one another as they are."""
        said = ["mirrored"] if self.mirrored else []
        if self.turn:
            said.append(f"turned {abs(self.turn):.0f}°")
        if not 0.9 < self.scale < 1.1:
            said.append("cropped")
        return ", ".join(said)


class View:
    """A picture made small and grey, ready to be compared."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        """``pixels`` are (H, W, 3), upright sRGB."""
        from PIL import Image

        grey = Image.fromarray(pixels).convert("L")
        scale = SIDE / max(grey.size)
        size = [max(_LOW_FREQUENCIES, round(side * scale)) for side in grey.size]
        small = grey.resize((size[0], size[1]), Image.Resampling.BOX)
        self.grey: Floats = np.asarray(small, np.float32) / np.float32(255)
        self.bits = phash(self.grey)


def phash(grey: Floats) -> Bits:
    """The hash of a grey picture, or of a part of one, (H, W): bool (64,)."""
    from PIL import Image

    square = Image.fromarray(np.ascontiguousarray(grey, np.float32)).resize(
        (_HASHED_SIDE, _HASHED_SIDE), Image.Resampling.BILINEAR
    )
    spectrum = dctn(np.asarray(square), norm="ortho")
    low = spectrum[:_LOW_FREQUENCIES, :_LOW_FREQUENCIES].ravel()
    return np.asarray(low > np.median(low))


def likeness(one: View, other: View, enough: int) -> Likeness:
    """Compare two pictures as they are and, where more than ``enough`` bits differ, laid upon one
    another: ``other`` upon ``one``, then ``one`` upon ``other``. The smallest distance counts."""
    best = Likeness(_distance(one.bits, other.bits))
    for first, second, inverse in ((one, other, False), (other, one, True)):
        if best.distance <= enough:
            break
        found = _laid_upon(first.grey, second.grey)
        if found is not None and found.distance < best.distance:
            best = found
            if inverse:
                best = Likeness(found.distance, found.mirrored, -found.turn, 1 / found.scale)
    return best


def _distance(one: Bits, other: Bits) -> int:
    return int(np.count_nonzero(one != other))


def _laid_upon(whole: Floats, other: Floats) -> Likeness | None:
    """Where the middle of ``other`` fits ``whole`` best, and how alike the two are there; None
    where ``whole`` is too narrow to hold it."""
    height, width = whole.shape
    centred = whole - whole.mean()
    spectrum = rfft2(centred)
    sums, squares = _sums(centred), _sums(centred * centred)
    best, found = -np.inf, None
    for scale, kinds, patches in _middles(other):
        h, w = patches.shape[1:]
        if h > height or w > width:
            continue
        sought = patches - patches.mean((1, 2), keepdims=True)
        norms = np.sqrt((sought * sought).sum((1, 2), keepdims=True))
        sought /= np.maximum(norms, 1e-6)
        # What wraps around lies beyond the places where all of a patch is inside.
        products = irfft2(spectrum * np.conj(rfft2(sought, (height, width))), (height, width))
        variance = _windows(squares, h, w) - _windows(sums, h, w) ** 2 / (h * w)
        places = products[:, : height - h + 1, : width - w + 1]
        places = places / np.sqrt(np.maximum(variance, _LEAST_VARIANCE * h * w))
        kind, y, x = np.unravel_index(int(places.argmax()), places.shape)
        if places[kind, y, x] > best:
            best = places[kind, y, x]
            found = (scale, *kinds[kind], whole[y : y + h, x : x + w], patches[kind])
    if found is None:
        return None
    scale, mirrored, turn, there, patch = found
    return Likeness(_distance(phash(there), phash(patch)), mirrored, turn, scale)


def _middles(grey: Floats) -> Iterator[tuple[float, list[tuple[bool, float]], Floats]]:
    """The middle of a picture at every scale: with it what was done to each, and the results,
    (14, h, w)."""
    height, width = grey.shape
    kinds = [(mirrored, turn) for mirrored in (False, True) for turn in _TURNS]
    for scale in _SCALES:
        h, w = round(_MIDDLE * height * scale), round(_MIDDLE * width * scale)
        y, x = np.mgrid[:h, :w].astype(np.float32)
        y, x = (y - (h - 1) / 2) / scale, (x - (w - 1) / 2) / scale
        places = []
        for mirrored, turn in kinds:
            cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
            across = (cosine * x - sine * y) * (-1 if mirrored else 1)
            places.append((sine * x + cosine * y + (height - 1) / 2, across + (width - 1) / 2))
        yield scale, kinds, map_coordinates(grey, np.stack(places, 1), order=1, mode="nearest")


def _sums(values: Floats) -> NDArray[np.float64]:
    """Sums over all rectangles that begin at the corner, (H + 1, W + 1)."""
    return np.pad(values.cumsum(0, np.float64).cumsum(1), ((1, 0), (1, 0)))


def _windows(sums: NDArray[np.float64], h: int, w: int) -> NDArray[np.float64]:
    """Sums over every window of h x w."""
    return sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
