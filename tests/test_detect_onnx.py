"""Exported YOLOs of every kind find the same cells in the same places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cell_detector import LABELS, make_detector

from embedsearch.enrichers import registry
from embedsearch.enrichers.base import Detector
from embedsearch.errors import EnricherError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(width: int = 64, height: int = 64, **cells: tuple[int, int, int, int]) -> Any:
    pixels = np.full((height, width, 3), 114, np.uint8)
    for colour, (x, y, w, h) in cells.items():
        pixels[y : y + h, x : x + w] = {"red": RED, "blue": BLUE}[colour]
    return pixels


def load(path: Path, options: str = "") -> Any:
    return registry.load("detect", f"yolo:{path}{options}")


@pytest.mark.parametrize("kind", ["yolox", "centres", "rows", "objectness"])
def test_every_kind_of_output_becomes_the_boxes_it_means(tmp_path: Path, kind: str) -> None:
    detector = load(make_detector(tmp_path, kind))
    found = detector.enrich(picture(red=(16, 8, 8, 8), blue=(40, 48, 8, 8))).objects
    assert {(each.label, each.box) for each in found} == {
        ("red thing", (16, 8, 8, 8)),
        ("blue thing", (40, 48, 8, 8)),
    }
    assert [each.score for each in found] == pytest.approx([0.5 if kind == "objectness" else 1] * 2)
    assert isinstance(detector, Detector)


def test_an_end_to_end_model_names_label_and_corners_itself(tmp_path: Path) -> None:
    detector = load(make_detector(tmp_path, "end-to-end"))
    found = detector.enrich(picture(red=(16, 8, 8, 8), blue=(40, 48, 8, 8))).objects
    assert [(each.label, each.box) for each in found] == [("red thing", (16, 8, 8, 8))]


@pytest.mark.parametrize(
    "told",
    [
        {"layout": "nhwc"},
        {"layout": "nhwc", "pixels": True},
        {"input": {"colour": "bgr"}},
    ],
    ids=["nhwc", "pixels", "bgr"],
)
def test_layout_number_type_and_order_of_colours_are_the_models(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    detector = load(make_detector(tmp_path, **told))
    (found,) = detector.enrich(picture(blue=(0, 56, 8, 8))).objects
    assert (found.label, found.box) == ("blue thing", (0, 56, 8, 8))


@pytest.mark.parametrize(("place", "box"), [("corner", (32, 16)), ("middle", (32, 16))])
def test_boxes_are_in_pixels_of_the_picture_wherever_it_lies_in_its_border(
    tmp_path: Path, place: str, box: tuple[int, int]
) -> None:
    detector = load(make_detector(tmp_path, input={"place": place}))
    (found,) = detector.enrich(picture(128, 64, red=(*box, 16, 16))).objects
    assert found.box == pytest.approx((*box, 16, 16), abs=0.01)


def test_channels_are_shifted_and_scaled_as_told(tmp_path: Path) -> None:
    plain = load(make_detector(tmp_path / "plain"))
    told = {"mean": [0, 0, 0], "std": [0.5, 1, 1]}
    scaled = load(make_detector(tmp_path / "scaled", input=told))
    pixels = picture()
    pixels[:8, :8] = (100, 100, 100)
    assert plain.detect(pixels, 0.2) == ()
    assert all(each.label == "red thing" for each in scaled.detect(pixels, 0.2))
    assert scaled.detect(pixels, 0.2)[-1].score == pytest.approx(100 / 255)


def test_squashed_pictures_have_their_boxes_stretched_back(tmp_path: Path) -> None:
    detector = load(make_detector(tmp_path, input={"place": "squash"}))
    (found,) = detector.enrich(picture(128, 64, red=(32, 16, 16, 8))).objects
    assert found.box == pytest.approx((32, 16, 16, 8), abs=0.01)


def test_boxes_end_at_the_edge_of_the_picture(tmp_path: Path) -> None:
    detector = load(make_detector(tmp_path))
    (found,) = detector.enrich(picture(60, 64, red=(56, 0, 8, 8))).objects
    assert found.box == pytest.approx((56, 0, 4, 8), abs=0.01)


def test_unsure_objects_are_left_out_and_given_when_asked_for(tmp_path: Path) -> None:
    pixels = picture()
    pixels[:8, :8] = (150, 100, 100)
    detector = load(make_detector(tmp_path))
    assert detector.enrich(pixels).objects == ()
    (found,) = detector.detect(pixels, 0.1)
    assert found.score == pytest.approx(50 / 255)
    surer = load(tmp_path / "cells.onnx", "?threshold=0.15")
    assert surer.enrich(pixels).objects == (found,)


def test_of_boxes_on_top_of_one_another_the_best_stays(tmp_path: Path) -> None:
    from embedsearch.enrichers.detect_boxes import best_boxes

    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [1, 0, 10, 10], [40, 0, 5, 5]], np.float32)
    scores = np.array([0.5, 0.9, 0.8, 0.1], np.float32)
    labels = np.array([0, 0, 1, 0])
    kept = best_boxes(boxes, scores, labels, threshold=0.2, overlap=0.45, most=10)
    assert kept.tolist() == [1, 2]
    assert best_boxes(boxes, scores, labels, threshold=0, overlap=0.45, most=1).tolist() == [1]


def test_the_id_changes_with_the_settings_and_not_with_the_name(tmp_path: Path) -> None:
    one = load(make_detector(tmp_path / "one")).info
    same = load(make_detector(tmp_path / "same", description="the same")).info
    other = load(make_detector(tmp_path / "other", nms=0.6)).info
    assert one.id == same.id != other.id
    assert one.id.startswith("cells-")
    assert (one.stage, one.look, one.labels) == ("detect", 64, tuple(LABELS))
    assert one.licence == "CC0-1.0"


def test_a_folder_has_its_model_and_description_inside(tmp_path: Path) -> None:
    path = make_detector(tmp_path)
    path.rename(tmp_path / "detector.onnx")
    (tmp_path / "cells.json").rename(tmp_path / "detector.json")
    (found,) = load(tmp_path).enrich(picture(red=(0, 0, 8, 8))).objects
    assert found.label == "red thing"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "labels"),
        ({"labels": [*LABELS, "third"]}, r"\(64, 7\).*expected \(boxes, 8\)"),
        ({"labls": []}, "'labls' is not known"),
        ({"output": {"kind": "ssd"}}, "'ssd' is none of yolox, ultralytics"),
        ({"output": {"kind": "yolox", "strides": [8, 16]}}, "64 boxes, expected 80"),
        ({"input": {"layout": "nhwc"}}, "not nhwc with 3 channels"),
        ({"format": 2}, "no description of a detector in format 1"),
        ({"threshold": "high"}, "threshold: 'high'"),
    ],
)
def test_what_is_wrong_in_a_description_is_named(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = make_detector(tmp_path)
    about = tmp_path / "cells.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | change))
    with pytest.raises(EnricherError, match=said):
        load(path).enrich(picture())


def test_files_that_are_missing_or_no_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(EnricherError, match="there is no such detector"):
        load(tmp_path / "none.onnx")
    path = make_detector(tmp_path)
    path.write_bytes(b"no model")
    with pytest.raises(EnricherError, match="cannot be loaded as an ONNX model"):
        load(path).enrich(picture())
    (tmp_path / "cells.json").unlink()
    with pytest.raises(EnricherError, match=r"there is no such file\. It says how to run"):
        load(path)
    with pytest.raises(EnricherError, match=r"threshold=0\.2"):
        load(path, "?thresh=1")
