"""In which order lines are read: columns from left to right, in each rows from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.float32]
"""left, top, right, bottom of each line, shape (N, 4)."""
SAME_ROW = 0.5
"""Two lines stand in one row where they share this part of the lower one's height."""
COLUMN_LINES = 3
COLUMN_WIDTH = 6.0
"""A column of running text has at least so many lines, that are mostly so many times as wide as
high: the prices of a receipt are no column of their own."""
LEVEL = 15.0
"""Degrees. Text that leans more than this leans on purpose."""


def reading_order(quads: Sequence[NDArray[np.float32]]) -> list[int]:
    """Places of the quads, each (4, 2), in the order they are read. A page that lies askew is read
    along its own lines."""
    if not quads:
        return []
    turned = _level(np.stack(quads))
    spans = np.concatenate([turned.min(axis=1), turned.max(axis=1)], axis=1)
    return _in_columns(spans, list(range(len(quads))))


def lean(quads: NDArray[np.float32]) -> float:
    """Degrees by which lines (N, 4, 2) go down to the right: the median, longer lines counting for
    more. 0 where they lean more than LEVEL, for then there is no page."""
    along = quads[:, 1] - quads[:, 0]
    lengths = np.linalg.norm(along, axis=1)
    angles = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
    order = np.argsort(angles)
    middle = np.searchsorted(np.cumsum(lengths[order]), lengths.sum() / 2)
    angle = float(angles[order][min(middle, len(order) - 1)])
    return angle if abs(angle) <= LEVEL else 0.0


def _level(quads: NDArray[np.float32]) -> NDArray[np.float32]:
    angle = np.radians(-lean(quads))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    level: NDArray[np.float32] = (quads @ turn).astype(np.float32)
    return level


def _in_columns(spans: Spans, places: list[int]) -> list[int]:
    cut = _gap_between_columns(spans, places)
    if cut is None:
        return _in_rows(spans, places)
    left = [place for place in places if spans[place, 2] <= cut]
    right = [place for place in places if spans[place, 2] > cut]
    return _in_columns(spans, left) + _in_columns(spans, right)


def _gap_between_columns(spans: Spans, places: list[int]) -> float | None:
    """Where a strip without text parts two columns of running text."""
    by_left = sorted(places, key=lambda place: float(spans[place, 0]))
    reach = -np.inf
    for number, place in enumerate(by_left):
        if spans[place, 0] > reach and number:
            parts = by_left[:number], by_left[number:]
            if all(_is_column(spans[part]) for part in parts):
                return float(reach)
        reach = max(reach, float(spans[place, 2]))
    return None


def _is_column(spans: Spans) -> bool:
    wide = (spans[:, 2] - spans[:, 0]) >= COLUMN_WIDTH * (spans[:, 3] - spans[:, 1])
    return len(spans) >= COLUMN_LINES and 2 * int(wide.sum()) > len(spans)


def _in_rows(spans: Spans, places: list[int]) -> list[int]:
    rows: list[list[int]] = []
    for place in sorted(places, key=lambda place: float(spans[place, 1] + spans[place, 3])):
        if rows and _share_a_row(spans[rows[-1][-1]], spans[place]):
            rows[-1].append(place)
        else:
            rows.append([place])
    return [place for row in rows for place in sorted(row, key=lambda p: float(spans[p, 0]))]


def _share_a_row(one: Spans, other: Spans) -> bool:
    shared = min(one[3], other[3]) - max(one[1], other[1])
    return bool(shared >= SAME_ROW * min(one[3] - one[1], other[3] - other[1]))
