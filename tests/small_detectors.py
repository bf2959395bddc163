"""What the tests of training detectors share: drawn photos with boxes, a network to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from embedsearch.enrichers.detector_file import MODEL, write_detector
from embedsearch.training.detect.yolox import Yolox, export

SIDE = 64
COLOURS = {"red thing": (230, 20, 20), "blue thing": (20, 20, 230)}


def draw_photos(folder: Path, count: int = 12) -> Path:
    """Photos of 64x64 with one thing each, and their boxes as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        label = list(COLOURS)[number % 2]
        pixels = rng.integers(90, 140, (SIDE, SIDE, 3), dtype=np.uint8)
        x, y = (int(value) for value in rng.integers(2, SIDE - 30, 2))
        width, height = (int(value) for value in rng.integers(18, 28, 2))
        pixels[y : y + height, x : x + width] = COLOURS[label]
        Image.fromarray(pixels).save(folder / f"{number}.png")
        thing = {"label": label, "bbox": [x, y, width, height], "iscrowd": 0}
        rows.append(
            {"file": f"{number}.png", "width": SIDE, "height": SIDE, "source": "drawn"}
            | {"objects": [thing]}
        )
    path = folder / "annotations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_yolox(folder: Path, labels: tuple[str, ...] = tuple(COLOURS), seed: int = 0) -> Path:
    """A folder with an untrained YOLOX-nano for 64 px."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    export(Yolox(len(labels)), folder / MODEL, SIDE)
    told = {"name": "small", "output": {"kind": "yolox"}, "labels": list(labels)}
    write_detector(told | {"input": {"size": SIDE, "layout": "nhwc"}}, folder)
    return folder
