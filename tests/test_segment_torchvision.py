"""torchvision's segmenters from checkpoints, both kinds as one, and how instances are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from embedsearch.enrichers import masks, registry, segment_torchvision
from embedsearch.enrichers.base import Findings, Segmenter
from embedsearch.enrichers.panoptic import Panoptic, merged
from embedsearch.enrichers.segment_torchvision import build, instances_in
from embedsearch.enrichers.semantic import InstanceSegmenter, SoftSegmenter
from embedsearch.errors import EnricherError
from embedsearch.records import Detection, EnricherInfo
from embedsearch.training.evaluate.instances import mask_precision, panoptic_quality
from embedsearch.training.evaluate.outlines import Outlined, Thing

SEMANTIC = "lraspp_mobilenet_v3_large"
INSTANCES = "maskrcnn_resnet50_fpn_v2"


def picture() -> Any:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def _tiny(model: str = INSTANCES, classes: int = 3) -> Any:
    """Mask R-CNN on one convolution."""
    torch.manual_seed(0)
    backbone: Any = torch.nn.Conv2d(3, 8, 16, 16)
    backbone.out_channels = 8
    return MaskRCNN(
        backbone,
        num_classes=classes,
        min_size=64,
        max_size=96,
        box_score_thresh=0.0,
        box_detections_per_img=6,
        rpn_anchor_generator=AnchorGenerator(((24, 48),), ((1.0,),)),
    )


def test_semantic_classes_are_those_of_the_librarys_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_torchvision, "LOOK", 64)
    torch.manual_seed(0)
    model = build(SEMANTIC, 3).eval()
    path = tmp_path / "small.pth"
    torch.save({"model": model.state_dict(), "labels": ["dog", "sofa"]}, path)
    segmenter = registry.load("segment", f"torchvision:{SEMANTIC}@{path}", "cpu")
    assert isinstance(segmenter, SoftSegmenter) and segmenter.info.labels == ("dog", "couch")
    with torch.inference_mode():
        square = segment_torchvision._normalised(model, picture())
        expected = model(square)["out"][0]
    assert square.shape == (1, 3, 64, 96)
    told = segmenter.label_map(picture())
    assert told.shape == (40, 60)
    share = float((expected.argmax(0) == 1).float().mean())
    assert (told == 1).mean() == pytest.approx(share, abs=0.02)
    logits = segmenter.class_logits(picture(), 9)
    assert np.allclose(logits[0, 0], expected[:, 0, 0], atol=1e-4)
    assert np.allclose(logits[-1, -1], expected[:, -1, -1], atol=1e-4)


def test_instances_are_those_of_the_librarys_model_with_their_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_torchvision, "build", _tiny)
    path = tmp_path / "tiny.pth"
    torch.save({"model": _tiny().state_dict(), "labels": ["dog", "cat"]}, path)
    segmenter = registry.load("segment", f"torchvision:{INSTANCES}@{path}", "cpu")
    assert isinstance(segmenter, InstanceSegmenter) and isinstance(segmenter, Segmenter)
    assert segmenter.info.look == 64
    with torch.inference_mode():
        (told,) = _tiny().eval()([torch.from_numpy(picture()).permute(2, 0, 1).float() / 255])
    found = segmenter.instances(picture(), 0.0)
    whole = [n for n in range(len(told["scores"])) if (told["masks"][n, 0] >= 0.5).any()]
    assert len(found) == len(whole) > 0
    for each, place in zip(found, whole, strict=True):
        assert each.score == pytest.approx(float(told["scores"][place]))
        assert each.label == ["dog", "cat"][int(told["labels"][place]) - 1]
        assert each.mask is not None
        expected = (told["masks"][place, 0] >= 0.5).numpy()
        assert np.array_equal(masks.decode(each.mask), expected)
        assert each.box == masks.box_of(each.mask)
    assert segmenter.instances(picture(), 1.1) == ()


def test_a_class_without_a_name_is_no_instance() -> None:
    found = instances_in(_tiny().eval(), picture(), ("", "cat"), 0.0)
    assert {each.label for each in found} <= {"cat"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("torchvision:resnet18", "name one of torchvision's segmenters"),
        ("torchvision:fcn_resnet50@/no/such.pth", "no such checkpoint file"),
        ("panoptic:litert:x", "name two segmenters"),
        ("nothing", "There is no 'nothing' for --enrich segment"),
    ],
)
def test_specs_that_lead_nowhere_are_told_what_there_is(spec: str, said: str) -> None:
    with pytest.raises(EnricherError, match=said):
        registry.load("segment", spec)


def test_a_checkpoint_must_say_what_its_classes_are_called(tmp_path: Path) -> None:
    path = tmp_path / "small.pth"
    torch.save(build(SEMANTIC, 4).state_dict(), path)
    with pytest.raises(EnricherError, match="what its 3 classes are called"):
        registry.load("segment", f"torchvision:{SEMANTIC}@{path}")
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(EnricherError, match="holds no semantic segmenter"):
        registry.load("segment", f"torchvision:{SEMANTIC}@{path}")
    path.write_bytes(b"nothing")
    with pytest.raises(EnricherError, match="cannot be read as a checkpoint"):
        registry.load("segment", f"torchvision:{SEMANTIC}@{path}")


def test_without_a_network_it_is_said_where_weights_are_to_be_laid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*given: Any, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    with pytest.raises(EnricherError, match=r"cannot be downloaded .*lay it at .*checkpoints"):
        registry.load("segment", f"torchvision:{SEMANTIC}")


def _rectangle(label: str, score: float, left: int, right: int) -> Detection:
    bitmap = np.zeros((10, 20), bool)
    bitmap[:, left:right] = True
    return Detection(label, score, (left, 0.0, right - left, 10.0), masks.encode(bitmap))


def test_no_pixel_is_of_two_objects() -> None:
    stuff = np.ones((10, 20), np.uint8)
    stuff[:, 10:] = 2
    things = (
        _rectangle("dog", 0.9, 0, 8),
        _rectangle("dog", 0.8, 2, 9),  # one of its seven columns is free: left out
        _rectangle("cat", 0.7, 6, 11),  # three of five are free
    )
    found = merged(things, stuff, ("grass", "cat"), {"dog", "cat"})
    assert [(each.label, each.score, each.box) for each in found] == [
        ("dog", 0.9, (0.0, 0.0, 8.0, 10.0)),
        ("cat", 0.7, (8.0, 0.0, 3.0, 10.0)),
    ]
    stuff[:] = 1
    found = merged(things, stuff, ("grass", "cat"), {"dog", "cat"})
    assert [(each.label, each.box) for each in found] == [
        ("grass", (11.0, 0.0, 9.0, 10.0)),
        ("dog", (0.0, 0.0, 8.0, 10.0)),
        ("cat", (8.0, 0.0, 3.0, 10.0)),
    ]


class _Things:
    info = EnricherInfo("things-0", "things", "segment", "A", "1", 8, ("dog",))

    def __init__(self, *things: Detection) -> None:
        self.things = things

    def enrich(self, picture: Any) -> Findings:
        return Findings(objects=self.things)

    def instances(self, picture: Any, threshold: float) -> tuple[Detection, ...]:
        return tuple(each for each in self.things if each.score >= threshold)

    def label_map(self, picture: Any) -> Any:
        return np.zeros((10, 20), np.uint8)


class _Stuff(_Things):
    info = EnricherInfo("stuff-0", "stuff", "segment", "B", "2", 16, ("grass", "dog"))

    def label_map(self, picture: Any) -> Any:
        return np.ones((10, 20), np.uint8)


def test_panoptic_knows_the_labels_of_both_and_fills_the_whole_picture() -> None:
    both = Panoptic(_Things(_rectangle("dog", 0.9, 0, 8)), _Stuff())
    assert both.info.labels == ("dog", "grass") and both.info.look == 16
    assert both.info.spec == "panoptic:things+stuff" and both.info.licence == "A; B"
    told = both.label_map(np.zeros((10, 20, 3), np.uint8))
    assert (told[:, :8] == 1).all() and (told[:, 8:] == 2).all()
    assert [each.label for each in both.instances(np.zeros((10, 20, 3), np.uint8), 0.95)] == [
        "grass"
    ]


def _outlined(tmp_path: Path, *things: Thing) -> Outlined:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    return Outlined(tmp_path / "a.png", "line 1", 20, 10, things, tmp_path / "m.png")


def _thing(left: int, right: int, *, crowd: bool = False) -> Thing:
    corners = (left, 0.0, right, 0.0, right, 10.0, left, 10.0)
    return Thing("dog", (left, 0, right - left, 10), crowd, (corners,), None)


def test_masks_that_lie_right_are_precise_and_of_full_quality(tmp_path: Path) -> None:
    there = [_outlined(tmp_path, _thing(0, 6), _thing(10, 16))]
    right = [(_rectangle("dog", 0.9, 0, 6), _rectangle("dog", 0.8, 10, 16))]
    assert mask_precision(there, right) == {"AP50": pytest.approx(1), "AP": pytest.approx(1)}
    assert panoptic_quality(there, right) == pytest.approx(1)


def test_what_is_missed_or_made_up_costs(tmp_path: Path) -> None:
    there = [_outlined(tmp_path, _thing(0, 6), _thing(10, 16))]
    # One matched with an IoU of 5/6, one missed, one made up.
    found = [(_rectangle("dog", 0.9, 0, 5), _rectangle("dog", 0.8, 17, 20))]
    assert panoptic_quality(there, found) == pytest.approx((5 / 6) / (1 + 0.5 + 0.5))
    precision = mask_precision(there, found)
    assert precision["AP50"] == pytest.approx(51 / 101, abs=0.01)
    assert precision["AP"] == pytest.approx(0.7 * 51 / 101, abs=0.01)
    assert mask_precision(there, [()])["AP50"] == 0
    assert panoptic_quality(there, [()]) == 0


def test_what_is_found_in_a_crowd_counts_neither_way(tmp_path: Path) -> None:
    there = [_outlined(tmp_path, _thing(0, 6), _thing(10, 20, crowd=True))]
    found = [(_rectangle("dog", 0.9, 0, 6), _rectangle("dog", 0.95, 12, 18))]
    assert mask_precision(there, found)["AP50"] == pytest.approx(1)
    assert panoptic_quality(there, found) == pytest.approx(1)
