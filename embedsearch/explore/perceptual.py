"""What a picture looks like, in 64 bits, and where one picture lies upon another.

The hash is pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
2010): the signs of the lowest 8 x 8 DCT coefficients of a 32 x 32 grey picture against their
median. It withstands compression, scaling, and changes of colour, light and contrast; a crop, a
turn or a mirror change it altogether. So where two hashes differ, the pictures are laid upon one
another: the middle of one is sought in the other, mirrored, turned and scaled, by normalised
cross-correlation, first in very small pictures and then more closely where it fits best; the part
that both show is hashed.

The package ``imagehash`` computes the same hash; it would add PyWavelets and does not align.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import map_coordinates

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]

SIDE = 64
"""Longer side of the grey pictures that are laid upon one another, pixels."""
_HASHED_SIDE = 32
_LOW_FREQUENCIES = 8
_ROUGH_SIDE = 24
"""Longer side of those in which the first search is done."""
_MIDDLE = 0.5
"""The part of each side that is sought: no turn reaches its corners, most crops keep it."""
_SCALES = tuple(1.13**step for step in range(-4, 5))  # 0.61 to 1.63
_TURNS = (-15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0)
_KINDS = tuple(product((False, True), _TURNS))
"""What may have been done to a picture: mirrored, turned by so many degrees."""
_LEAST_VARIANCE = 0.0005
"""Of grey values 0 to 1: what is flatter (sky, a border) must not count as a match."""
_LEAST_ROUGH_FIT = 0.75
"""Correlation in the first search. Of edits of other photos 0.99 reach it, of pairs that only the
embedding calls similar two thirds."""
_LOOKED_AT = 6
"""Best places of the first search that are looked at more closely."""


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
        self.grey: NDArray[np.uint8] = np.asarray(small)
        self.bits = phash(_unit(self.grey))


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
        found = _laid_upon(_unit(first.grey), _unit(second.grey))
        if found is not None and found.distance < best.distance:
            best = found
            if inverse:
                best = Likeness(found.distance, found.mirrored, -found.turn, 1 / found.scale)
    return best


def _distance(one: Bits, other: Bits) -> int:
    return int(np.count_nonzero(one != other))


def _unit(grey: NDArray[np.uint8]) -> Floats:
    return np.divide(grey, 255, dtype=np.float32)


def _laid_upon(whole: Floats, other: Floats) -> Likeness | None:
    """Where the middle of ``other`` fits ``whole`` best, and how alike the two are there; None
    where it fits nowhere."""
    best, found = -np.inf, None
    for scale, kind, place in _rough_places(whole, other):
        (patch,) = _middles(other, scale, [kind])
        reach = int(SIDE * scale / _ROUGH_SIDE) + 1
        y, x = (max(0, round(at * (SIDE * scale / _ROUGH_SIDE)) - reach) for at in place)
        h, w = patch.shape
        near = whole[y : y + h + 2 * reach, x : x + w + 2 * reach]
        if near.shape[0] < h or near.shape[1] < w:
            continue
        fits = _fits(near, patch[None])[..., 0]
        dy, dx = np.unravel_index(int(fits.argmax()), fits.shape)
        if fits[dy, dx] > best:
            best, found = fits[dy, dx], (scale, *kind, near[dy : dy + h, dx : dx + w], patch)
    if found is None:
        return None
    scale, mirrored, turn, there, patch = found
    return Likeness(_distance(phash(there), phash(patch)), mirrored, turn, scale)


def _rough_places(
    whole: Floats, other: Floats
) -> list[tuple[float, tuple[bool, float], tuple[int, int]]]:
    """Scale, kind and place of the best fits in very small pictures, the best first. One size of
    patch serves all scales: it is ``whole`` that is made larger or smaller."""
    patches = _middles(_resized(other, _ROUGH_SIDE / SIDE), 1.0, _KINDS)
    found = []
    for scale in _SCALES:
        small = _resized(whole, _ROUGH_SIDE / SIDE / scale)
        if small.shape[0] < patches.shape[1] or small.shape[1] < patches.shape[2]:
            continue
        fits = _fits(small, patches)
        flat = fits.reshape(-1, len(_KINDS))
        for kind, at in zip(_KINDS, flat.argmax(0), strict=True):
            y, x = divmod(int(at), fits.shape[1])
            found.append((float(flat[at, _KINDS.index(kind)]), scale, kind, (y, x)))
    found.sort(reverse=True)
    return [one[1:] for one in found[:_LOOKED_AT] if one[0] >= _LEAST_ROUGH_FIT]


def _resized(grey: Floats, scale: float) -> Floats:
    from PIL import Image

    height, width = (max(2, round(side * scale)) for side in grey.shape)
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))


def _fits(whole: Floats, patches: Floats) -> Floats:
    """Normalised cross-correlation of ``patches`` (K, h, w) with every window of ``whole`` (H, W):
    (H - h + 1, W - w + 1, K)."""
    kinds, h, w = patches.shape
    windows = sliding_window_view(whole, (h, w))
    places = windows.shape[:2]
    flat = windows.reshape(-1, h * w)
    flat = flat - flat.mean(1, keepdims=True)
    flat /= np.sqrt(np.maximum(np.vecdot(flat, flat), _LEAST_VARIANCE * h * w))[:, None]
    sought = patches.reshape(kinds, -1)
    sought = sought - sought.mean(1, keepdims=True)
    sought /= np.maximum(np.linalg.norm(sought, axis=1, keepdims=True), 1e-6)
    return np.asarray((flat @ sought.T).reshape(*places, kinds), np.float32)


def _middles(grey: Floats, scale: float, kinds: Sequence[tuple[bool, float]]) -> Floats:
    """The middle of a picture, made ``scale`` times as large, mirrored and turned as ``kinds``
    say: (K, h, w)."""
    height, width = grey.shape
    h, w = (max(1, round(_MIDDLE * side * scale)) for side in (height, width))
    y, x = np.mgrid[:h, :w].astype(np.float32)
    y, x = (y - (h - 1) / 2) / scale, (x - (w - 1) / 2) / scale
    places = []
    for mirrored, turn in kinds:
        cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        across = (cosine * x - sine * y) * (-1 if mirrored else 1)
        places.append((sine * x + cosine * y + (height - 1) / 2, across + (width - 1) / 2))
    return np.asarray(map_coordinates(grey, np.stack(places, 1), order=1, mode="nearest"))
