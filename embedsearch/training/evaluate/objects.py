"""``objects``: does the name of an object find the pictures that hold one, small ones too?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DataError
from embedsearch.training.evaluate.detection import Photo
from embedsearch.training.evaluate.metrics import average_precisions

SMALL = 0.1
"""An object is small where its box is less than this share of the picture."""


@dataclass(frozen=True, slots=True)
class ObjectQueries:
    """Labels, and by which pictures each is answered; two arrays bool (labels, photos)."""

    labels: tuple[str, ...]
    holds: NDArray[np.bool_]
    holds_large: NDArray[np.bool_]
    """Whether the largest object of the label in the picture is not small."""


def object_queries(photos: Sequence[Photo]) -> ObjectQueries:
    """Every label that some picture holds. Raises :class:`~embedsearch.errors.DataError` where
    there is none."""
    labels = sorted({thing.label for photo in photos for thing in photo.things})
    if not labels:
        raise DataError("the photos hold no object to ask for")
    shares = np.zeros((len(labels), len(photos)))
    for column, photo in enumerate(photos):
        for thing in photo.things:
            row = labels.index(thing.label)
            share = thing.box[2] * thing.box[3] / (photo.width * photo.height)
            shares[row, column] = max(shares[row, column], share)
    return ObjectQueries(tuple(labels), shares > 0, shares >= SMALL)


def objects_figures(queries: ObjectQueries, scores: NDArray[np.float32]) -> dict[str, object]:
    """``{"all": {"mAP"}, "small": {"mAP"}}`` of ``scores`` (labels, photos), higher is better.

    All: every picture that holds the label is relevant. Small: those where its largest object is
    under a tenth of the picture; pictures that hold a larger one leave the query, and queries that
    nothing is left for are left out. NaN where none remains.
    """
    averages = average_precisions(scores, queries.holds)
    small = []
    for row in range(len(queries.labels)):
        stays = ~queries.holds_large[row]
        relevant = queries.holds[row, stays]
        if relevant.any():
            kept = scores[row, stays][None]
            small.append(float(average_precisions(kept, relevant[None])[0]))
    return {
        "all": {"mAP": float(averages.mean())},
        "small": {"mAP": float(np.mean(small)) if small else float("nan")},
    }
