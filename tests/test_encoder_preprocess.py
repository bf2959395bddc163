"""From pixels of any size to the square that an image tower takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embedsearch.encoders.preprocess import INTERPOLATIONS, RESIZE_WAYS, to_square
from embedsearch.errors import EncoderError


def halves(height: int, width: int) -> np.ndarray:
    """Left half black, right half white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    return pixels


@pytest.mark.parametrize("resize", RESIZE_WAYS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 40))
def test_any_picture_becomes_a_square_and_one_colour_stays_one_colour(
    resize, interpolation, height, width, size
) -> None:
    pixels = np.full((height, width, 3), (124, 116, 104), np.uint8)
    square = to_square(pixels, size, resize, interpolation)
    assert (square.shape, square.dtype) == ((size, size, 3), np.uint8)
    assert square.flags.c_contiguous
    assert (square == (124, 116, 104)).all()


@pytest.mark.parametrize("resize", RESIZE_WAYS)
def test_an_extremely_long_picture_is_no_trouble(resize) -> None:
    square = to_square(halves(500, 30_000), 224, resize)
    middle = square[112]
    if resize == "crop":  # the middle 500 pixels, where black meets white
        assert (middle[0] == 0).all() and (middle[-1] == 255).all()
    else:
        assert (middle[:100] == 0).all() and (middle[-100:] == 255).all()


def test_squash_keeps_the_whole_picture() -> None:
    square = to_square(halves(20, 80), 10)
    assert (square[:, 0] == 0).all() and (square[:, -1] == 255).all()


def test_crop_keeps_the_middle() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    assert (to_square(pixels, 10, "crop") == 200).all()
    assert (to_square(pixels.transpose(1, 0, 2), 10, "crop") == 200).all()


def test_pad_keeps_the_aspect_and_adds_borders() -> None:
    square = to_square(np.full((10, 20, 3), 255, np.uint8), 8, "pad")
    assert (square[2:6] == 255).all()
    assert (square[:2] == (124, 116, 104)).all() and (square[6:] == (124, 116, 104)).all()


def test_shrinking_averages_so_that_fine_stripes_turn_grey() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(to_square(stripes, 100)[:, 2:-2].astype(int) - 127).max() <= 2


def test_it_resizes_as_pillow_does() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC))
    assert (to_square(pixels, 32) == expected).all()


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert (to_square(pixels, 16) == pixels).all()


def test_a_mirrored_view_of_an_array_is_taken_as_it_looks() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    mirrored = to_square(pixels[:, ::-1], 16)
    assert (mirrored == pixels[:, ::-1]).all()
    assert mirrored.flags.c_contiguous


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),  # grey
        np.zeros((4, 4, 4), np.uint8),  # with alpha
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_anything_but_rgb_bytes_is_refused(pixels) -> None:
    with pytest.raises(EncoderError, match="must be a uint8 array"):
        to_square(pixels, 8)
