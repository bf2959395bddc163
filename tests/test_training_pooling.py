"""Poolings as modules: each is its formula, and GeM learns its power."""

from __future__ import annotations

import pytest
import torch

from embedsearch.encoders.pooling import POOLINGS
from embedsearch.errors import DataError
from embedsearch.training.networks.pooling import MOST_POWER, LearnedGem, make_pool

MAPS = torch.rand(3, 5, 4, 6, generator=torch.Generator().manual_seed(0)) + 0.01


@pytest.mark.parametrize("name", POOLINGS)
def test_a_module_pools_as_its_formula_does(name: str) -> None:
    torch.testing.assert_close(make_pool(name)(MAPS), POOLINGS[name](MAPS))


def test_only_gem_learns_and_that_one_number() -> None:
    learned = {name: sum(p.numel() for p in make_pool(name).parameters()) for name in POOLINGS}
    assert learned == {"avg": 0, "max": 0, "gem": 1, "l2": 0, "rmac": 0}


def test_gem_of_power_1_is_the_average_and_of_2_the_root_mean_square() -> None:
    torch.testing.assert_close(LearnedGem(1.0)(MAPS), make_pool("avg")(MAPS))
    torch.testing.assert_close(LearnedGem(2.0)(MAPS), make_pool("l2")(MAPS))


@pytest.mark.parametrize(("start", "wanted"), [(1.5, 5.0), (6.0, 2.0)])
def test_the_power_is_found_by_gradient(start: float, wanted: float) -> None:
    pool, goal = LearnedGem(start), LearnedGem(wanted)(MAPS).detach()
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        (pool(MAPS) - goal).square().sum().backward()
        optimizer.step()
    assert pool.power.item() == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(("power", "bound"), [(-3.0, 1.0), (0.0, 1.0), (500.0, MOST_POWER)])
def test_a_power_that_strays_counts_as_the_nearest_that_makes_sense(
    power: float, bound: float
) -> None:
    torch.testing.assert_close(LearnedGem(power)(MAPS), LearnedGem(bound)(MAPS))


def test_large_activations_do_not_overflow_in_half_precision() -> None:
    pooled = LearnedGem(8.0)((MAPS * 200).half())
    assert pooled.dtype == torch.float32 and pooled.isfinite().all()
    assert (pooled <= 203).all()


def test_a_pooling_that_there_is_not_is_named() -> None:
    with pytest.raises(DataError, match="there is no pooling 'sum'; there are avg, max, gem, l2"):
        make_pool("sum")
