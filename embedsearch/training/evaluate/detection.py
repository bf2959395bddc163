"""``detection``: are the objects of photos found, and named?"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Detector, Enricher, Pixels
from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode
from embedsearch.records import Box, Detection
from embedsearch.training.evaluate.ground_truth import Progress, Row, read_json_lines, silent

Half = Literal["odd", "even"]
PERSONS_ONLY = "pennfudan"
"""Its photos label persons, and nothing else that is in them."""
FROM = 0.001
"""Precision is averaged over all recalls, so that unlikely boxes count too."""


@dataclass(frozen=True, slots=True)
class Thing:
    """An object that is there."""

    label: str
    box: Box
    crowd: bool = False
    """Many in one box: whatever is found there counts neither way."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture and what is in it."""

    file: Path
    where: str
    things: tuple[Thing, ...]
    width: int
    """Of the picture that the boxes are measured in."""
    height: int
    scored: frozenset[str] | None = None
    """Labels that it can be measured by; None is all."""


def evaluate_detection(
    path: Path,
    detector: Enricher,
    *,
    half: Half | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure on JSON lines with ``file``, ``width``, ``height``, ``source`` and ``objects``
    (``label``, ``bbox`` = x, y, width, height in pixels, ``iscrowd``); the figures of
    :func:`detection_figures`.

    ``half``: only files whose name has an odd or even SHA-1. Raises
    :class:`~embedsearch.errors.DataError`.
    """
    photos = read_photos(path, half)
    found = []
    for done, photo in enumerate(photos, 1):
        pixels, factor = pixels_of(photo, detector.info.look)
        found.append(scaled(_objects(detector, pixels), factor))
        progress(done, len(photos))
    return detection_figures(photos, found)


def detection_figures(
    photos: Sequence[Photo], found: Sequence[Sequence[Detection]]
) -> dict[str, Any]:
    """``{"AP50", "AP", "by_label": {LABEL: AP50}}`` by COCO's rules (Lin et al., "Microsoft COCO",
    2014): average precision at an IoU of 0.5, and the mean over 0.5 to 0.95; each the mean over the
    labels that are present.

    Raises :class:`~embedsearch.errors.DataError` where no object is present.
    """
    labels = present(photos)
    if not labels:
        raise DataError("the photos hold no object to measure by")
    precision = _coco(photos, found, labels).eval["precision"][:, :, :, 0, -1]
    return {
        "AP50": _mean(precision[0]),
        "AP": _mean(precision),
        "by_label": {label: _mean(precision[0, :, k]) for k, label in enumerate(labels)},
    }


def present(photos: Sequence[Photo]) -> list[str]:
    """Labels of which there is an object that is no crowd."""
    return sorted({thing.label for photo in photos for thing in photo.things if not thing.crowd})


def read_photos(path: Path, half: Half | None = None) -> list[Photo]:
    """The photos of a file as in :func:`evaluate_detection`."""
    photos = [_photo(row) for row in read_json_lines(path)]
    wanted = [photo for photo in photos if half is None or half_of(photo.file) == half]
    if not wanted:
        raise DataError(f"{path}: none of its files is in the {half} half")
    return wanted


def half_of(file: Path) -> Half:
    """The half that a file is in by the SHA-1 of its name."""
    digest = hashlib.sha1(file.name.encode(), usedforsecurity=False).digest()
    return "odd" if digest[-1] % 2 else "even"


def pixels_of(photo: Photo, look: int) -> tuple[Pixels, tuple[float, float]]:
    """The picture with a shorter side of at least ``look``, and how many pixels of the annotation
    one of its pixels is, across and down. Raises :class:`~embedsearch.errors.DataError`."""
    try:
        pixels = decode(photo.file, look).pixels
    except PictureError as error:
        raise DataError(f"{photo.where}: {photo.file} cannot be used: {error}") from error
    return pixels, (photo.width / pixels.shape[1], photo.height / pixels.shape[0])


def scaled(found: Sequence[Detection], factor: tuple[float, float]) -> list[Detection]:
    """Detections with their boxes in the pixels of the annotation."""
    x, y = factor
    return [
        Detection(each.label, each.score, _times(each.box, (x, y, x, y)), each.mask)
        for each in found
    ]


def _times(box: Box, factors: Box) -> Box:
    return (box[0] * factors[0], box[1] * factors[1], box[2] * factors[2], box[3] * factors[3])


def _objects(detector: Enricher, pixels: Pixels) -> tuple[Detection, ...]:
    if isinstance(detector, Detector):
        return detector.detect(pixels, FROM)
    return detector.enrich(pixels).objects


def _photo(row: Row) -> Photo:
    source = str(row.values.get("source", ""))
    objects = row.values.get("objects")
    if not isinstance(objects, list):
        raise DataError(f"{row.where}: 'objects' is missing")
    width, height = row.values.get("width"), row.values.get("height")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        raise DataError(f"{row.where}: 'width' and 'height' of the picture are missing")
    return Photo(
        row.file(),
        row.where,
        tuple(_thing(each, row.where) for each in objects),
        width,
        height,
        scored=frozenset(["person"]) if PERSONS_ONLY in source.lower() else None,
    )


def _thing(told: Any, where: str) -> Thing:
    try:
        x, y, width, height = (float(value) for value in told["bbox"])
        label = told["label"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: an object needs 'label' and 'bbox' = x, y, w, h") from error
    if not isinstance(label, str) or not label or not (width > 0 and height > 0):
        raise DataError(f"{where}: an object has no label, or a box without an inside")
    return Thing(label, (x, y, width, height), bool(told.get("iscrowd")))


def _coco(
    photos: Sequence[Photo], found: Sequence[Sequence[Detection]], labels: Sequence[str]
) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {label: number for number, label in enumerate(labels, 1)}
    with redirect_stdout(io.StringIO()):  # the library prints its progress
        truth = COCO()
        truth.dataset = {
            "images": [{"id": place} for place in range(len(photos))],
            "categories": [{"id": number, "name": label} for label, number in numbers.items()],
            "annotations": _annotations(photos, numbers),
        }
        truth.createIndex()
        measured = COCOeval(truth, _loaded(truth, _results(photos, found, numbers)), "bbox")
        measured.evaluate()
        measured.accumulate()
    return measured


def _loaded(truth: Any, results: NDArray[np.float64]) -> Any:
    if len(results):
        return truth.loadRes(results)
    from pycocotools.coco import COCO

    nothing = COCO()  # the library cannot load a list of nothing
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def _annotations(photos: Sequence[Photo], numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    told = [
        {
            "image_id": place,
            "category_id": numbers[thing.label],
            "bbox": list(thing.box),
            "area": thing.box[2] * thing.box[3],
            "iscrowd": int(thing.crowd),
        }
        for place, photo in enumerate(photos)
        for thing in photo.things
        if thing.label in numbers and (photo.scored is None or thing.label in photo.scored)
    ]
    return [{"id": number, **each} for number, each in enumerate(told, 1)]


def _results(
    photos: Sequence[Photo], found: Sequence[Sequence[Detection]], numbers: Mapping[str, int]
) -> NDArray[np.float64]:
    """Rows of picture, box, score, label, as the library reads them."""
    rows = [
        (place, *each.box, each.score, numbers[each.label])
        for place, (photo, objects) in enumerate(zip(photos, found, strict=True))
        for each in sorted(objects, key=_by_score)
        if each.label in numbers and (photo.scored is None or each.label in photo.scored)
    ]
    return np.array(rows, np.float64).reshape(len(rows), 7)


def _by_score(detection: Detection) -> float:
    return -detection.score


def _mean(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0
