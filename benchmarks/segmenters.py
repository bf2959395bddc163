"""Segmenters side by side: mIoU on photos with polygons, milliseconds on one core, megabytes.

Time is that of a photo decoded already, from pixels to objects; sides are measured in turn. The
bars are those of the segmenter in the box against its teacher, the first that is named.

    python benchmarks/segmenters.py DETECTION/annotations.jsonl litert:TEACHER.tflite raspp
        [SPEC]... [--half odd] [--runs 40] [--out FIGURES.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import cv2
from measure import interleaved, median, report, spread

from embedsearch.enrichers import registry
from embedsearch.enrichers.base import Enricher
from embedsearch.training.evaluate.outlines import read_outlined
from embedsearch.training.evaluate.segmentation import (
    evaluate_segmentation,
    pixels_of,
    with_polygons,
)

BAR_MIOU = 0.7
"""Of the first segmenter's."""
BAR_MB = 4.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("annotations", type=Path)
    arguments.add_argument("specs", nargs="+")
    arguments.add_argument("--half", choices=["odd", "even"], default="odd")
    arguments.add_argument("--runs", type=int, default=40)
    arguments.add_argument("--out", type=Path, help="also write the figures to this file")
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    segmenters = {spec: registry.load("segment", spec) for spec in given.specs}
    photos = with_polygons(read_outlined(given.annotations, given.half), given.annotations)
    figures: dict[str, dict[str, object]] = {}
    for spec, segmenter in segmenters.items():
        measured = evaluate_segmentation(given.annotations, segmenter, half=given.half)
        figures[spec] = {**measured, "bytes": getattr(segmenter, "weight_bytes", None)}
    look = max(segmenter.info.look for segmenter in segmenters.values())
    pictures = [pixels_of(photo, look) for photo in photos]
    spent: dict[str, list[float]] = {spec: [] for spec in segmenters}
    sides = {spec: _side(one, pictures, spent[spec]) for spec, one in segmenters.items()}
    times = interleaved(given.runs, **sides)
    bar = BAR_MIOU * float(str(figures[given.specs[0]]["mIoU"]))
    rows: list[tuple[str, str, str]] = []
    for place, (spec, found) in enumerate(figures.items()):
        found["ms"], found["cpu_ms"] = median(times[spec]), median(spent[spec])
        name = "the first" if place == 0 else Path(spec).name
        rows.append((f"{name}: mIoU", f"{found['mIoU']:.3f}", f">= {bar:.3f}" if place else ""))
        rows.append((f"{name}: a photo", f"{spread(times[spec], 1)} ms", ""))
        rows.append((f"{name}: a photo, CPU", f"{spread(spent[spec], 1)} ms", ""))
        if found["bytes"] is not None:
            size = f"{int(str(found['bytes'])) / 1e6:.2f} MB"
            rows.append((f"{name}: weights", size, f"<= {BAR_MB:g} MB" if place else ""))
    told = {Path(spec.partition("?")[0]).name: found for spec, found in figures.items()}
    values = {"photos": len(photos), "half": given.half, "segmenters": told}
    report("segmenters", rows, values)
    if given.out is not None:
        given.out.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _side(segmenter: Enricher, pictures: list, spent: list[float]) -> Callable[[], float]:
    turn = iter(range(10**9))

    def timed() -> float:
        picture = pictures[next(turn) % len(pictures)]
        begun, busy = time.perf_counter(), time.thread_time()
        segmenter.enrich(picture)
        spent.append((time.thread_time() - busy) * 1000)
        return (time.perf_counter() - begun) * 1000

    return timed


if __name__ == "__main__":
    main()
