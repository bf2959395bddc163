"""R-CNN and Fast R-CNN with the encoder for a classifier: how fast, how good.

On photos with boxes: the share of objects that some proposed box overlaps by a half, by the number
of boxes (Selective Search; any label); then, with all labels of the photos for a vocabulary, AP50
of both ways, and of the same proposals named right wherever they fit (what Selective Search allows
at most); and seconds a photo that one core spends.

    python benchmarks/open_vocabulary.py DETECTION/annotations.jsonl [--half odd] [--encoder mini]
        [--sample 40]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from measure import median, report

from embedsearch.encoders import registry as encoders
from embedsearch.enrichers import registry
from embedsearch.enrichers.selective_search import propose
from embedsearch.records import Detection
from embedsearch.training.evaluate.detection import (
    FROM,
    Photo,
    detection_figures,
    pixels_of,
    present,
    read_photos,
    scaled,
)

COUNTS = (50, 100, 200, 500)
LOOK = 448


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("annotations", type=Path)
    arguments.add_argument("--half", choices=["odd", "even"], default="odd")
    arguments.add_argument("--encoder", default="mini")
    arguments.add_argument("--proposals", type=int, default=200)
    arguments.add_argument("--sample", type=int)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    photos = read_photos(given.annotations, given.half)
    if given.sample:
        photos = photos[:: max(1, len(photos) // given.sample)][: given.sample]
    pictures = [pixels_of(photo, LOOK) for photo in photos]
    begun = time.thread_time()
    boxes = [propose(pixels, max(COUNTS)) for pixels, _ in pictures]
    searching = (time.thread_time() - begun) / len(photos)
    rows: list[tuple[str, str, str]] = []
    figures: dict[str, object] = {"photos": len(photos), "selective_search_s": searching}
    for count in COUNTS:
        recall = _recall(photos, [found[:count] for found in boxes], [f for _, f in pictures])
        figures[f"recall_{count}"] = recall
        rows.append((f"recall of {count} proposals", f"{recall:.3f}", ""))
    labels = present(photos)
    limited = [found[: given.proposals] for found in boxes]
    best = detection_figures(photos, _named_right(photos, limited, [f for _, f in pictures]))
    figures["AP50_named_right"] = best["AP50"]
    rows.append((f"AP50, {given.proposals} proposals named right", f"{best['AP50']:.3f}", ""))
    encoder = encoders.load(given.encoder)
    for way in ("rcnn", "fast-rcnn"):
        spec = f"{way}?labels={','.join(labels)}&proposals={given.proposals}"
        detector = registry.load("detect", spec, encoder=encoder)
        found, seconds = [], []
        for pixels, factor in pictures:
            begun = time.thread_time()
            objects = detector.detect(pixels, FROM)  # type: ignore[attr-defined]
            seconds.append(time.thread_time() - begun)
            found.append(scaled(objects, factor))
        measured = detection_figures(photos, found)
        figures[way] = {"AP50": measured["AP50"], "AP": measured["AP"], "s": median(seconds)}
        told = f"{measured['AP50']:.3f}, {median(seconds):.2f} s a photo"
        rows.append((f"AP50 of {way}, {len(labels)} labels", told, ""))
    rows.append(("of which Selective Search", f"{searching:.2f} s a photo", ""))
    report("open_vocabulary", rows, figures)


def _recall(
    photos: Sequence[Photo],
    boxes: Sequence[np.ndarray],
    factors: Sequence[tuple[float, float]],
) -> float:
    hits, total = 0, 0
    for photo, found, factor in zip(photos, boxes, factors, strict=True):
        truths = [thing.box for thing in photo.things if not thing.crowd]
        overlap = _iou(np.array(truths).reshape(-1, 4), found * np.array([*factor, *factor]))
        hits += int((overlap.max(1, initial=0) >= 0.5).sum())
        total += len(truths)
    return hits / total


def _named_right(
    photos: Sequence[Photo],
    boxes: Sequence[np.ndarray],
    factors: Sequence[tuple[float, float]],
) -> list[list[Detection]]:
    named = []
    for photo, found, factor in zip(photos, boxes, factors, strict=True):
        things = [thing for thing in photo.things if not thing.crowd]
        placed = found * np.array([*factor, *factor])
        overlap = _iou(np.array([thing.box for thing in things]).reshape(-1, 4), placed)
        named.append(
            [
                Detection(thing.label, 1.0, tuple(placed[int(row.argmax())]))
                for thing, row in zip(things, overlap, strict=True)
                if row.max(initial=0) >= 0.5
            ]
        )
    return named


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of boxes x, y, width, height: (N, M)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    common = (high - low).clip(0).prod(2)
    areas = one[:, 2:].prod(1)[:, None] + other[:, 2:].prod(1)[None]
    return common / (areas - common)


if __name__ == "__main__":
    main()
