"""The parts that training detectors is made of, each by itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from small_detectors import SIDE, make_yolox

from embedsearch.enrichers.detector_file import MODEL
from embedsearch.errors import DataError
from embedsearch.training.detect.labels import read_labelled
from embedsearch.training.detect.looks import Sample, look
from embedsearch.training.detect.narrow import narrow, narrowed
from embedsearch.training.detect.network import labels_of
from embedsearch.training.detect.occlusion import cover, erase, hidden_by, paste
from embedsearch.training.detect.recipe import Looks, Occlusion
from embedsearch.training.detect.repulsion import repulsion
from embedsearch.training.detect.yolox import Yolox, from_onnx
from embedsearch.training.detect.yolox_loss import assign, corners, grid, yolox_loss


def test_an_exported_yolox_gives_what_the_network_gives_and_comes_back(tmp_path: Path) -> None:
    make_yolox(tmp_path)
    network = from_onnx(tmp_path / MODEL).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    with torch.no_grad():
        rows = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    rows[..., 4:] = rows[..., 4:].sigmoid()
    session = onnxruntime.InferenceSession(str(tmp_path / MODEL))
    (given,) = session.run(None, {"pixels": pixels})
    assert given.shape == (1, 64 + 16 + 4, 7)
    assert np.abs(given - rows.numpy()).max() < 1e-4
    onnx.save(narrowed(onnx.load(tmp_path / MODEL)), tmp_path / "narrow.onnx")
    again = from_onnx(tmp_path / "narrow.onnx")
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        step = one.abs().reshape(len(one), -1).amax(1) / 127
        difference = (one - other).abs().reshape(len(one), -1).amax(1)
        assert (difference <= step * 0.51 + 1e-7).all()
    assert (tmp_path / "narrow.onnx").stat().st_size < (tmp_path / MODEL).stat().st_size * 0.4


def test_weights_of_8_bits_are_within_half_a_step_of_each_channel() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    weight[2] *= 100
    weight[3] = 0
    rows, step = narrow(weight)
    assert rows.dtype == np.int8 and step.shape == (5, 1, 1, 1)
    assert (np.abs(rows * step - weight) <= step / 2 + 1e-6).all()


def test_a_graph_that_is_no_yolox_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"no\.onnx"):
        from_onnx(tmp_path / "no.onnx")


def test_cells_near_the_middle_of_an_object_are_to_find_it() -> None:
    cells, strides = grid(SIDE, torch.device("cpu"))
    boxes = torch.tensor([[8.0, 8.0, 32.0, 32.0], [40.0, 40.0, 60.0, 60.0]])
    rows = torch.zeros(len(cells), 7)
    match = assign(rows, corners(rows, cells, strides), boxes, torch.tensor([0, 1]), cells, strides)
    assert set(match.objects.tolist()) == {0, 1}
    assert len(set(match.cells.tolist())) == len(match.cells)
    middles = (cells[match.cells] + 0.5) * strides[match.cells]
    for point, number in zip(middles, match.objects, strict=True):
        assert (point > boxes[number, :2]).all() and (point < boxes[number, 2:]).all()


def test_the_loss_is_least_where_the_right_thing_is_found_in_the_right_place() -> None:
    cells, strides = grid(SIDE, torch.device("cpu"))
    box, label = torch.tensor([[16.0, 16.0, 48.0, 48.0]]), torch.tensor([1])
    rows = torch.full((1, len(cells), 7), -6.0)
    middle = torch.tensor([32.0, 32.0])
    rows[0, :, :2] = middle / strides - cells
    rows[0, :, 2:4] = torch.log(32 / strides)
    found = rows.clone()
    at = assign(rows[0], corners(rows, cells, strides)[0], box, label, cells, strides).cells
    found[0, at, 4] = found[0, at, 6] = 6.0
    right = yolox_loss(found, [box], [label], SIDE)
    assert right["box"] == pytest.approx(0, abs=1e-4)
    assert right["label"] < 0.05
    wrong = yolox_loss(found, [box], [1 - label], SIDE)
    assert wrong["label"] > 5
    elsewhere = yolox_loss(found, [box + 8], [label], SIDE)
    assert elsewhere["box"] > 1
    nothing = yolox_loss(rows, [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], SIDE)
    assert nothing["box"] == 0 and nothing["anything"] < 0.5


def test_boxes_are_pushed_off_other_objects_and_off_the_boxes_of_others() -> None:
    truths = torch.tensor([[0.0, 0, 10, 10], [10.0, 0, 20, 10]])
    apart = repulsion(truths, torch.tensor([0, 1]), truths)
    assert apart == 0
    # One box reaches 4 pixels into the other object: IoG 0.4; both boxes overlap by 40 of 160.
    drifted = torch.tensor([[4.0, 0, 14, 10], [10.0, 0, 20, 10]], requires_grad=True)
    loss = repulsion(drifted, torch.tensor([0, 1]), truths)
    assert loss.item() == pytest.approx(-math.log(0.6) / 2 - math.log(1 - 40 / 160), abs=1e-5)
    loss.backward()
    assert drifted.grad is not None and drifted.grad[0, 2] > 0
    assert repulsion(drifted[:1], torch.tensor([0]), truths[:1]) == 0


def test_covering_takes_the_share_of_each_box_and_nothing_else() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    boxes = np.array([[10, 10, 50, 50], [70, 60, 110, 100]], np.float32)
    covered = cover(pixels, boxes, 0.25)
    changed = (covered != pixels).any(2)
    for left, top, right, bottom in boxes.astype(int):
        assert changed[top:bottom, left:right].mean() == pytest.approx(0.25, abs=0.01)
        changed[top:bottom, left:right] = False
    assert not changed.any()
    assert (cover(pixels, boxes, 0.25) == covered).all()
    assert (cover(pixels, boxes, 0.0) == pixels).all()


def test_erasing_leaves_most_of_an_object() -> None:
    pixels = np.full((60, 60, 3), 200, np.uint8)
    boxes = np.array([[10, 10, 50, 50]], np.float32)
    rng = np.random.default_rng(0)
    for _ in range(20):
        made = erase(pixels, boxes, 1.0, 0.5, rng)
        assert (made != pixels).any(2)[10:50, 10:50].mean() <= 0.51
    assert (erase(pixels, boxes, 0.0, 0.5, rng) == pixels).all()


def test_pasted_objects_hide_no_more_than_allowed_and_are_in_the_picture() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[20, 20, 60, 80]], np.float32)
    crop = np.full((20, 20, 3), 255, np.uint8)
    rng = np.random.default_rng(0)
    made = [each for each in (paste(pixels, boxes, crop, 0.3, rng) for _ in range(40)) if each]
    assert made
    for picture, box in made:
        left, top, right, bottom = box.astype(int)
        assert (picture[top:bottom, left:right] == 255).all()
        assert (picture == 255).all(2).sum() == (right - left) * (bottom - top)
        assert hidden_by(box, boxes)[0] <= 0.3


def test_boxes_go_with_the_pixels_through_every_look() -> None:
    pixels = np.full((80, 60, 3), 114, np.uint8)
    pixels[30:60, 20:50] = (255, 0, 0)
    sample = Sample(pixels, np.array([[20, 30, 50, 60]], np.float32), np.array([3]))
    looks = Looks(colour=0.0, mosaic=0.5)
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(30):
        made = look(sample, 96, lambda rng: sample, looks, Occlusion(), rng)
        assert made.pixels.shape == (96, 96, 3) and made.labels.tolist() == [3] * len(made.boxes)
        red = (made.pixels[..., 0] > 200) & (made.pixels[..., 1] < 60)
        for left, top, right, bottom in np.rint(made.boxes).astype(int):
            inside = red[top + 1 : bottom - 1, left + 1 : right - 1]
            assert inside.size == 0 or inside.mean() > 0.9
            red[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = False
            seen += 1
        assert red.mean() < 0.02  # what is left are ends of objects that are mostly outside
    assert seen > 30


def test_labels_that_are_known_keep_their_places() -> None:
    assert labels_of(["cat", "dog"], ["bird", "dog"], own=False) == ("cat", "dog", "bird")
    assert labels_of(["cat", "dog"], ["bird", "dog"], own=True) == ("dog", "bird")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 60)).save(tmp_path / "images" / "a.png")
    return tmp_path


def test_cocos_json_is_read_with_its_photos_in_a_folder_beside_it(photo: Path) -> None:
    told = {
        "images": [{"id": 7, "file_name": "a.png", "width": 80, "height": 60}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 18, "bbox": [1, 2, 30, 40], "iscrowd": 0},
            {"image_id": 7, "category_id": 18, "bbox": [0, 0, 80, 60], "iscrowd": 1},
        ],
    }
    path = photo / "instances.json"
    path.write_text(json.dumps(told))
    (read,) = read_labelled(path)
    assert read.file == photo / "images" / "a.png"
    assert [(t.label, t.box, t.crowd) for t in read.things] == [
        ("dog", (1, 2, 30, 40), False),
        ("dog", (0, 0, 80, 60), True),
    ]
    del told["categories"]
    path.write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"instances\.json.*'categories' is missing"):
        read_labelled(path)


def test_vocs_xml_counts_pixels_from_one(photo: Path) -> None:
    (photo / "Annotations").mkdir()
    xml = photo / "Annotations" / "a.xml"
    xml.write_text(
        "<annotation><filename>a.png</filename>"
        "<size><width>80</width><height>60</height><depth>3</depth></size>"
        "<object><name>dog</name><difficult>0</difficult><bndbox><xmin>11</xmin><ymin>21</ymin>"
        "<xmax>30</xmax><ymax>50</ymax></bndbox></object></annotation>"
    )
    (read,) = read_labelled(photo)
    assert read.file == photo / "images" / "a.png"
    assert [(thing.label, thing.box) for thing in read.things] == [("dog", (10, 20, 20, 30))]
    xml.write_text("<annotation><filename>a.png</filename></annotation>")
    with pytest.raises(DataError, match=r"a\.xml.*size/width is missing"):
        read_labelled(photo)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no photos with labels"):
        read_labelled(tmp_path)


def test_a_network_for_more_labels_is_no_larger_than_its_head(tmp_path: Path) -> None:
    few, many = (sum(p.numel() for p in Yolox(n).parameters()) for n in (2, 80))
    assert many - few == 3 * 78 * 65
    assert many == 904463
