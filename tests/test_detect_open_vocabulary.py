"""Objects of any name: boxes that Selective Search proposes, named by an encoder's words."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from colour_encoder import ColourEncoder

from embedsearch.encoders import registry as encoders
from embedsearch.encoders.towers import towers_of
from embedsearch.enrichers import registry
from embedsearch.enrichers.selective_search import propose
from embedsearch.enrichers.shared_map import SharedMap
from embedsearch.errors import EnricherError

RED, BLUE, YELLOW = (220, 35, 30), (30, 60, 220), (240, 220, 40)


def picture() -> Any:
    """Grey, with a red and a blue thing."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(110, 130, (120, 200, 3)).astype(np.uint8)
    pixels[20:70, 30:80] = RED
    pixels[60:100, 130:180] = BLUE
    return pixels


def overlap(one: Any, other: Any) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    return float(common / (one[2] * one[3] + other[2] * other[3] - common))


def test_things_that_differ_from_what_is_around_them_are_proposed() -> None:
    boxes = propose(picture(), 50)
    for thing in ((30, 20, 50, 50), (130, 60, 50, 40)):
        assert max(overlap(box, thing) for box in boxes) > 0.8
    assert len(propose(picture(), 3)) == 3
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= [200.01, 120.01]).all()


def test_boxes_of_large_pictures_are_in_their_own_pixels() -> None:
    large = np.kron(picture(), np.ones((5, 5, 1), np.uint8))
    boxes = propose(large, 50)
    assert max(overlap(box, (150, 100, 250, 250)) for box in boxes) > 0.8


def test_a_flat_picture_has_no_more_than_itself_to_propose() -> None:
    boxes = propose(np.full((50, 60, 3), 99, np.uint8), 10)
    assert all(overlap(box, (0, 0, 60, 50)) > 0.9 for box in boxes)


def test_what_is_asked_for_in_words_is_found_in_its_place(encoder: ColourEncoder) -> None:
    detector = registry.load("detect", "rcnn?labels=red,blue,grey&threshold=0.6", encoder=encoder)
    found = detector.enrich(picture()).objects
    assert {each.label for each in found} == {"red", "blue", "grey"}
    best = {each.label: each for each in reversed(found)}
    assert overlap(best["red"].box, (30, 20, 50, 50)) > 0.8
    assert overlap(best["blue"].box, (130, 60, 50, 40)) > 0.8
    assert [each.score for each in found] == sorted((e.score for e in found), reverse=True)


def test_labels_and_encoder_are_part_of_the_id(encoder: ColourEncoder) -> None:
    class Other(ColourEncoder):
        @property
        def info(self) -> Any:
            return replace(super().info, id="other-000000000000")

    one = registry.load("detect", "rcnn?labels=red", encoder=encoder).info
    assert one.id != registry.load("detect", "rcnn?labels=blue", encoder=encoder).info.id
    assert one.id != registry.load("detect", "rcnn?labels=red", encoder=Other()).info.id
    assert (one.stage, one.labels) == ("detect", ("red",))


def test_the_shared_map_sees_a_whole_picture_as_the_encoder_does() -> None:
    mini = towers_of(encoders.load("mini"))
    rng, side = np.random.default_rng(0), mini.info.input_size
    coarse = rng.integers(0, 256, (side // 16, side // 16, 3)).astype(np.uint8)
    pixels = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    shared = SharedMap(mini.folder, side)  # type: ignore[attr-defined]
    whole = np.array([[0, 0, side, side], [0, 0, side // 2, side // 2]], np.float32)
    rows = shared.embed(pixels, whole)
    assert rows.shape == (2, 256)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-5)
    told = mini.encode_images([pixels])[0]
    assert float(rows[0] @ told) > 0.95
    assert float(rows[1] @ told) < float(rows[0] @ told)


def test_fast_rcnn_runs_the_picture_once_through_the_encoder_in_the_box() -> None:
    mini = encoders.load("mini")
    spec = "fast-rcnn?labels=dog,cat&proposals=20&side=224&threshold=0"
    found = registry.load("detect", spec, encoder=mini).enrich(picture()).objects
    assert found
    assert {each.label for each in found} <= {"dog", "cat"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("rcnn", "name what is to be found"),
        ("rcnn?labels=", "name what is to be found"),
        ("rcnn?labels=dog&speed=2", "name what is to be found"),
        ("rcnn?labels=dog&proposals=many", "invalid literal"),
        ("fast-rcnn?labels=red", "needs an encoder folder on ONNX"),
    ],
)
def test_bad_specs_are_explained(encoder: ColourEncoder, spec: str, said: str) -> None:
    with pytest.raises(EnricherError, match=said):
        registry.load("detect", spec, encoder=encoder)


def test_an_encoder_with_words_is_needed(encoder: ColourEncoder) -> None:
    class Blind(ColourEncoder):
        @property
        def info(self) -> Any:
            return replace(super().info, has_text=False)

    with pytest.raises(EnricherError, match="knows no words"):
        registry.load("detect", "rcnn?labels=red", encoder=Blind())
    with pytest.raises(EnricherError, match="with an encoder, and here is none"):
        registry.load("detect", "rcnn?labels=red")


def test_without_scikit_image_the_install_command_is_named() -> None:
    code = (
        "import sys; sys.modules['skimage'] = None; sys.modules['skimage.segmentation'] = None\n"
        "import numpy as np\n"
        "from embedsearch.enrichers.selective_search import propose\n"
        "propose(np.zeros((50, 50, 3), np.uint8), 5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "embedsearch[objects]"' in done.stderr
