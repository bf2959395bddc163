"""Part of a picture, with as many pixels as are wanted of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedsearch.images.decode import decode, read
from embedsearch.images.region import region_pixels


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """400 x 200; red counts the columns, green the rows."""
    columns, rows = np.meshgrid(np.arange(400) * 255 // 399, np.arange(200))
    pixels = np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)
    path = tmp_path / "ramp.png"
    Image.fromarray(pixels).save(path)
    return path


def part(path: Path, box: tuple[float, float, float, float], at_least: float) -> np.ndarray:
    file = read(str(path))
    return region_pixels(file, decode(file, 20), box, at_least)


def test_a_part_of_which_all_pixels_are_wanted_is_those_pixels(ramp: Path) -> None:
    whole = np.asarray(Image.open(ramp))
    assert np.array_equal(part(ramp, (30, 40, 50, 25), 25), whole[40:65, 30:80])
    assert np.array_equal(part(ramp, (30, 40, 50, 25), 1000), whole[40:65, 30:80])


@pytest.mark.parametrize("at_least", [1, 5, 10, 20, 40])
def test_the_shorter_side_has_what_is_wanted_and_less_than_all(ramp: Path, at_least: int) -> None:
    pixels = part(ramp, (100, 50, 200, 100), at_least)
    assert at_least <= min(pixels.shape[:2]) <= max(2 * at_least, 10)
    assert pixels.flags.c_contiguous
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    np.testing.assert_allclose(middle, [127, 100, 0], atol=20)


def test_a_part_smaller_than_a_pixel_is_one_pixel(ramp: Path) -> None:
    assert part(ramp, (399.5, 199.5, 0.5, 0.5), 32).tolist() == [[[255, 199, 0]]]
    assert part(ramp, (10, 10, 1e-300, 1e-300), 32).shape == (1, 1, 3)
