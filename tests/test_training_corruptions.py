"""Corruptions: what each does to pixels, by how much, and that a seed decides all that is drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embedsearch.encoders.base import Pixels
from embedsearch.training.augment.corruptions import CORRUPTIONS, corrupt

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))


def photo(height: int = 96, width: int = 128) -> Pixels:
    """A drawing with fine and coarse parts, and every brightness."""
    rows, columns = np.mgrid[:height, :width]
    waves = 127 + 80 * np.sin(columns / 3) * np.cos(rows / 7)
    ramp = 255 * columns / (width - 1)
    return np.stack([waves, ramp, 255 - waves / 2 - ramp / 2], axis=2).astype(np.uint8)


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
@settings(deadline=None, max_examples=40)  # a busy machine is slow, not wrong
@given(pixels=arrays(np.uint8, SIZES), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_any_picture_and_strength_gives_a_picture_of_the_same_size_and_leaves_the_given_one(
    name: str, pixels: Pixels, share: float, seed: int
) -> None:
    before = pixels.copy()
    strength = share * CORRUPTIONS[name].most
    spoilt = corrupt(pixels, name, strength, seed)
    assert (spoilt.shape, spoilt.dtype) == (pixels.shape, np.uint8)
    assert spoilt.flags.writeable and not np.shares_memory(spoilt, pixels)
    assert (pixels == before).all()
    assert (spoilt == corrupt(pixels, name, strength, seed)).all()
    assert (corrupt(pixels, name, 0, seed) == pixels).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_level_harms_more_than_the_one_before(name: str) -> None:
    levels = CORRUPTIONS[name].levels
    assert list(levels) == sorted(set(levels)) and levels[-1] <= CORRUPTIONS[name].most
    large = photo(288, 384)
    harm = [difference(large, corrupt(large, name, level, 3)) for level in (0, *levels)]
    assert all(less < more for less, more in itertools.pairwise(harm)), harm


@settings(deadline=None, max_examples=40)  # a busy machine is slow, not wrong
@given(
    share=st.floats(0.01, 0.7),
    seed=st.integers(0, 10**6),
    sides=st.tuples(*[st.integers(50, 90)] * 2),
)
def test_occlusion_covers_the_share_of_the_area_asked_for(
    share: float, seed: int, sides: tuple[int, int]
) -> None:
    # Two pictures without a value in common: what is equal in both is covered.
    black, white = (np.full((*sides, 3), value, np.uint8) for value in (0, 255))
    covered = (
        corrupt(black, "occlusion", share, seed) == corrupt(white, "occlusion", share, seed)
    ).all(axis=2)
    rows, columns = covered.any(axis=1).sum(), covered.any(axis=0).sum()
    assert covered.sum() == rows * columns  # one rectangle
    assert covered.mean() == pytest.approx(share, abs=1 / min(sides))


@settings(deadline=None, max_examples=40)  # a busy machine is slow, not wrong
@given(seed=st.integers(0, 10**6))
def test_a_larger_occlusion_covers_the_smaller_one(seed: int) -> None:
    black, white = (np.full((60, 80, 3), value, np.uint8) for value in (0, 255))

    def covered(share: float) -> np.ndarray:
        same = corrupt(black, "occlusion", share, seed) == corrupt(white, "occlusion", share, seed)
        return np.asarray(same.all(axis=2))

    shares = CORRUPTIONS["occlusion"].levels
    for less, more in itertools.pairwise(shares):
        outside = covered(less) & ~covered(more)
        assert outside.mean() < 0.03  # but for rounding to whole pixels


def test_seeds_draw_other_places() -> None:
    for name in ("occlusion", "shadow", "noise"):
        assert difference(corrupt(photo(), name, 0.3, 1), corrupt(photo(), name, 0.3, 2)) > 1


def test_a_stop_halves_or_doubles_the_light() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert np.unique(corrupt(grey, "darkness", 1, 0)) == [73]  # 100 / 2 ** (1 / 2.2)
    assert np.unique(corrupt(grey, "brightness", 1, 0)) == [137]
    assert np.unique(corrupt(grey, "brightness", 4, 0)) == [255]  # glare


def test_a_shadow_takes_light_on_one_side_only() -> None:
    grey = np.full((64, 64, 3), 200, np.uint8)
    values, counts = np.unique(corrupt(grey, "shadow", 0.75, 5), return_counts=True)
    # Lit, shaded (200 * 0.25 ** (1 / 2.2)), and little between.
    assert (values[0], values[-1]) == (107, 200)
    assert counts[0] + counts[-1] > 0.8 * counts.sum()


def test_noise_has_the_deviation_asked_for() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = corrupt(grey, "noise", 0.1, 0).astype(float)
    assert noisy.std() == pytest.approx(25.5, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.3)


def test_blur_is_as_strong_in_a_picture_of_twice_the_size() -> None:
    edge, large = (np.zeros((side, side, 3), np.uint8) for side in (60, 120))
    edge[:, 30:], large[:, 60:] = 255, 255
    small = corrupt(edge, "blur", 0.05, 0)[30, :, 0].astype(float)
    halved = corrupt(large, "blur", 0.05, 0)[60, :, 0].reshape(60, 2).mean(axis=1)
    assert np.abs(small - halved).max() < 8
    assert 0 < small[28] < small[30] < small[32] < 255


def test_a_strength_or_a_name_that_cannot_be_is_refused() -> None:
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="goes from 0 to"):
            corrupt(photo(), "occlusion", strength, 0)
    with pytest.raises(ValueError, match="no corruption 'fog'; there are occlusion, darkness"):
        corrupt(photo(), "fog", 0.1, 0)
    with pytest.raises(ValueError, match="no uint8 picture"):
        corrupt(photo()[:, :, 0], "noise", 0.1, 0)


def test_strengths_are_told_as_people_say_them() -> None:
    told = [CORRUPTIONS[name].told(CORRUPTIONS[name].levels[0]) for name in CORRUPTIONS]
    assert told == ["10 %", "1 stop", "0.5 stops", "50 %", "3 %", "0.3 %", "quality 50"]
