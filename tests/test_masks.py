"""Masks: the code of a bitmap, its size, and what it leaves of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.enrichers import masks
from embedsearch.errors import EnricherError
from embedsearch.records import Mask


def _bitmap(height: int = 6, width: int = 8) -> masks.Bitmap:
    bitmap = np.zeros((height, width), bool)
    bitmap[1:4, 2:7] = True
    return bitmap


def test_the_code_is_cocos_and_text() -> None:
    bitmap = np.zeros((2, 3), bool)
    bitmap[1, 0] = bitmap[0, 2] = True
    # Column by column: 0 1 | 0 0 | 1 0, so one 0, one 1, two 0, one 1, one 0.
    assert masks.encode(bitmap) == Mask(2, 3, "1120O")
    assert masks._runs(masks.encode(bitmap).counts) == [1, 1, 2, 1, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from((0.02, 0.5))
)
def test_a_bitmap_comes_back_as_it_was(height: int, width: int, seed: int, share: float) -> None:
    bitmap = np.random.default_rng(seed).random((height, width)) < share
    mask = masks.encode(bitmap)
    assert (mask.height, mask.width) == (height, width)
    assert np.array_equal(masks.decode(mask), bitmap)
    assert masks.area(mask) == bitmap.sum()


def test_a_code_of_another_size_is_refused_rather_than_read() -> None:
    mask = masks.encode(_bitmap())
    with pytest.raises(EnricherError, match="8 x 5 pixels has a code of another length"):
        masks.decode(Mask(5, 8, mask.counts))


def test_the_box_lies_tight_around_what_belongs() -> None:
    assert masks.box_of(masks.encode(_bitmap())) == (2.0, 1.0, 5.0, 3.0)
    assert masks.box_of(masks.encode(np.zeros((4, 4), bool))) is None


def test_a_mask_scales_with_its_picture() -> None:
    larger = masks.resized(masks.encode(_bitmap()), 60, 80)
    assert (larger.height, larger.width) == (60, 80)
    assert masks.box_of(larger) == (20.0, 10.0, 50.0, 30.0)
    assert masks.resized(larger, 6, 8) == masks.encode(_bitmap())


def test_an_object_is_cut_out_without_its_background() -> None:
    pixels = np.full((60, 80, 3), 200, np.uint8)
    pixels[10:40, 20:70] = (10, 20, 30)
    cut = masks.masked_pixels(pixels, masks.encode(_bitmap()), (15.5, 5.0, 60.0, 40.0), (1, 2, 3))
    assert cut.shape == (40, 61, 3)
    assert np.array_equal(np.unique(cut.reshape(-1, 3), axis=0), [(1, 2, 3), (10, 20, 30)])
    assert (cut[5:35, 5:55] == (10, 20, 30)).all()
    assert (pixels[0, 0] == 200).all()  # the picture itself stays


def test_a_mask_with_nothing_in_the_box_leaves_the_cut_as_it_is() -> None:
    pixels = np.full((60, 80, 3), 200, np.uint8)
    cut = masks.masked_pixels(pixels, masks.encode(_bitmap()), (0.0, 0.0, 10.0, 5.0), (1, 2, 3))
    assert cut.shape == (5, 10, 3)
    assert (cut == 200).all()
