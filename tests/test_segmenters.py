"""Segmenters: the class of every pixel, and the objects that come of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_segmenters import SIDE, colour_folder, colour_tflite, meadow

from embedsearch.enrichers import masks, registry
from embedsearch.enrichers.base import Segmenter
from embedsearch.enrichers.class_names import VOC, usual
from embedsearch.enrichers.segment_litert import LiteRTSegmenter
from embedsearch.enrichers.semantic import LabelMap, SoftSegmenter, from_logits, parts, sampled
from embedsearch.enrichers.square import BORDER, fitted
from embedsearch.errors import EnricherError


def _told(classes: np.ndarray, confidence: float = 0.9) -> LabelMap:
    return LabelMap(classes.astype(np.uint8), np.full(classes.shape, confidence, np.float32))


def test_each_connected_part_of_a_class_is_an_object() -> None:
    classes = np.zeros((10, 20), np.uint8)
    classes[0:4, 0:5] = 1
    classes[6:10, 10:20] = 1
    classes[4, 5] = 1  # touches the first at a corner
    classes[0:2, 18:20] = 2
    found = parts(_told(classes, 0.75), ("dog", "cat"), 100, 400).objects
    assert [(each.label, each.box) for each in found] == [
        ("dog", (0.0, 0.0, 120.0, 50.0)),
        ("dog", (200.0, 60.0, 200.0, 40.0)),
        ("cat", (360.0, 0.0, 40.0, 20.0)),
    ]
    first = found[0].mask
    assert first is not None and (first.height, first.width) == (10, 20)
    assert masks.area(first) == 21
    assert found[0].score == 0.75


def test_specks_and_guesses_are_no_objects() -> None:
    classes = np.zeros((50, 50), np.uint8)
    classes[0, 0] = 1
    classes[10:20, 10:20] = 1
    sure = np.full((50, 50), 0.9, np.float32)
    assert [one.box for one in parts(LabelMap(classes, sure), ("dog",), 50, 50).objects] == [
        (10.0, 10.0, 10.0, 10.0)
    ]
    sure[10:20, 10:20] = 0.1
    assert parts(LabelMap(classes, sure), ("dog",), 50, 50).objects == ()


def test_objects_come_by_falling_score() -> None:
    classes = np.zeros((10, 10), np.uint8)
    classes[:3, :3], classes[6:, 6:] = 1, 2
    sure = np.where(classes == 1, 0.5, 0.8).astype(np.float32)
    found = parts(LabelMap(classes, sure), ("dog", "cat"), 10, 10).objects
    assert [(each.label, round(each.score, 2)) for each in found] == [("cat", 0.8), ("dog", 0.5)]


def test_logits_become_the_likeliest_class_and_its_probability() -> None:
    logits = np.zeros((2, 2, 3), np.float32)
    logits[..., 1] = np.log(6)  # shares of 1, 6 and 1 in eight
    told = from_logits(logits, 4, 4)
    assert told.classes.shape == (4, 4) and (told.classes == 1).all()
    assert told.confidence == pytest.approx(0.75)


def test_samples_go_from_border_to_border() -> None:
    assert sampled(np.arange(513)[:, None] * np.ones((1, 513), int), 33)[:, 0].tolist() == list(
        range(0, 513, 16)
    )


def test_a_padded_square_keeps_the_aspect_and_gives_back_the_picture() -> None:
    square = fitted(np.full((50, 100, 3), 10, np.uint8), 32, "pad")
    assert square.pixels.shape == (32, 32, 3)
    assert (square.pixels[:16] == 10).all() and (square.pixels[16:] == BORDER).all()
    assert square.inner(np.zeros((8, 8, 5))).shape == (4, 8, 5)
    squashed = fitted(np.full((50, 100, 3), 10, np.uint8), 32, "squash")
    assert (squashed.pixels == 10).all() and squashed.inner(np.zeros((8, 8))).shape == (8, 8)


@pytest.mark.parametrize("kind", ["folder", "folder that pads", "litert"])
def test_a_segmenter_says_of_every_pixel_what_it_shows(tmp_path: Path, kind: str) -> None:
    if kind == "litert":
        spec = f"litert:{colour_tflite(tmp_path / 'colours.tflite')}"
    else:
        spec = str(colour_folder(tmp_path / "colours", "pad" if "pads" in kind else "squash"))
    segmenter = registry.load("segment", spec, "cpu")
    assert isinstance(segmenter, Segmenter)
    told = segmenter.label_map(meadow())
    assert told.shape == (32, 64) and told.dtype == np.uint8
    assert (told[18:, :12] == 1).all() and (told[:, 52:] == 2).all()
    assert (told[:14, :44] == 0).all()
    found = {each.label: each for each in segmenter.enrich(meadow()).objects}
    first, second = segmenter.info.labels
    assert found.keys() == {first, second} and first == "grass"
    assert found["grass"].box == pytest.approx((0, 16, 16, 16), abs=4.1)
    assert found[second].box == pytest.approx((48, 0, 16, 32), abs=4.1)
    assert found["grass"].score == pytest.approx(1.0 if kind == "litert" else 0.8, abs=0.01)
    assert segmenter.info.stage == "segment" and segmenter.info.look == SIDE
    again = registry.load("segment", segmenter.info.spec, "cpu")
    assert again.info == segmenter.info


def test_what_a_segmenter_is_fed_changes_its_id(tmp_path: Path) -> None:
    ids = {
        registry.load("segment", str(colour_folder(tmp_path / fit, fit))).info.id
        for fit in ("pad", "squash")
    }
    assert len(ids) == 2 and all(each.startswith("colours-") for each in ids)


def test_a_litert_file_tells_its_logits_and_can_teach(tmp_path: Path) -> None:
    segmenter = LiteRTSegmenter(colour_tflite(tmp_path / "colours.tflite"))
    assert isinstance(segmenter, SoftSegmenter)
    assert segmenter.info.labels == ("grass", "airplane")  # COCO's spelling of VOC's aeroplane
    logits = segmenter.class_logits(np.full((20, 20, 3), (10, 30, 20), np.uint8), 5)
    assert logits.shape == (5, 5, 3)
    assert np.allclose(logits, [1, 3, 2])


def test_a_litert_file_without_the_names_of_its_classes_is_refused(tmp_path: Path) -> None:
    file = colour_tflite(tmp_path / "colours.tflite")
    (tmp_path / "labels.txt").write_text("background\ndog\n", "utf-8")
    with pytest.raises(EnricherError, match=r"no text files beside it name its 3 classes"):
        LiteRTSegmenter(file)


def test_a_folder_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = colour_folder(tmp_path / "colours")
    with (folder / "segmenter.onnx").open("ab") as stream:
        stream.write(b"x")
    segmenter = registry.load("segment", str(folder))
    with pytest.raises(EnricherError, match="is not the file that its description is of"):
        segmenter.enrich(meadow())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ('{"format": 2}', "no description of a segmenter in format 1"),
        ('{"format": 1, "model": "m"}', "is missing"),
    ],
)
def test_a_description_that_is_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    folder = colour_folder(tmp_path / "colours")
    (folder / "segmenter.json").write_text(text, "utf-8")
    with pytest.raises(EnricherError, match=said):
        registry.load("segment", str(folder))


def test_an_empty_folder_is_told_how_a_segmenter_is_written(tmp_path: Path) -> None:
    with pytest.raises(EnricherError, match="finetune --task segment"):
        registry.load("segment", str(tmp_path))


def test_the_classes_of_voc_are_spelt_as_people_ask() -> None:
    assert len(VOC) == 20 and VOC[14] == "person"
    assert [usual(name) for name in ("tvmonitor", "Dining_Table", "sofa", "dog")] == [
        "tv",
        "dining table",
        "couch",
        "dog",
    ]
    assert all(usual(name) == name for name in VOC)
