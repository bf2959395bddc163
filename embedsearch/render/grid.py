"""Points moved to the cells of a grid, one to a cell, so that pictures there do not overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.int64]


def to_grid(places: NDArray[np.float64], columns: int, rows: int) -> Cells:
    """A cell (column, row) for each of ``places`` (N, 2), int64 (N, 2), no two the same.

    Neighbours stay neighbours and gaps stay gaps: cells that nobody needs are given to dummies that
    stand where there is no point, then points and dummies are parted by halves, across and down in
    turn, until each has a cell (DGrid; G. Hilasaca et al., "A Grid-based Method for Removing
    Overlaps of Dimensionality Reduction Scatterplot Layouts", 2019). ``columns * rows`` must be at
    least N.
    """
    count = len(places)
    if columns * rows < count:
        raise ValueError(f"{count} pictures have no room in {columns} x {rows} cells")
    low, extent = places.min(axis=0), np.ptp(places, axis=0)
    scaled = (places - low) / np.where(extent > 0, extent, 1) * (columns - 1, rows - 1)
    everyone = np.concatenate([scaled, _dummies(scaled, columns, rows)])
    cells = np.empty((len(everyone), 2), np.int64)
    parts = [(np.arange(len(everyone)), 0, 0, columns, rows)]
    while parts:
        members, left, top, wide, high = parts.pop()
        if len(members) == 1:
            cells[members[0]] = left, top
            continue
        axis = 0 if wide > high else 1
        half = (wide if axis == 0 else high) // 2
        first = half * (high if axis == 0 else wide)
        # By the other coordinate where this one is the same; stable, so the same every time.
        order = np.lexsort((everyone[members, 1 - axis], everyone[members, axis]))
        near, far = members[order[:first]], members[order[first:]]
        if axis == 0:
            parts += [(near, left, top, half, high), (far, left + half, top, wide - half, high)]
        else:
            parts += [(near, left, top, wide, half), (far, left, top + half, wide, high - half)]
    return cells[:count]


def _dummies(scaled: NDArray[np.float64], columns: int, rows: int) -> NDArray[np.float64]:
    """As many cells as are to stay empty, those farthest from any point."""
    from scipy.ndimage import distance_transform_edt

    free = np.ones((columns, rows), bool)
    free[tuple(np.rint(scaled).astype(int).T)] = False
    away = distance_transform_edt(free).ravel() if not free.all() else free.ravel().astype(float)
    # Of cells as far the ones in the corners last, so that the map keeps to the middle... evenly.
    wanted = columns * rows - len(scaled)
    chosen = np.argsort(-away, kind="stable")[:wanted]
    return np.stack(np.unravel_index(chosen, (columns, rows)), axis=1).astype(np.float64)
