"""From what a YOLO gives to boxes.

- ``yolox``: rows x, y, log w, log h, objectness, classes, on grids of several strides (Ge et al.,
  "YOLOX: Exceeding YOLO Series in 2021"): centre = (x, y + cell) * stride, size = exp * stride.
- ``ultralytics``: centre and size in pixels of the input, then the classes; or with objectness
  before them; rows and columns either way round; or, end to end, corners, score and class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.detector_file import Output
from embedsearch.errors import EnricherError

Floats = NDArray[np.float32]
_CANDIDATES = 1000
"""So many of the best boxes can take one another out."""


def read_output(
    given: Floats, output: Output, classes: int, size: tuple[int, int]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes (N, 4) as x, y, width, height in pixels of the input, scores (N,), labels (N,).

    ``given`` is what the network gave for one picture, without the axis of the batch; ``size`` is
    the input's height and width. Raises :class:`~embedsearch.errors.EnricherError` for a shape
    that does not fit.
    """
    if output.kind == "yolox":
        rows = _rows(given, 5 + classes)
        return _scored(_on_grid(rows, output.strides, size), rows[:, 5:] * rows[:, 4:5])
    if output.end_to_end:
        rows = _rows(given, 6)
        boxes = np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2]], 1)
        return boxes, rows[:, 4], rows[:, 5].astype(np.int64)
    rows = _rows(given, 4 + output.objectness + classes)
    scores = rows[:, 5:] * rows[:, 4:5] if output.objectness else rows[:, 4:]
    return _scored(rows[:, :4], scores)


def best_boxes(
    boxes: Floats,
    scores: Floats,
    labels: NDArray[np.int64],
    *,
    threshold: float,
    overlap: float,
    most: int,
) -> NDArray[np.int64]:
    """Places of the boxes to keep, the best first: of two of one label whose IoU is above
    ``overlap``, one (non-maximum suppression)."""
    import cv2

    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= threshold][:_CANDIDATES]
    if not len(order):
        return order
    kept = cv2.dnn.NMSBoxesBatched(
        boxes[order].astype(float).tolist(),
        scores[order].tolist(),
        labels[order].tolist(),
        0.0,
        overlap,
    )
    return order[np.sort(np.asarray(kept, np.int64))[:most]]


def _rows(given: Floats, columns: int) -> Floats:
    if given.ndim == 2 and given.shape[1] == columns:
        return given
    if given.ndim == 2 and given.shape[0] == columns:
        return given.T
    raise EnricherError(
        f"the model gives {given.shape} for a picture, expected (boxes, {columns}): are its labels "
        "and its kind of output what detector.json says?"
    )


def _scored(boxes: Floats, scores: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes given by their centres, each with its best class."""
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    labels = scores.argmax(1)
    return corners, scores[np.arange(len(scores)), labels], labels


def _on_grid(rows: Floats, strides: Sequence[int], size: tuple[int, int]) -> Floats:
    cells, steps = _grid(tuple(strides), size)
    if len(cells) != len(rows):
        raise EnricherError(
            f"the model gives {len(rows)} boxes, expected {len(cells)} for an input of "
            f"{size[0]}x{size[1]} and the strides {', '.join(map(str, strides))}."
        )
    centres = (rows[:, :2] + cells) * steps
    with np.errstate(over="ignore"):
        return np.concatenate([centres, np.exp(rows[:, 2:4]) * steps], 1)


@lru_cache(maxsize=8)
def _grid(strides: tuple[int, ...], size: tuple[int, int]) -> tuple[Floats, Floats]:
    cells, steps = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], 1))
        steps.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)
