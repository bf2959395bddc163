"""Layouts of rows whose groups are known, and new rows placed among old ones."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.errors import MissingExtraError
from embedsearch.explore import tsne
from embedsearch.explore.projection import LEAST_OLD, METHODS, lay_out, place
from embedsearch.store.vectors import nearest_by_distance

GROUPS = 4


def rows_in_groups(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around four centres, and which centre each belongs to."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(GROUPS, 24))
    group = rng.integers(GROUPS, size=count)
    rows = centres[group] + rng.normal(0, 0.35, (count, 24))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), group


def share_near_their_own(places: np.ndarray, group: np.ndarray) -> float:
    """The part of the points whose nearest other point is of the same group."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((group[distances.argmin(axis=1)] == group).mean())


@pytest.fixture(scope="module", params=METHODS)
def laid(request: pytest.FixtureRequest) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Any]:
    """One layout by each method: it takes seconds."""
    rows, group = rows_in_groups(120)
    places, parameters = lay_out(rows, request.param)
    return request.param, rows, group, places, parameters


def test_rows_of_one_group_lie_together_and_the_groups_apart(laid: Any) -> None:
    _, _, group, places, _ = laid
    assert places.shape == (120, 2) and places.dtype == np.float64
    assert share_near_their_own(places, group) > 0.95


def test_new_rows_are_placed_beside_the_old_ones_of_their_group(laid: Any) -> None:
    method, rows, group, places, parameters = laid
    before = places.copy()
    new, new_group = rows_in_groups(25, seed=1)
    placed = place(new, rows, places, method, parameters)
    assert placed.shape == (25, 2)
    np.testing.assert_array_equal(places, before)
    distances = np.linalg.norm(placed[:, None] - places[None], axis=2)
    assert (group[distances.argmin(axis=1)] == new_group).mean() > 0.9


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_same_rows_get_the_same_places(method: Any) -> None:
    rows, _ = rows_in_groups(40)
    np.testing.assert_array_equal(lay_out(rows, method)[0], lay_out(rows.copy(), method)[0])


def test_pca_places_a_row_again_exactly_where_it_lay() -> None:
    rows, _ = rows_in_groups(60)
    places, parameters = lay_out(rows, "pca")
    np.testing.assert_allclose(place(rows[7:9], rows, places, "pca", parameters), places[7:9])
    assert places[:, 0].var() > places[:, 1].var() > 0


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("count", [1, 2, 3, LEAST_OLD - 1, LEAST_OLD])
def test_few_pictures_and_pictures_that_are_all_the_same_have_places_too(
    method: Any, count: int
) -> None:
    for rows in (rows_in_groups(count)[0], np.repeat(rows_in_groups(1)[0], count, axis=0)):
        places, parameters = lay_out(rows, method)
        assert places.shape == (count, 2) and np.isfinite(places).all()
        if count >= LEAST_OLD and method == "tsne":
            assert np.isfinite(place(rows[:2], rows, places, method, parameters)).all()


def test_progress_tells_how_far_t_sne_is() -> None:
    told: list[tuple[str, int, int]] = []
    lay_out(rows_in_groups(40)[0], "tsne", progress=lambda *it: told.append(it))
    steps = [(done, total) for what, done, total in told if what == "t-SNE"]
    assert steps[-1] == (750, 750)
    assert steps == sorted(steps) and len(steps) > 50


@pytest.mark.parametrize("method, library", [("tsne", "openTSNE"), ("umap", "umap")])
def test_without_its_library_a_method_says_what_to_install_and_pca_works(
    monkeypatch: pytest.MonkeyPatch, method: Any, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    rows, _ = rows_in_groups(20)
    with pytest.raises(MissingExtraError, match=r'pip install "embedsearch\[map\]"'):
        lay_out(rows, method)
    assert lay_out(rows, "pca")[0].shape == (20, 2)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 40), asked=st.integers(1, 8), k=st.integers(1, 50), seed=st.integers(0, 99)
)
def test_nearest_by_distance_are_those_of_least_distance(
    count: int, asked: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 5)).astype(np.float32)
    queries = rng.normal(size=(asked, 5)).astype(np.float32)
    found, distances = nearest_by_distance(rows, queries, k)
    exact = np.sort(np.linalg.norm(queries[:, None] - rows[None], axis=2), axis=1)
    np.testing.assert_allclose(distances, exact[:, : min(k, count)], atol=1e-4)
    own = np.linalg.norm(queries[:, None] - rows[found], axis=2)
    np.testing.assert_allclose(own, distances, atol=1e-4)


def test_nearest_by_distance_by_cells_find_nearly_all_of_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from embedsearch.store import vectors

    rows, _ = rows_in_groups(6000)
    exact, _ = nearest_by_distance(rows, rows[:200], 10)
    monkeypatch.setattr(vectors, "NEAREST_EXACT_ROWS", 100)
    found, distances = nearest_by_distance(rows, rows[:200], 10)
    hits = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
    assert np.mean(hits) > 8
    assert (found >= 0).all() and np.isfinite(distances).all()


def test_of_copies_each_leaves_out_itself_among_its_neighbours() -> None:
    found = np.array([[1, 0, 2], [1, 0, 2], [0, 1, 3], [0, 1, 2]])
    distances = np.zeros((4, 3), np.float32)
    left, away = tsne._without_itself(found, distances)
    # Row 3 is not among its own: many copies, and it was cut off. It loses the farthest.
    assert left.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    assert away.shape == (4, 2)
