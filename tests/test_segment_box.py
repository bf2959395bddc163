"""The segmenter in the box: what it finds in photos that come with scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import data

from embedsearch.enrichers import masks, registry
from embedsearch.enrichers.base import Segmenter
from embedsearch.enrichers.class_names import VOC

WEIGHTS = Path(registry.__file__).parents[1] / "weights" / "raspp"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    made = registry.load("segment")
    assert isinstance(made, Segmenter)
    return made


def test_it_knows_vocs_classes_and_is_small(segmenter: Segmenter) -> None:
    assert segmenter.info.labels == VOC
    assert segmenter.info.spec == "raspp" and segmenter.info.id.startswith("raspp-")
    assert (WEIGHTS / "segmenter.onnx").stat().st_size <= 4_000_000
    for name in ("MODEL_CARD.md", "LICENSE", "figures.json"):
        assert (WEIGHTS / name).is_file()


@pytest.mark.parametrize(
    ("photo", "label", "least", "most"),
    [("chelsea", "cat", 0.4, 0.97), ("astronaut", "person", 0.1, 0.8)],
)
def test_it_finds_the_outline_of_a_cat_and_of_a_person(
    segmenter: Segmenter, photo: str, label: str, least: float, most: float
) -> None:
    picture = np.asarray(getattr(data, photo)())
    found = [each for each in segmenter.enrich(picture).objects if each.label == label]
    assert found, segmenter.enrich(picture).objects
    largest = max(found, key=lambda each: each.box[2] * each.box[3])
    assert largest.mask is not None and 0.3 < largest.score <= 1
    covered = masks.area(largest.mask) / (largest.mask.height * largest.mask.width)
    assert least < covered < most
    assert (segmenter.label_map(picture) == VOC.index(label) + 1).mean() > 0.1


def test_it_finds_the_same_again(segmenter: Segmenter) -> None:
    picture = np.asarray(data.chelsea())
    assert segmenter.enrich(picture) == segmenter.enrich(picture)
