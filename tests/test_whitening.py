"""Whitening within classes: neighbours of one kind, and texts that find what they found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.errors import DataError
from embedsearch.training.pooling import Pool
from embedsearch.training.towers import BagText, FeatureHead, ImageTower
from embedsearch.training.whitening import (
    SHRINKS,
    choose_shrink,
    neighbours_of_one_class,
    parse_shrink,
    whiten,
    whitening,
    within_classes,
)

DIM = 6


def kinds(classes: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes whose middles differ on the last three axes, and whose photos differ most on the
    first three."""
    rng = np.random.default_rng(seed)
    middles = np.repeat(rng.standard_normal((classes, DIM)) * ([0] * 3 + [1] * 3), each, axis=0)
    spread = rng.standard_normal((classes * each, DIM)) * ([4] * 3 + [0.1] * 3)
    return (middles + spread).astype(np.float32), np.repeat(np.arange(classes), each)


def test_photos_of_classes_it_never_saw_have_neighbours_of_their_kind() -> None:
    pictures, _ = whitening(within_classes(*kinds(20, 10)), 0.01)
    rows, labels = kinds(20, 10, seed=1)
    assert neighbours_of_one_class(rows, labels) < 0.3
    assert neighbours_of_one_class(rows @ pictures, labels) > 0.75


def test_the_covariance_is_that_within_the_classes() -> None:
    rows, labels = kinds(3, 50)
    apart = np.concatenate([rows[labels == n] - rows[labels == n].mean(axis=0) for n in range(3)])
    expected = apart.astype(np.float64).T @ apart / (150 - 3)
    assert np.allclose(within_classes(rows, labels), expected, atol=1e-5)
    with pytest.raises(DataError, match="two or more of a label"):
        within_classes(rows[:3], np.arange(3))


@given(shrink=st.floats(0.01, 100), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_products_of_texts_and_pictures_stay_as_they_are(shrink: float, seed: int) -> None:
    rows, labels = kinds(4, 5, seed)
    pictures, texts = whitening(within_classes(rows, labels), shrink)
    written = np.random.default_rng(seed).standard_normal((3, DIM))
    assert np.allclose((written @ texts) @ (rows @ pictures).T, written @ rows.T, atol=1e-4)
    assert np.allclose(pictures, pictures.T) and np.allclose(texts, texts.T)


def test_the_strength_is_chosen_on_classes_that_are_left_out() -> None:
    rows, labels = kinds(20, 10)
    best, tried = choose_shrink(rows, labels, seed=0)
    assert tried[0].keys() == {"R@1"} and [told["shrink"] for told in tried[1:]] == list(SHRINKS)
    assert best == 0.03 and tried[-1]["R@1"] > tried[0]["R@1"] + 0.2
    assert choose_shrink(rows, labels, seed=0) == (best, tried)
    with pytest.raises(DataError, match="8 labels"):
        choose_shrink(*kinds(7, 3), seed=0)


def test_the_towers_embed_as_the_maps_say() -> None:
    torch.manual_seed(0)
    head = FeatureHead(5, DIM)
    tower = ImageTower(torch.nn.Identity(), [], Pool("avg"), head, sequential=True)
    text = BagText(["[PAD]", "[UNK]", "red", "dog"], torch.randn(4, 8), 7, DIM)
    encoder = _Encoder(tower, text)
    pixels, words = torch.rand(3, 5, 4, 4), ["red", "red dog"]
    tower.eval(), text.eval()
    with torch.no_grad():
        seen, said = tower(pixels).numpy(), text(words).numpy()
    pictures, texts = whitening(within_classes(*kinds(4, 5)), 0.3)
    whiten(encoder, pictures, texts)  # type: ignore[arg-type]
    with torch.no_grad():
        for now, before, by in (
            (tower(pixels).numpy(), seen, pictures),
            (text(words).numpy(), said, texts),
        ):
            mapped = before @ by
            assert np.allclose(now, mapped / np.linalg.norm(mapped, axis=1)[:, None], atol=1e-5)


class _Encoder:
    def __init__(self, image: ImageTower, text: BagText) -> None:
        self.image, self.text = image, text


def test_an_encoder_without_a_head_of_ours_is_refused() -> None:
    torch.manual_seed(0)
    tower = ImageTower(torch.nn.Identity(), [], Pool("avg"), torch.nn.Identity(), sequential=True)
    with pytest.raises(DataError, match="heads; this encoder has others"):
        whiten(_Encoder(tower, None), np.eye(DIM), np.eye(DIM))  # type: ignore[arg-type]


@pytest.mark.parametrize("written", ["0", "-1", "much", "nan", "inf"])
def test_what_is_no_strength_is_refused(written: str) -> None:
    with pytest.raises(DataError, match="whiten is none, auto, or a number"):
        parse_shrink(written)
    assert parse_shrink("auto") is None and parse_shrink("0.3") == 0.3
