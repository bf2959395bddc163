"""What an encoder costs: size, and time for one photo and one text on one core.

The image tower alone (uint8 square in, embedding out, ONNX Runtime on one thread), with resizing
before it as indexing does (decoding is not counted), and a text query once the tower is loaded.
Sides of one run are measured in turn. Bars are those of the encoder in the box.

    python benchmarks/encoder_cost.py [--encoder SPEC]... [--runs 200]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import interleaved, median, report, spread

from embedsearch.encoders import registry
from embedsearch.encoders.base import Encoder
from embedsearch.encoders.onnx import IMAGE

TEXTS = (
    "a photo of a dog",
    "two children play in the snow next to a red sledge",
    "a man in a blue shirt is climbing up a rock face without a rope on a sunny day",
    "coffee",
)
PHOTO = (480, 640)
"""Height and width of the decoded photo that is resized."""
BARS_MB = {"image": 6.0, "package": 12.0}
BARS_MS = {"tower": 8.0, "text": 1.0}
BAR_AT = 224
"""Pixels; the bar on a photo's milliseconds is set at this size."""


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--encoder", action="append")
    arguments.add_argument("--runs", type=int, default=200)
    given = arguments.parse_args()
    encoders = {spec: registry.load(spec) for spec in given.encoder or ["mini"]}
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*PHOTO, 3), dtype=np.uint8)
    sides: dict[str, Callable[[], float]] = {}
    for spec, encoder in encoders.items():
        square = rng.integers(0, 256, (encoder.info.input_size,) * 2 + (3,), dtype=np.uint8)
        sides[f"{spec} tower"] = _side(encoder, square)
        sides[f"{spec} photo"] = _side(encoder, photo)
        if encoder.info.has_text:
            sides[f"{spec} text"] = _texts(encoder)
    found = interleaved(given.runs, **sides)
    rows: list[tuple[str, str, str]] = []
    for spec, encoder in encoders.items():
        rows += _rows(spec, encoder, found)
    package = folder_bytes(registry.WEIGHTS)
    rows.append(("package data", f"{package / 1e6:.2f} MB", f"<= {BARS_MB['package']:g} MB"))
    report(
        "encoder_cost",
        rows,
        {
            "about": f"one thread, median (min-max) of {given.runs}; a photo of 640x480 decoded",
            "ms": {name: median(values) for name, values in found.items()},
            "package_bytes": package,
        },
    )


def _side(encoder: Encoder, pixels: np.ndarray) -> Callable[[], float]:
    return lambda: timed(lambda: encoder.encode_images([pixels]))


def _texts(encoder: Encoder) -> Callable[[], float]:
    """Mean of several texts: one of them would be at the mercy of its length."""
    return lambda: timed(lambda: [encoder.encode_texts([text]) for text in TEXTS]) / len(TEXTS)


def _rows(spec: str, encoder: Encoder, found: dict[str, list[float]]) -> list[tuple[str, str, str]]:
    rows, size = [], encoder.info.input_size
    folder: Path | None = getattr(encoder, "folder", None)
    if folder is not None:
        image = (folder / IMAGE).stat().st_size / 1e6
        rows.append((f"{spec}: image tower", f"{image:.2f} MB", f"<= {BARS_MB['image']:g} MB"))
    weights = getattr(encoder, "weight_bytes", None)
    if weights is not None:
        rows.append((f"{spec}: all weights", f"{weights / 1e6:.2f} MB", ""))
    bar = f"<= {BARS_MS['tower']:g} ms" + ("" if size == BAR_AT else f" at {BAR_AT} px")
    tower = f"{spread(found[f'{spec} tower'], 2)} ms"
    rows.append((f"{spec}: image tower, {size} px", tower, bar))
    photo = f"{spread(found[f'{spec} photo'], 2)} ms"
    rows.append((f"{spec}: photo, resized and encoded", photo, ""))
    if f"{spec} text" in found:
        text = f"{spread(found[f'{spec} text'], 3)} ms"
        rows.append((f"{spec}: text", text, f"<= {BARS_MS['text']:g} ms"))
    return rows


if __name__ == "__main__":
    main()
