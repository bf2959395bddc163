"""From a picture through a YOLO to the objects in it, whatever runs the network."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Pixels
from embedsearch.enrichers.detect_boxes import best_boxes, read_output
from embedsearch.enrichers.detector_file import DetectorFile
from embedsearch.records import Detection


class Network(Protocol):
    """What runs one picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its input."""
        ...

    def run(self, entered: NDArray[Any]) -> NDArray[np.float32]:
        """From one picture as :func:`entering` makes it to its rows, without an axis of batches."""
        ...


def objects_in(
    picture: Pixels, file: DetectorFile, network: Network, threshold: float
) -> tuple[Detection, ...]:
    """Objects with at least this score, the best first, their boxes inside the picture."""
    entered, scale, shift = entering(picture, network.size, file)
    given = network.run(entered)
    boxes, scores, labels = read_output(given, file.output, len(file.labels), network.size)
    usable = np.isfinite(boxes).all(1) & np.isfinite(scores)
    boxes, scores, labels = boxes[usable], scores[usable], labels[usable]
    boxes = ((boxes - [*shift, 0, 0]) / [*scale, *scale]).astype(np.float32)
    kept = best_boxes(
        boxes,
        scores,
        labels,
        threshold=threshold,
        overlap=1.0 if file.output.end_to_end else file.nms,
        most=file.most,
    )
    found = [_detection(boxes[at], scores[at], labels[at], file, picture) for at in kept]
    return tuple(each for each in found if each is not None)


def _detection(
    box: NDArray[np.float32], score: float, label: int, file: DetectorFile, picture: Pixels
) -> Detection | None:
    height, width = picture.shape[:2]
    left, right = np.clip((box[0], box[0] + box[2]), 0, width)
    top, bottom = np.clip((box[1], box[1] + box[3]), 0, height)
    if right - left < 1 or bottom - top < 1 or not 0 <= label < len(file.labels):
        return None
    inside = (float(left), float(top), float(right - left), float(bottom - top))
    return Detection(file.labels[label], float(min(max(score, 0.0), 1.0)), inside)


def entering(
    picture: Pixels, size: tuple[int, int], file: DetectorFile
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """A picture as the network takes it, and how it lies there: a point (x, y) of the picture is at
    (x, y) * scale + shift.

    ``size`` is the input's height and width; the result has the layout of ``file.input``. It stays
    bytes where nothing is taken off or divided.
    """
    import cv2

    told = file.input
    height, width = picture.shape[:2]
    scale = np.array([size[1] / width, size[0] / height])
    if told.place != "squash":
        scale[:] = scale.min()
    inner = (
        max(1, min(size[1], round(width * scale[0]))),
        max(1, min(size[0], round(height * scale[1]))),
    )
    # Where many pixels become one, all of them must count.
    way = cv2.INTER_AREA if scale.max() < 0.5 else cv2.INTER_LINEAR
    resized = cv2.resize(picture, inner, interpolation=way)
    shift = np.zeros(2)
    if told.place == "middle":
        shift[:] = (size[1] - inner[0]) // 2, (size[0] - inner[1]) // 2
    canvas = np.full((*size, 3), told.pad, np.uint8)
    left, top = shift.astype(int)
    canvas[top : top + inner[1], left : left + inner[0]] = resized
    if told.colour == "bgr":
        canvas = canvas[:, :, ::-1]
    entered: NDArray[Any] = canvas
    if any(told.mean) or set(told.std) != {1.0}:
        entered = (canvas - np.array(told.mean, np.float32)) / np.array(told.std, np.float32)
    if told.layout == "nchw":
        entered = entered.transpose(2, 0, 1)
    return np.ascontiguousarray(entered), scale, shift
