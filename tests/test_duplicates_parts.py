"""The parts of duplicates: hash and alignment, bursts, neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import photograph
from PIL import Image, ImageDraw, ImageOps

from embedsearch.explore.bursts import burst_pairs, seconds
from embedsearch.explore.perceptual import View, likeness
from embedsearch.explore.quality import quality
from embedsearch.store import neighbours


def view(picture: Image.Image) -> View:
    return View(np.asarray(picture))


def test_a_turned_and_mirrored_crop_is_recognised_and_another_photo_is_not() -> None:
    china = photograph()
    turned = china.rotate(10, Image.Resampling.BICUBIC)
    mirrored = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = likeness(view(china), view(mirrored), 10)
    assert found.distance <= 10
    assert found.mirrored and abs(found.turn) == 10
    assert found.changed == "mirrored, turned 10°"
    assert likeness(view(china), view(photograph("flower")), 10).distance > 10


def test_the_hash_does_not_change_with_contrast() -> None:
    china = photograph()
    assert likeness(view(china), view(Image.eval(china, lambda v: 40 + v // 2)), 64).distance <= 2


def test_pictures_of_any_shape_are_compared() -> None:
    wide = Image.new("RGB", (900, 3), "red")
    assert likeness(view(wide), view(photograph()), 0).distance > 0
    assert likeness(view(wide), view(wide), 0).distance == 0


def test_quality_falls_with_blur_and_with_bad_exposure() -> None:
    china = photograph()
    good = quality(np.asarray(china))
    soft = quality(np.asarray(china.resize((160, 107)).resize(china.size)))
    dark = quality(np.asarray(Image.eval(china, lambda value: value // 4)))
    assert soft.sharpness < good.sharpness / 2
    assert dark.exposure < 0.8 * good.exposure
    assert quality(np.zeros((5, 5, 3), np.uint8)).sharpness == 0


def test_times_are_read_with_and_without_an_offset_and_else_are_nan() -> None:
    assert seconds("2024-05-06T07:08:10+02:00") - seconds("2024-05-06T07:08:09") == 1
    assert np.isnan(seconds(None)) and np.isnan(seconds("yesterday"))


def test_bursts_need_both_time_and_likeness() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1], [1, 0], [1, 0]], np.float16)
    times = [10.0, 12.0, 11.0, 99.0, float("nan")]
    assert sorted(burst_pairs(rows, times, 3.0, 0.7)) == [(0, 1)]


@pytest.mark.parametrize("exact_rows", [1_000_000, 1000])
def test_neighbours_are_those_above_the_cosine_each_once(
    monkeypatch: pytest.MonkeyPatch, exact_rows: int
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_ROWS", exact_rows)
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((12_000, 32), dtype=np.float32)
    rows[6000:6500] = rows[:500] + 0.05 * rng.standard_normal((500, 32), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    one, other, cosines = neighbours.neighbour_pairs(rows.astype(np.float16), 0.95, 4)
    assert sorted(zip(one.tolist(), other.tolist(), strict=True)) == [
        (place, place + 6000) for place in range(500)
    ]
    assert (np.diff(cosines) <= 0).all()
    assert np.allclose(cosines, np.vecdot(rows[one], rows[other]), atol=2e-3)


def test_few_rows_have_few_neighbours() -> None:
    assert len(neighbours.neighbour_pairs(np.ones((1, 4), np.float16), 0, 8)[0]) == 0
    one, other, cosines = neighbours.neighbour_pairs(np.eye(4, dtype=np.float16)[[0, 0, 1]], 0.5, 8)
    assert (one.tolist(), other.tolist(), cosines.tolist()) == ([0], [1], [1.0])


def test_a_border_is_no_content_even_with_words_in_it() -> None:
    china = photograph()
    assert quality(np.asarray(china)).content == 1.0
    screen = ImageOps.expand(china, (0, 85, 0, 86), (18, 18, 20))
    ImageDraw.Draw(screen).text((9, 30), "12:34", "white")
    assert quality(np.asarray(screen)).content == pytest.approx(427 / 598, abs=0.02)
    assert quality(np.full((40, 30, 3), 255, np.uint8)).content == 1.0  # flat all over


def test_pictures_turned_and_cropped_off_the_middle_are_found_in_the_whole_one() -> None:
    china = photograph()
    corner = china.crop((0, 0, 460, 300))
    assert likeness(view(china), view(corner), 10).distance <= 10
    assert likeness(view(corner), view(china), 10).distance <= 10
    assert likeness(view(corner), view(china), 10).changed == "cropped"
