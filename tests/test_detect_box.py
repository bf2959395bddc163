"""The detector in the box: it finds what is plainly there, offline, without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import skimage
from PIL import Image

from embedsearch.enrichers import registry
from embedsearch.enrichers.detect_onnx import WEIGHTS
from embedsearch.images.decode import decode
from embedsearch.training.detect.yolox import from_onnx

BOX = WEIGHTS / "yolox"
PHOTOS = Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="module")
def detector() -> Any:
    return registry.load("detect")


@pytest.mark.parametrize(
    ("photo", "label"),
    [("astronaut.png", "person"), ("chelsea.png", "cat"), ("coffee.png", "cup")],
)
def test_it_finds_what_is_plainly_there(detector: Any, photo: str, label: str) -> None:
    pixels = decode(PHOTOS / photo, detector.info.look).pixels
    found = detector.enrich(pixels).objects
    assert label == found[0].label
    height, width = pixels.shape[:2]
    for each in found:
        x, y, wide, tall = each.box
        assert x >= 0 and y >= 0 and x + wide <= width + 0.01 and y + tall <= height + 0.01


def test_what_it_finds_does_not_depend_on_how_large_the_picture_is(
    detector: Any, tmp_path: Path
) -> None:
    with Image.open(PHOTOS / "astronaut.png") as picture:
        picture.convert("RGB").resize((1400, 1400)).save(tmp_path / "large.png")
    large = detector.enrich(decode(tmp_path / "large.png", detector.info.look).pixels).objects
    small = detector.enrich(decode(PHOTOS / "astronaut.png", detector.info.look).pixels).objects
    assert (large[0].label, small[0].label) == ("person", "person")
    assert large[0].score == pytest.approx(small[0].score, abs=0.1)


def test_it_is_small_and_says_what_it_is(detector: Any) -> None:
    assert detector.weight_bytes < 4e6
    assert sum(file.stat().st_size for file in BOX.iterdir()) < 4e6
    info = detector.info
    assert (info.spec, info.stage, len(info.labels)) == ("yolox", "detect", 80)
    assert info.id.startswith("yolox-")
    for name in ("MODEL_CARD.md", "LICENSE", "figures.json"):
        assert (BOX / name).stat().st_size > 100
    assert json.loads((BOX / "figures.json").read_text())["half"] == "odd"


def test_it_needs_no_pytorch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from embedsearch.enrichers import registry\n"
        "registry.load('detect').enrich(np.zeros((50, 60, 3), np.uint8))\n"
        "assert not {'torch', 'torchvision', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_its_weights_are_where_training_can_go_on_from() -> None:
    network = from_onnx(BOX / "detector.onnx")
    assert network.classes == 80
