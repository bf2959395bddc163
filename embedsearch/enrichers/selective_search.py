"""Selective Search: boxes that may hold an object, from colours and textures alone.

Uijlings et al., "Selective Search for Object Recognition", 2013. The picture is parted into small
regions (Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", 2004), then the
two neighbours that are most alike become one, again and again; every region on the way has a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Pixels
from embedsearch.errors import MissingExtraError

Histogram = NDArray[np.float32]
SIDE = 320
"""Pictures are looked at with this longer side: boxes are no better on larger ones."""
_COLOUR_BINS, _TEXTURE_BINS, _DIRECTIONS = 25, 10, 8
_SMOOTHNESS = 0.8
_SCALES = (100.0, 200.0)
"""How large the first regions are; one run with each, in one space of colours each."""
_LEAST_SHARE = 0.02
"""Of the picture's sides, a box must have at least."""


@dataclass(slots=True)
class _Region:
    size: int
    """Pixels."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom."""
    colour: Histogram
    texture: Histogram


def propose(picture: Pixels, most: int) -> NDArray[np.float32]:
    """At most so many boxes (N, 4) as x, y, width, height in pixels of the picture, those of late
    and large regions first.

    Raises :class:`~embedsearch.errors.MissingExtraError` without scikit-image.
    """
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = picture
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    spaces = (cv2.cvtColor(small, cv2.COLOR_RGB2HSV), cv2.cvtColor(small, cv2.COLOR_RGB2LAB))
    ranked: dict[tuple[int, int, int, int], int] = {}
    for place, least in enumerate(_SCALES):
        for rank, box in enumerate(reversed(_grouped(small, spaces[place], least))):
            ranked[box] = min(rank, ranked.get(box, rank))
    limits = np.array([small.shape[1], small.shape[0]]) * _LEAST_SHARE
    boxes = [
        (left, top, right - left, bottom - top)
        for left, top, right, bottom in sorted(ranked, key=lambda box: ranked[box])
        if right - left >= limits[0] and bottom - top >= limits[1]
    ]
    factors = np.array([width / small.shape[1], height / small.shape[0]] * 2, np.float32)
    chosen = np.array(boxes[:most], np.float32).reshape(-1, 4)
    return np.multiply(chosen, factors, dtype=np.float32)


def _grouped(small: Pixels, space: Pixels, scale: float) -> list[tuple[int, int, int, int]]:
    """Boxes of all regions in the order in which they came to be."""
    labels = _first_regions(small, scale)
    regions = _described(labels, space)
    neighbours = _neighbours(labels)
    total = labels.size
    boxes = [region.box for region in regions.values()]
    queue = [
        (-_alike(regions[a], regions[b], total), a, b) for a in neighbours for b in neighbours[a]
        if a < b
    ]  # fmt: skip
    heapify(queue)
    fresh = max(regions, default=0) + 1
    while queue:
        _, a, b = heappop(queue)
        if a not in regions or b not in regions:
            continue
        merged = _merged(regions.pop(a), regions.pop(b))
        around = (neighbours.pop(a) | neighbours.pop(b)) - {a, b}
        regions[fresh], neighbours[fresh] = merged, around
        for other in around:
            neighbours[other] -= {a, b}
            neighbours[other].add(fresh)
            heappush(queue, (-_alike(regions[other], merged, total), other, fresh))
        boxes.append(merged.box)
        fresh += 1
    return boxes


def _first_regions(small: Pixels, scale: float) -> NDArray[np.int64]:
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise MissingExtraError("Proposing boxes (rcnn, fast-rcnn)", "objects") from error
    least = max(20, small.shape[0] * small.shape[1] // 2000)
    labels: NDArray[np.int64] = felzenszwalb(
        small, scale=scale, sigma=_SMOOTHNESS, min_size=least
    ).astype(np.int64)
    return labels


def _described(labels: NDArray[np.int64], space: Pixels) -> dict[int, _Region]:
    """Size, box, and histograms of every first region."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count)
    colour = _histograms(labels, space, _COLOUR_BINS, count)
    texture = _textures(labels, space, count)
    rows, columns = np.indices(labels.shape)
    edges = [np.full(count, labels.size), np.full(count, labels.size), np.zeros(count, int)]
    edges.append(np.zeros(count, int))
    flat = labels.ravel()
    np.minimum.at(edges[0], flat, columns.ravel())
    np.minimum.at(edges[1], flat, rows.ravel())
    np.maximum.at(edges[2], flat, columns.ravel() + 1)
    np.maximum.at(edges[3], flat, rows.ravel() + 1)
    return {
        at: _Region(
            int(sizes[at]),
            (int(edges[0][at]), int(edges[1][at]), int(edges[2][at]), int(edges[3][at])),
            colour[at],
            texture[at],
        )
        for at in range(count)
    }


def _histograms(
    labels: NDArray[np.int64], values: NDArray[np.generic], bins: int, count: int
) -> Histogram:
    """Of each region, of each channel of bytes, side by side, adding up to 1: (count, bins * C)."""
    parts = []
    for channel in range(values.shape[2]):
        binned = values[..., channel].astype(np.int64) * bins // 256
        cells = np.bincount((labels * bins + binned).ravel(), minlength=count * bins)
        parts.append(cells.reshape(count, bins))
    joined = np.concatenate(parts, 1).astype(np.float32)
    histograms: Histogram = joined / np.maximum(joined.sum(1, keepdims=True), 1)
    return histograms


def _textures(labels: NDArray[np.int64], space: Pixels, count: int) -> Histogram:
    """Histograms of how strong edges are in eight directions (section 3.2)."""
    import cv2

    smooth = cv2.GaussianBlur(space, (0, 0), 1.0).astype(np.float32)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    parts = []
    for direction in range(_DIRECTIONS):
        angle = 2 * np.pi * direction / _DIRECTIONS
        strength = np.clip(across * np.cos(angle) + down * np.sin(angle), 0, 255)
        parts.append(_histograms(labels, strength, _TEXTURE_BINS, count))
    textures: Histogram = np.concatenate(parts, 1) / np.float32(_DIRECTIONS)
    return textures


def _neighbours(labels: NDArray[np.int64]) -> dict[int, set[int]]:
    pairs = np.concatenate(
        [
            np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], 1),
            np.stack([labels[:-1].ravel(), labels[1:].ravel()], 1),
        ]
    )
    found: dict[int, set[int]] = {at: set() for at in range(int(labels.max()) + 1)}
    for a, b in np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).tolist():
        found[a].add(b)
        found[b].add(a)
    return found


def _alike(one: _Region, other: _Region, total: int) -> float:
    """Equations 2 to 6: colour, texture, both small, and how well they fit into one another."""
    size = one.size + other.size
    left, top, right, bottom = _around(one.box, other.box)
    return (
        float(np.minimum(one.colour, other.colour).sum())
        + float(np.minimum(one.texture, other.texture).sum())
        + (1 - size / total)
        + (1 - ((right - left) * (bottom - top) - size) / total)
    )


def _merged(one: _Region, other: _Region) -> _Region:
    size = one.size + other.size
    shares = one.size / size, other.size / size
    return _Region(
        size,
        _around(one.box, other.box),
        one.colour * shares[0] + other.colour * shares[1],
        one.texture * shares[0] + other.texture * shares[1],
    )


def _around(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )
