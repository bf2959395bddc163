"""Shots of one moment: taken within a few seconds of one another, and alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

WITHIN = 16
"""Each shot is held against so many that follow; a longer burst hangs together all the same."""


def seconds(taken_at: str | None) -> float:
    """A time in ISO 8601 as seconds on the camera's own clock; NaN where there is none.

    The offset from UTC is left out: not all cameras give it, and shots of one burst share it.
    """
    if taken_at is None:
        return float("nan")
    try:
        return datetime.fromisoformat(taken_at).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


def burst_pairs(
    rows: NDArray[np.float16], times: Sequence[float], gap: float, least: float
) -> Iterator[tuple[int, int]]:
    """Positions of pictures taken at most ``gap`` seconds apart whose cosine is at least
    ``least``. ``rows`` are (N, dim), L2-normalised, ``times`` seconds or NaN."""
    taken = np.asarray(times, np.float64)
    order = np.flatnonzero(np.isfinite(taken))
    order = order[np.argsort(taken[order], kind="stable")]
    for step in range(1, WITHIN + 1):
        first, second = order[:-step], order[step:]
        near = np.flatnonzero(taken[second] - taken[first] <= gap)
        for start in range(0, len(near), 4096):
            block = near[start : start + 4096]
            one = rows[first[block]].astype(np.float32)
            other = rows[second[block]].astype(np.float32)
            alike = block[np.vecdot(one, other) >= least]
            yield from zip(first[alike].tolist(), second[alike].tolist(), strict=True)
