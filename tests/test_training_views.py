"""Photos as training reads them, and views of a photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.errors import DataError
from embedsearch.training.views import load_pixels, view_pixels

SIZE = 16


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_a_view_is_a_part_of_the_picture_of_40_to_100_per_cent(height, width, seed) -> None:
    down, across = np.mgrid[:height, :width]
    pixels = np.stack([down, across, 0 * down], axis=2).astype(np.uint8)
    view = view_pixels(pixels, 2, np.random.default_rng(seed))
    rows, columns = view[:, 0, 0].astype(int), view[0, :, 1].astype(int)
    assert (np.diff(rows) == 1).all()
    assert (np.diff(columns) == 1).all() or (np.diff(columns) == -1).all()
    assert rows[-1] < height and columns.max() < width
    if min(height, width) >= 20:  # below, rounding to whole pixels matters
        assert 0.35 <= view.shape[0] * view.shape[1] / (height * width) <= 1


def test_the_first_two_views_are_the_picture_and_its_mirror_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    rng = np.random.default_rng(0)
    assert (view_pixels(pixels, 0, rng) == pixels).all()
    assert (view_pixels(pixels, 1, rng) == pixels[:, ::-1]).all()


def test_a_photo_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    for name in ("bad.jpg", "gone.jpg"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            load_pixels(tmp_path / name, SIZE)
