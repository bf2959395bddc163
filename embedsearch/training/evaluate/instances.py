"""Objects one by one, by their outlines: average precision of masks, and panoptic quality."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedsearch.enrichers import masks
from embedsearch.enrichers.class_names import VOC, usual
from embedsearch.errors import DataError
from embedsearch.records import Detection
from embedsearch.training.evaluate.outlines import IGNORED, Outlined

BACKGROUND = 0


def mask_precision(
    pictures: Sequence[Outlined], found: Sequence[Sequence[Detection]]
) -> dict[str, float]:
    """``{"AP50", "AP"}`` of masks by COCO's rules (Lin et al., "Microsoft COCO", 2014), mean over
    those of VOC's classes that are present; crowds count neither way.

    Raises :class:`~embedsearch.errors.DataError` where there is no outlined object of them.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = _present(pictures)
    with redirect_stdout(io.StringIO()):  # the library prints its progress
        truth = COCO()
        truth.dataset = {
            "images": [
                {"id": n, "height": each.height, "width": each.width}
                for n, each in enumerate(pictures)
            ],
            "categories": [{"id": number} for number in numbers.values()],
            "annotations": _annotations(pictures, numbers),
        }
        truth.createIndex()
        told = COCO()  # as the library's own loader, which cannot load a list of nothing
        told.dataset = {**truth.dataset, "annotations": _results(pictures, found, numbers)}
        told.createIndex()
        measured = COCOeval(truth, told, "segm")
        measured.evaluate()
        measured.accumulate()
    precision = measured.eval["precision"][:, :, :, 0, -1]
    return {"AP50": float(precision[0].mean()), "AP": float(precision.mean())}


def panoptic_quality(pictures: Sequence[Outlined], found: Sequence[Sequence[Detection]]) -> float:
    """PQ, mean over those of VOC's classes that are present: how well matched segments agree, times
    the share that is matched (Kirillov et al., "Panoptic Segmentation", 2019, section 4). Pixels
    of crowds and of what has a box only count nowhere."""
    from torchmetrics.detection import PanopticQuality

    numbers = _present(pictures)
    measured = PanopticQuality(
        things=set(range(1, len(VOC) + 1)), stuffs={BACKGROUND}, allow_unknown_preds_category=True
    )
    for picture, objects in zip(pictures, found, strict=True):
        measured.update(_told(picture, objects)[None], _truth(picture)[None])
    places = [measured.cat_id_to_continuous_id[number] for number in numbers.values()]
    iou, right, false, missed = (
        each[places].double()
        for each in (
            measured.iou_sum,
            measured.true_positives,
            measured.false_positives,
            measured.false_negatives,
        )
    )
    return float((iou / (right + false / 2 + missed / 2).clamp(min=0.5)).mean())


def _present(pictures: Sequence[Outlined]) -> dict[str, int]:
    there = {t.label for each in pictures for t in each.things if t.is_outlined and not t.crowd}
    numbers = {label: number for number, label in enumerate(VOC, 1) if label in there}
    if not numbers:
        raise DataError("the pictures hold no outlined object of any class that is measured")
    return numbers


def _code(bitmap: masks.Bitmap) -> dict[str, Any]:
    mask = masks.encode(bitmap)
    return {"size": [mask.height, mask.width], "counts": mask.counts.encode("ascii")}


def _annotations(pictures: Sequence[Outlined], numbers: dict[str, int]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for place, picture in enumerate(pictures):
        for thing in picture.things:
            if thing.label in numbers:
                bitmap = picture.bitmap(thing)
                told.append(
                    {
                        "id": len(told) + 1,
                        "image_id": place,
                        "category_id": numbers[thing.label],
                        "segmentation": _code(bitmap),
                        "area": int(bitmap.sum()),
                        "iscrowd": int(thing.crowd or not thing.is_outlined),
                    }
                )
    return told


def _results(
    pictures: Sequence[Outlined],
    found: Sequence[Sequence[Detection]],
    numbers: dict[str, int],
) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for place, (picture, objects) in enumerate(zip(pictures, found, strict=True)):
        for each in objects:
            if usual(each.label) in numbers and each.mask is not None:
                bitmap = _bitmap(each, picture)
                told.append(
                    {
                        "id": len(told) + 1,
                        "image_id": place,
                        "category_id": numbers[usual(each.label)],
                        "segmentation": _code(bitmap),
                        "area": int(bitmap.sum()),
                        "score": each.score,
                    }
                )
    return told


def _bitmap(each: Detection, picture: Outlined) -> masks.Bitmap:
    assert each.mask is not None
    return masks.scaled(masks.decode(each.mask), picture.height, picture.width)


def _told(picture: Outlined, objects: Sequence[Detection]) -> torch.Tensor:
    """Class and number of the object of every pixel, int64 (height, width, 2); the surest object
    has a pixel that several claim."""
    told = np.zeros((picture.height, picture.width, 2), np.int64)
    for number, each in reversed(list(enumerate(objects, 1))):
        if usual(each.label) in VOC and each.mask is not None:
            told[_bitmap(each, picture)] = (VOC.index(usual(each.label)) + 1, number)
    return torch.from_numpy(told)


def _truth(picture: Outlined) -> torch.Tensor:
    """The same of what is there; what counts nowhere is of a class that is not known."""
    labels: NDArray[np.uint8] = picture.label_map(VOC)
    told = np.zeros((*labels.shape, 2), np.int64)
    told[..., 0] = labels
    whole = [each for each in picture.things if each.is_outlined and not each.crowd]
    for number, thing in enumerate(sorted(whole, key=lambda one: -one.box[2] * one.box[3]), 1):
        if thing.label in VOC:
            told[picture.bitmap(thing), 1] = number
    told[labels == IGNORED] = (IGNORED, 0)
    told[labels == BACKGROUND, 1] = 0
    return torch.from_numpy(told)
