"""torchvision's detectors from checkpoints: the same objects as the library's own model gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedsearch.enrichers import detect_torchvision, registry
from embedsearch.enrichers.base import Detector
from embedsearch.enrichers.detect_torchvision import build, coco_labels
from embedsearch.errors import EnricherError

SMALL = "ssdlite320_mobilenet_v3_large"
LABELS = ["dog", "red umbrella"]


@pytest.fixture(scope="module")
def state() -> Any:
    torch.manual_seed(0)
    return build(SMALL, 3).state_dict()


@pytest.fixture
def checkpoint(tmp_path: Path, state: Any) -> Path:
    path = tmp_path / "small.pth"
    torch.save({"model": state, "labels": LABELS}, path)
    return path


def picture() -> Any:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_a_checkpoint_finds_what_the_librarys_model_finds(checkpoint: Path, state: Any) -> None:
    detector = registry.load("detect", f"torchvision:{SMALL}@{checkpoint}?threshold=0.01")
    assert isinstance(detector, Detector)
    found = detector.detect(picture(), 0.05)
    model = build(SMALL, 3).eval()
    model.load_state_dict(state)
    with torch.inference_mode():
        (told,) = model([torch.from_numpy(picture()).permute(2, 0, 1).float() / 255])
    sure = told["scores"] >= 0.05
    assert 0 < len(found) <= int(sure.sum())
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    places = {
        (LABELS[int(label) - 1], round(float(score), 5))
        for label, score in zip(told["labels"][sure], told["scores"][sure], strict=True)
    }
    assert {(each.label, round(each.score, 5)) for each in found} <= places
    for each in found:
        x, y, width, height = each.box
        assert min(x, y) >= 0 and x + width <= 90.001 and y + height <= 60.001
    assert detector.enrich(picture()).objects == detector.detect(picture(), 0.01)


def test_the_spec_leads_back_to_the_same_detector(checkpoint: Path) -> None:
    detector = registry.load("detect", f"torchvision:{SMALL}@{checkpoint}?threshold=0.2")
    assert detector.info.labels == tuple(LABELS)
    assert detector.info.look == 320
    again = registry.load("detect", detector.info.spec)
    assert again.info == detector.info
    other = registry.load("detect", f"torchvision:{SMALL}@{checkpoint}?threshold=0.3")
    assert other.info.id != detector.info.id


def test_labels_stand_in_the_checkpoint_or_beside_it(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "bare.pth"
    torch.save(state, path)
    with pytest.raises(
        EnricherError, match=r"does not say what its classes are called.*bare\.json"
    ):
        registry.load("detect", f"torchvision:{SMALL}@{path}")
    path.with_suffix(".json").write_text(json.dumps({"labels": LABELS}))
    assert registry.load("detect", f"torchvision:{SMALL}@{path}").info.labels == tuple(LABELS)


def test_coco_has_eighty_names_among_ninety_numbers() -> None:
    labels = coco_labels()
    assert len(labels) == 90
    assert len([label for label in labels if label]) == 80
    assert (labels[0], labels[2], labels[17]) == ("person", "car", "dog")


@pytest.mark.parametrize("model", ["fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_two_step_detectors_load_too_and_their_size_can_be_set(tmp_path: Path, model: str) -> None:
    path = tmp_path / "two.pth"
    torch.save({"model": build(model, 3).state_dict(), "labels": LABELS}, path)
    detector = registry.load("detect", f"torchvision:{model}@{path}?size=96")
    assert detector.info.look == 96
    for each in detector.enrich(picture()).objects:
        assert each.label in LABELS


def test_what_is_wrong_is_said(tmp_path: Path, checkpoint: Path) -> None:
    for spec, said in [
        ("torchvision:resnet50", "name one of torchvision's detectors"),
        (f"torchvision:{SMALL}@{tmp_path}/no.pth", "no such checkpoint file"),
        (f"torchvision:{SMALL}@{checkpoint}?sure=1", "may stand threshold"),
        (f"torchvision:fasterrcnn_mobilenet_v3_large_320_fpn@{checkpoint}", "does not fit"),
    ]:
        with pytest.raises(EnricherError, match=said):
            registry.load("detect", spec)
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"no checkpoint")
    with pytest.raises(EnricherError, match="cannot be read as a checkpoint"):
        registry.load("detect", f"torchvision:{SMALL}@{bad}")
    torch.save({"weight": torch.zeros(3)}, bad)
    with pytest.raises(EnricherError, match="holds no detector of torchvision"):
        registry.load("detect", f"torchvision:{SMALL}@{bad}")


def test_without_a_network_it_says_where_the_weights_can_be_laid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*given: Any, **named: Any) -> Any:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EnricherError, match="cannot be downloaded") as raised:
        detect_torchvision.load(f"torchvision:{SMALL}", "cpu")
    assert str(tmp_path / "hub" / "checkpoints") in str(raised.value)
    assert f"torchvision:{SMALL}@FILE.pth" in str(raised.value)
