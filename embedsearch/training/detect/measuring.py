"""How well a detector finds objects that are whole, a quarter and half covered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embedsearch.enrichers.base import Pixels
from embedsearch.records import Detection
from embedsearch.training.detect.occlusion import SHARES, cover
from embedsearch.training.detect.samples import boxes_of
from embedsearch.training.evaluate.detection import (
    FROM,
    Photo,
    detection_figures,
    pixels_of,
    scaled,
)

Detect = Callable[[Pixels, float], Sequence[Detection]]


def ap50(detect: Detect, photos: Sequence[Photo], look: int, share: float = 0.0) -> float:
    """AP50 on ``photos``, decoded to at least ``look`` pixels, with ``share`` of each object
    covered."""
    found = []
    for place, photo in enumerate(photos):
        pixels, factor = pixels_of(photo, look)
        if share:
            pixels = cover(pixels, boxes_of(photo.things, factor), share, seed=place)
        found.append(scaled(detect(pixels, FROM), factor))
    figure: float = detection_figures(photos, found)["AP50"]
    return figure


def covered(detect: Detect, photos: Sequence[Photo], look: int) -> dict[str, float]:
    """AP50 by the share of each object that is covered: ``{"0", "25", "50"}``, in per cent."""
    return {f"{share:.0%}".rstrip("%"): ap50(detect, photos, look, share) for share in SHARES}
