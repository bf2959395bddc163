"""Poolings against what can be worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.encoders.pooling import POOLINGS, gem, regions, rmac

MAPS = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [4.0, 0.0]]]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("avg", [3.0, 1.0]),
        ("max", [6.0, 4.0]),
        ("l2", [math.sqrt(50 / 4), 2.0]),
        ("gem", [((1 + 8 + 27 + 216) / 4) ** (1 / 3), (64 / 4) ** (1 / 3)]),
    ],
)
def test_a_pooling_gives_what_its_formula_says(name: str, expected: list[float]) -> None:
    assert POOLINGS[name](MAPS)[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_gem_is_the_mean_at_power_one_and_nears_the_maximum() -> None:
    assert gem(MAPS, 1.0)[0].tolist() == pytest.approx([3.0, 1.0], rel=1e-4)
    assert gem(MAPS.double(), 200.0)[0].tolist() == pytest.approx([6.0, 4.0], rel=0.01)


def test_rmac_of_one_level_is_the_direction_of_the_maximum() -> None:
    assert rmac(MAPS, levels=1)[0].tolist() == pytest.approx([6 / math.sqrt(52), 4 / math.sqrt(52)])


def test_rmac_sums_the_directions_of_its_regions() -> None:
    # Side 4 // 3 = 1 at level 2: the four cells; side 4 // 4 = 1 at level 3: nine, by rounding
    # down (0, 0, 1) along each side.
    cell = {
        (top, left): torch.nn.functional.normalize(MAPS[0, :, top, left], dim=0)
        for top in (0, 1)
        for left in (0, 1)
    }
    whole = torch.nn.functional.normalize(torch.tensor([6.0, 4.0]), dim=0)
    two = sum(cell.values())
    three = sum(cell[top, left] for top in (0, 0, 1) for left in (0, 0, 1))
    torch.testing.assert_close(rmac(MAPS)[0], whole + two + three)


def test_the_regions_of_a_square_map_are_one_four_and_nine() -> None:
    found = list(regions(12, 12))
    assert [side for *_, side in found] == [12] + [8] * 4 + [6] * 9
    assert found[1:5] == [(0, 0, 8), (0, 4, 8), (4, 0, 8), (4, 4, 8)]


@settings(deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30))
def test_regions_lie_in_the_map_and_cover_it(height: int, width: int) -> None:
    seen = torch.zeros(height, width)
    for top, left, side in regions(height, width):
        assert 0 <= top <= height - side and 0 <= left <= width - side
        seen[top : top + side, left : left + side] = 1
    assert seen.all()


@pytest.mark.parametrize("name", POOLINGS)
def test_every_picture_of_a_batch_is_pooled_by_itself(name: str) -> None:
    maps = torch.rand(3, 5, 7, 7, generator=torch.Generator().manual_seed(1))
    together = POOLINGS[name](maps)
    assert together.shape == (3, 5)
    for place in range(3):
        torch.testing.assert_close(together[place], POOLINGS[name](maps[place : place + 1])[0])
