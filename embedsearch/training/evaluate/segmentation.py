"""``segmentation``: does every pixel get the class of what it shows?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Enricher, Pixels, Segmenter
from embedsearch.enrichers.class_names import VOC, usual
from embedsearch.enrichers.semantic import InstanceSegmenter, enlarged
from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode
from embedsearch.records import Detection
from embedsearch.training.evaluate.detection import Half
from embedsearch.training.evaluate.ground_truth import Progress, silent
from embedsearch.training.evaluate.outlines import IGNORED, Outlined, read_outlined

LabelMap = NDArray[np.uint8]
LEAST = 0.05
"""Precision is averaged over all recalls, so that unlikely objects count too; and"""
USUAL = 0.5
"""panoptic quality is that of what is usually reported."""


class Confusion:
    """Pixels by what they show and what they were taken for, over any number of pictures."""

    def __init__(self, labels: Sequence[str]) -> None:
        """``labels`` are those of the classes from 1 on; 0 is background."""
        self.labels = tuple(labels)
        self.counts = np.zeros((len(labels) + 1,) * 2, np.int64)
        """[true, predicted]."""

    def add(self, truth: LabelMap, predicted: LabelMap) -> None:
        """Count a picture, both uint8 (height, width); where the truth is
        :data:`~embedsearch.training.evaluate.outlines.IGNORED` nothing counts."""
        counted = truth != IGNORED
        size = len(self.counts)
        pairs = truth[counted].astype(np.int64) * size + predicted[counted]
        self.counts += np.bincount(pairs, minlength=size * size).reshape(size, size)

    def figures(self) -> dict[str, Any]:
        """``{"mIoU", "by_label": {LABEL: IoU}}`` over the classes that are there, background not
        among them: pixels rightly of a class over those that are, or were taken for, of it.

        Raises :class:`~embedsearch.errors.DataError` where no class is there.
        """
        right = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - right
        present = np.flatnonzero(self.counts.sum(1)[1:]) + 1
        if not len(present):
            raise DataError("the pictures hold no object of any class that is measured")
        by_label = {self.labels[n - 1]: float(right[n] / union[n]) for n in present}
        return {"mIoU": float(np.mean(list(by_label.values()))), "by_label": by_label}


def evaluate_segmentation(
    path: Path, segmenter: Enricher, *, half: Half | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Measure over VOC's classes on JSON lines as
    :func:`~embedsearch.training.evaluate.outlines.read_outlined` takes them, on the pictures with
    polygons; the figures of :meth:`Confusion.figures`.

    A label of the segmenter that is none of VOC's counts as background. One that tells objects of
    a class apart has ``AP50``, ``AP`` and ``PQ`` of their masks too
    (:mod:`~embedsearch.training.evaluate.instances`). Raises
    :class:`~embedsearch.errors.DataError`.
    """
    if not isinstance(segmenter, Segmenter):
        raise DataError(f"{segmenter.info.spec}: does not tell what every pixel shows")
    pictures = with_polygons(read_outlined(path, half), path)
    numbers = class_numbers(segmenter.info.labels, VOC)
    confusion = Confusion(VOC)
    found: list[tuple[Detection, ...]] = []
    for done, picture in enumerate(pictures, 1):
        pixels = pixels_of(picture, segmenter.info.look)
        told = numbers[segmenter.label_map(pixels)]
        confusion.add(picture.label_map(VOC), enlarged(told, picture.height, picture.width))
        if isinstance(segmenter, InstanceSegmenter):
            found.append(segmenter.instances(pixels, LEAST))
        progress(done, len(pictures))
    figures = confusion.figures()
    if not found:
        return figures
    from embedsearch.training.evaluate.instances import mask_precision, panoptic_quality

    sure = [[each for each in objects if each.score >= USUAL] for objects in found]
    return {**figures, **mask_precision(pictures, found), "PQ": panoptic_quality(pictures, sure)}


def with_polygons(pictures: Sequence[Outlined], path: Path) -> list[Outlined]:
    """Those in which an object has polygons. Raises :class:`~embedsearch.errors.DataError` where
    there is none."""
    chosen = [picture for picture in pictures if any(each.polygons for each in picture.things)]
    if not chosen:
        raise DataError(f"{path}: no picture has objects with polygons")
    return chosen


def class_numbers(labels: Sequence[str], wanted: Sequence[str]) -> LabelMap:
    """By the number of a segmenter's class, its number among ``wanted``: uint8 (256,), 0 for
    background and for what is not wanted."""
    places = {label: number for number, label in enumerate(wanted, 1)}
    numbers = np.zeros(256, np.uint8)
    for number, label in enumerate(labels, 1):
        numbers[number] = places.get(usual(label), 0)
    return numbers


def pixels_of(picture: Outlined, look: int) -> Pixels:
    """The picture, its shorter side at least ``look`` where it has that. Raises
    :class:`~embedsearch.errors.DataError`."""
    try:
        return decode(picture.file, look).pixels
    except PictureError as error:
        raise DataError(f"{picture.where}: {picture.file} cannot be used: {error}") from error
