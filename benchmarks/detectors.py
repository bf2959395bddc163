"""Detectors side by side: AP50 and AP on photos with boxes, milliseconds on one core, megabytes.

Time is that of a photo decoded already, from pixels to boxes; sides are measured in turn. On a busy
machine the time that the core spent (CPU) says more than the clock. The bars are those of the
detector in the box against the one it was started from, the first that is named.

    python benchmarks/detectors.py DETECTION/annotations.jsonl yolo:yolox_nano.onnx yolox [SPEC]...
        [--half odd] [--runs 60]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from measure import interleaved, median, report, spread

from embedsearch.enrichers import registry
from embedsearch.enrichers.base import Enricher
from embedsearch.training.evaluate.detection import evaluate_detection, pixels_of, read_photos

BAR_AP50 = 0.8
"""Of the first detector's."""
BAR_MB, BAR_MS = 4.0, 40.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("annotations", type=Path)
    arguments.add_argument("specs", nargs="+")
    arguments.add_argument("--half", choices=["odd", "even"], default="odd")
    arguments.add_argument("--runs", type=int, default=60)
    given = arguments.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    detectors = {spec: registry.load("detect", spec) for spec in given.specs}
    photos = read_photos(given.annotations, given.half)
    figures: dict[str, dict[str, object]] = {}
    for spec, detector in detectors.items():
        measured = evaluate_detection(given.annotations, detector, half=given.half)
        size = getattr(detector, "weight_bytes", None)
        figures[spec] = {"AP50": measured["AP50"], "AP": measured["AP"], "bytes": size}
    look = max(detector.info.look for detector in detectors.values())
    pictures = [pixels_of(photo, look)[0] for photo in photos]
    spent: dict[str, list[float]] = {spec: [] for spec in detectors}
    sides = {spec: _side(one, pictures, spent[spec]) for spec, one in detectors.items()}
    times = interleaved(given.runs, **sides)
    bar = BAR_AP50 * float(str(figures[given.specs[0]]["AP50"]))
    rows: list[tuple[str, str, str]] = []
    for place, (spec, found) in enumerate(figures.items()):
        found["ms"], found["cpu_ms"] = median(times[spec]), median(spent[spec])
        name = "the first" if place == 0 else spec
        rows.append((f"{name}: AP50", f"{found['AP50']:.3f}", f">= {bar:.3f}" if place else ""))
        rows.append((f"{name}: AP", f"{found['AP']:.3f}", ""))
        limit = f"<= {BAR_MS:g} ms" if place else ""
        rows.append((f"{name}: a photo", f"{spread(times[spec], 1)} ms", ""))
        rows.append((f"{name}: a photo, CPU", f"{spread(spent[spec], 1)} ms", limit))
        if found["bytes"] is not None:
            size = f"{int(str(found['bytes'])) / 1e6:.2f} MB"
            rows.append((f"{name}: weights", size, f"<= {BAR_MB:g} MB" if place else ""))
    told = {Path(spec.partition("?")[0]).name: found for spec, found in figures.items()}
    report("detectors", rows, {"photos": len(photos), "half": given.half, "detectors": told})


def _side(detector: Enricher, pictures: list, spent: list[float]) -> Callable[[], float]:
    turn = iter(range(10**9))

    def timed() -> float:
        picture = pictures[next(turn) % len(pictures)]
        begun, busy = time.perf_counter(), time.thread_time()
        detector.enrich(picture)
        spent.append((time.thread_time() - busy) * 1000)
        return (time.perf_counter() - begun) * 1000

    return timed


if __name__ == "__main__":
    main()
