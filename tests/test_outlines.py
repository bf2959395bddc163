"""The lines around masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.enrichers.masks import encode
from embedsearch.enrichers.outlines import outlines


def test_a_rectangle_has_four_corners_in_pixels_of_the_picture() -> None:
    bitmap = np.zeros((40, 60), bool)
    bitmap[10:30, 20:50] = True
    (line,) = outlines(encode(bitmap), width=600, height=400)
    assert len(line) == 4
    xs, ys = zip(*line, strict=True)
    assert (min(xs), max(xs)) == pytest.approx((205, 495))
    assert (min(ys), max(ys)) == pytest.approx((105, 295))


def test_pieces_have_lines_of_their_own_and_specks_none() -> None:
    bitmap = np.zeros((100, 100), bool)
    bitmap[5:60, 5:60] = True
    bitmap[70:95, 70:95] = True
    bitmap[2, 98] = True
    assert len(outlines(encode(bitmap), 100, 100)) == 2


def test_an_empty_mask_has_none() -> None:
    assert outlines(encode(np.zeros((5, 5), bool)), 50, 50) == []


@given(st.integers(0, 2**32 - 1))
def test_lines_stay_inside_the_picture(seed: int) -> None:
    bitmap = np.random.default_rng(seed).random((12, 9)) > 0.5
    for line in outlines(encode(bitmap), 90, 120):
        for x, y in line:
            assert 0 <= x <= 90
            assert 0 <= y <= 120
