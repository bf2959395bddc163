"""How followed objects look, and what that says about which detection is which object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Boxes = NDArray[np.float64]
"""Corners x0, y0, x1, y1, shape (N, 4)."""

KEEP = 0.9
"""Part of a template that stays when a new look is taken in, as in Zhang et al., "FairMOT", 2021,
and Aharon et al., "BoT-SORT", 2022."""
SURE = 0.5
"""A look counts where the detection's score is at least this ..."""
FREE = 0.5
""" ... and no other box overlaps it (IoU) by more than this: else it shows something else too."""
WEIGHT = 0.6
"""Of how alike things look, against how their boxes overlap."""
UNLIKE = 0.65
"""Cosine at and below which two looks have nothing in common; 1 is the same look. In ``mini``'s
space two crops of one person have about 0.85, of two persons 0.35 to 0.7."""
TOUCHING = 0.05
"""IoU of a detection with where an object is expected, below which looks are not asked."""


class Templates:
    """One embedding for each followed object: a running mean of its looks, which changes as the
    object does and not when something passes before it."""

    def __init__(self) -> None:
        self._known: dict[int, Vector] = {}

    def get(self, track: int) -> Vector | None:
        return self._known.get(track)

    def see(self, track: int, look: Vector, score: float, covered: float) -> None:
        """Take in a look: float32 (dim,), L2-normalised, of a detection with this score, of which
        another box covers this much (IoU)."""
        known = self._known.get(track)
        if known is None:
            self._known[track] = look
        elif score >= SURE and covered <= FREE:
            mean = KEEP * known + (1 - KEEP) * look
            self._known[track] = unit(mean)


def alike(looks: Mapping[bytes, Vector], templates: Templates) -> Any:
    """The similarity that a tracker of the library ``trackers`` associates by: the overlap of
    boxes, mixed with how alike detection and object look where both are known.

    ``looks`` holds the embedding of each detection of the frame by the bytes of its box. The
    tracker that is made with this is to be set as its ``tracker``.
    """
    from trackers import IoU

    class Alike(IoU):  # type: ignore[misc]
        tracker: Any = None

        def _compute(self, boxes_1: Boxes, boxes_2: Boxes) -> NDArray[np.float64]:
            overlap: NDArray[np.float64] = super()._compute(boxes_1, boxes_2)
            tracks = self.tracker.tracks
            numbers = {one.get_state_bbox().tobytes(): one.tracker_id for one in tracks}
            known = [templates.get(numbers.get(box.tobytes(), -1)) for box in boxes_1]
            seen = [looks.get(box.tobytes()) for box in boxes_2]
            return mixed(overlap, known, seen)

    return Alike()


def unit(vector: NDArray[np.floating[Any]]) -> Vector:
    """A vector of length 1 in the same direction."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


def mixed(
    overlap: NDArray[np.float64], known: list[Vector | None], seen: list[Vector | None]
) -> NDArray[np.float64]:
    """Similarities (tracks, detections) in [0, 1] of overlaps and looks."""
    result = overlap.copy()
    for row, template in enumerate(known):
        for column, look in enumerate(seen):
            if template is None or look is None:
                continue
            likeness = min(max((float(template @ look) - UNLIKE) / (1 - UNLIKE), 0.0), 1.0)
            if overlap[row, column] <= TOUCHING:
                likeness = 0.0
            result[row, column] = (1 - WEIGHT) * overlap[row, column] + WEIGHT * likeness
    return result
