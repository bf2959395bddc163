"""Groups of rows: planted ones are found, whatever else there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from embedsearch.explore.grouping import by_density, by_kmeans, number_of_groups
from embedsearch.store import neighbours
from embedsearch.store.neighbours import nearest_neighbours
from embedsearch.store.vectors import nearest_rows

DIM = 32


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted(groups: int, each: int, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Rows around random directions, float16, and the group of each."""
    rng = np.random.default_rng(groups)
    centres = unit(rng.standard_normal((groups, DIM)))
    labels = np.repeat(np.arange(groups), each)
    spread = rng.standard_normal((len(labels), DIM)) * noise / np.sqrt(DIM)
    return unit(centres[labels] + spread).astype(np.float16), labels


@pytest.mark.parametrize(("groups", "each"), [(2, 5), (12, 40), (30, 20)])
def test_kmeans_finds_planted_groups_of_a_known_number(groups: int, each: int) -> None:
    rows, labels = planted(groups, each)
    found = by_kmeans(rows, groups)
    assert adjusted_rand_score(labels, found.labels) > 0.95
    assert np.allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-3)
    own = (rows.astype(np.float32) * found.centroids[found.labels]).sum(1)
    assert np.allclose(found.similarities, own, atol=1e-5)


@pytest.mark.parametrize(("groups", "each"), [(10, 30), (25, 20)])
def test_the_number_of_planted_groups_is_found(groups: int, each: int) -> None:
    rows, _ = planted(groups, each)
    assert groups * 0.75 <= number_of_groups(rows) <= groups * 1.35


def test_the_same_rows_give_the_same_groups() -> None:
    rows, _ = planted(8, 25)
    for group in (by_kmeans, by_density):
        first, second = group(rows), group(rows)
        assert (first.labels == second.labels).all()
        assert (first.centroids == second.centroids).all()


def test_density_finds_planted_groups_and_leaves_out_what_is_like_nothing() -> None:
    rows, labels = planted(10, 30)
    strays = unit(np.random.default_rng(7).standard_normal((40, DIM))).astype(np.float16)
    found = by_density(np.concatenate([rows, strays]))
    inside = found.labels[:300]
    assert (inside >= 0).mean() > 0.9
    assert adjusted_rand_score(labels[inside >= 0], inside[inside >= 0]) > 0.95
    assert (found.labels[300:] < 0).mean() > 0.8
    assert (found.similarities[found.labels < 0] == 0).all()


def test_many_copies_of_few_pictures_are_a_group_each() -> None:
    rows = np.repeat(planted(3, 1)[0], 20, axis=0)
    for found in (by_kmeans(rows, 7), by_density(rows)):
        assert len(found.centroids) == 3
        assert adjusted_rand_score(np.repeat(np.arange(3), 20), found.labels) == 1


@given(count=st.integers(1, 40), wished=st.one_of(st.none(), st.integers(1, 60)))
@settings(max_examples=25, deadline=None)
def test_any_number_of_rows_is_grouped(count: int, wished: int | None) -> None:
    rows = unit(np.random.default_rng(count).standard_normal((count, 8))).astype(np.float16)
    found = by_kmeans(rows, wished)
    assert 1 <= len(found.centroids) <= min(count, wished or count)
    assert set(found.labels.tolist()) == set(range(len(found.centroids)))
    loose = by_density(rows)
    assert set(loose.labels.tolist()) - {-1} == set(range(len(loose.centroids)))
    assert np.isfinite(loose.centroids).all()


def test_neighbours_are_the_nearest_others() -> None:
    rows, _ = planted(4, 10)
    wide = rows.astype(np.float32)
    cosines = wide @ wide.T
    np.fill_diagonal(cosines, -2)
    expected = np.sort(cosines, axis=1)[:, ::-1][:, :5]
    found = nearest_neighbours(rows, 5)
    assert np.allclose(np.take_along_axis(cosines, found, 1), expected, atol=1e-5)
    copies = nearest_neighbours(np.repeat(rows[:1], 9, axis=0), 3)
    assert copies.shape == (9, 3)
    assert ((copies >= 0) & (copies < 9)).all()


def test_a_row_goes_to_the_most_similar_target() -> None:
    targets = np.eye(3, dtype=np.float32)
    places, cosines = nearest_rows(np.array([[0, 0.6, 0.8], [1, 0, 0]], np.float16), targets)
    assert places.tolist() == [2, 0]
    assert cosines.tolist() == pytest.approx([0.8, 1], abs=1e-3)


def test_many_rows_look_for_neighbours_in_the_nearest_cells_and_miss_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, _ = planted(60, 50)
    exact = nearest_neighbours(rows, 5)
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 100)
    found = nearest_neighbours(rows, 5)
    assert found.shape == exact.shape
    assert (found != np.arange(len(rows))[:, None]).all()
    shared = (found[:, :, None] == exact[:, None, :]).any(axis=2).mean()
    assert shared > 0.9
