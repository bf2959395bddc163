"""Weights, samples, strengths and invented embeddings for classes of unlike size."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.errors import DataError, MissingExtraError
from embedsearch.training.data.balance import (
    SAMPLINGS,
    SYNTHESES,
    augmentation_strengths,
    class_weights,
    draw_places,
    synthesise,
)

COUNTS = (40, 12, 6)
LABELS = np.repeat(np.arange(3), COUNTS)

label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


def rows(centres: tuple[float, ...] = (0, 60, 120), width: float = 25, seed: int = 0) -> np.ndarray:
    """Unit vectors in the plane, each class around its angle in degrees."""
    rng = np.random.default_rng(seed)
    angles = np.radians(np.array(centres)[LABELS] + rng.uniform(-width, width, len(LABELS)))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def degrees(embeddings: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(embeddings[:, 1], embeddings[:, 0]))


# Weights and strengths


def test_inverse_weights_are_those_worked_by_hand() -> None:
    # 1/4 and 1, of mean 5/8; nobody has the third class.
    weights = class_weights(np.array([0, 0, 0, 0, 1]), 3)
    assert weights.tolist() == pytest.approx([0.4, 1.6, 0.0])
    assert weights.dtype == np.float32


def test_weights_by_effective_number_are_those_worked_by_hand() -> None:
    # beta 0.5: (1 - 0.5) / (1 - 0.5**4) = 8/15 and (1 - 0.5) / (1 - 0.5) = 1, of mean 23/30.
    weights = class_weights(np.array([0, 0, 0, 0, 1]), 2, "effective", beta=0.5)
    assert weights.tolist() == pytest.approx([16 / 23, 30 / 23])


@settings(max_examples=60, deadline=None)
@given(labels=label_lists)
def test_effective_weights_go_from_none_to_inverse_as_beta_rises(labels: np.ndarray) -> None:
    there = np.bincount(labels, minlength=5) > 0
    none = class_weights(labels, 5, "effective", beta=0.0)
    np.testing.assert_allclose(none, class_weights(labels, 5, "none"))
    near = class_weights(labels, 5, "effective", beta=1 - 1e-7)
    np.testing.assert_allclose(near, class_weights(labels, 5, "inverse"), rtol=1e-4)
    for weights in (none, near, class_weights(labels, 5, "effective", beta=0.9)):
        assert weights[there].mean() == pytest.approx(1, rel=1e-5)
        assert (weights[~there] == 0).all() and (weights[there] > 0).all()


def test_rare_classes_are_augmented_more_strongly_by_the_logarithm_of_their_rarity() -> None:
    labels = np.repeat([0, 1, 2], [1000, 100, 1])
    assert augmentation_strengths(labels, 3).tolist() == pytest.approx([1, 1.5, 2])
    assert augmentation_strengths(labels, 3, most=3).tolist() == pytest.approx([1, 2, 3])


@pytest.mark.parametrize("function", [class_weights, augmentation_strengths])
def test_no_labels_at_all_are_an_error(function) -> None:
    with pytest.raises(DataError, match="no labelled picture"):
        function(np.array([], np.int64), 3)


# Sampling


@settings(max_examples=60, deadline=None)
@given(labels=label_lists, method=st.sampled_from(SAMPLINGS), seed=st.integers(0, 99))
def test_samples_are_places_and_the_same_for_the_same_seed(
    labels: np.ndarray, method: str, seed: int
) -> None:
    places = draw_places(labels, method, seed)
    assert (places == draw_places(labels, method, seed)).all()
    assert places.min() >= 0 and places.max() < len(labels)
    counts, drawn = np.bincount(labels), np.bincount(labels[places])
    if method == "none":
        assert sorted(places) == list(range(len(labels)))
    elif method == "over":
        assert set(places) == set(range(len(labels)))
        assert (drawn == np.where(counts > 0, counts.max(), 0)).all()
    elif method == "under":
        assert len(set(places)) == len(places)
        assert (drawn[counts > 0] == counts[counts > 0].min()).all()
    else:
        assert len(places) == len(labels)


def test_balanced_samples_have_every_class_as_often_and_other_pictures_each_epoch() -> None:
    epochs = [draw_places(LABELS, "balanced", seed) for seed in range(60)]
    shares = np.bincount(LABELS[np.concatenate(epochs)]) / (60 * len(LABELS))
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert set(np.concatenate(epochs)) == set(range(len(LABELS)))


@pytest.mark.parametrize("method", ["none", "over", "under"])
def test_samples_are_shuffled_anew_each_epoch(method: str) -> None:
    first, second = (draw_places(LABELS, method, seed) for seed in (0, 1))
    assert (first != second).any() and (np.diff(LABELS[first]) < 0).any()


# Invented embeddings


@pytest.mark.parametrize("method", SYNTHESES)
def test_invented_embeddings_lie_in_their_class_and_even_the_classes_out(method: str) -> None:
    embeddings = rows()
    made = synthesise(embeddings, LABELS, method, seed=0)
    assert (made.embeddings[: len(LABELS)] == embeddings).all()
    assert (made.labels[: len(LABELS)] == LABELS).all()
    assert made.embeddings.dtype == np.float32 and not made.untouched
    np.testing.assert_allclose(np.linalg.norm(made.embeddings, axis=1), 1, rtol=1e-5)
    slack = 0 if method == "smote" else 4  # ADASYN rounds for each embedding
    assert np.abs(np.bincount(made.labels) - 40).max() <= slack
    for kind in (1, 2):
        own = degrees(embeddings[kind == LABELS])
        new = degrees(made.embeddings[len(LABELS) :][made.labels[len(LABELS) :] == kind])
        assert own.min() <= new.min() and new.max() <= own.max()
        assert len(np.unique(new)) == len(new)


def test_adasyn_invents_at_the_border_and_smote_anywhere() -> None:
    embeddings = rows((0, 40, 150))  # the first two overlap between 15 and 25 degrees

    def new(method: str) -> np.ndarray:
        made = synthesise(embeddings, LABELS, method, seed=0)
        return degrees(made.embeddings[len(LABELS) :][made.labels[len(LABELS) :] == 1])

    assert new("adasyn").mean() < new("smote").mean() - 5


def test_classes_that_border_on_none_get_none_from_adasyn_and_are_told() -> None:
    embeddings = rows((0, 120, 240), 10)
    made = synthesise(embeddings, LABELS, "adasyn", seed=0)
    assert made.untouched == (1, 2) and len(made.labels) == len(LABELS)
    assert synthesise(embeddings, LABELS, "smote", seed=0).untouched == ()


@pytest.mark.parametrize("method", SYNTHESES)
def test_the_same_seed_invents_the_same(method: str) -> None:
    first, again, other = (synthesise(rows(), LABELS, method, seed=s).embeddings for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("method", SYNTHESES)
def test_a_class_with_too_few_pictures_is_named_with_what_to_do(method: str) -> None:
    with pytest.raises(DataError) as caught:
        synthesise(rows(), LABELS, method, seed=0, neighbours=7, names=("dog", "cat", "axolotl"))
    assert str(caught.value) == (
        f"{method.upper()} with 7 neighbours needs 8 pictures of each class; too few: axolotl 6. "
        "Add pictures, lower the number of neighbours to 5, leave these classes out, or "
        "oversample instead."
    )
    synthesise(rows(), LABELS, method, seed=0, neighbours=5)


def test_a_single_picture_cannot_be_helped_by_fewer_neighbours() -> None:
    labels = np.array([0] * 10 + list(range(1, 8)))
    embeddings = np.tile(np.eye(2, dtype=np.float32)[0], (17, 1))
    with pytest.raises(DataError) as caught:
        synthesise(embeddings, labels, "smote", seed=0)
    assert "class 1 1, class 2 1, class 3 1, class 4 1, class 5 1 and 2 more" in str(caught.value)
    assert "lower" not in str(caught.value)


def test_classes_that_are_even_get_nothing_invented() -> None:
    labels = np.repeat([0, 1], 3)
    embeddings = rows()[:6]
    assert len(synthesise(embeddings, labels, "smote", seed=0).labels) == 6


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: class_weights(LABELS, 3, "odd"), "there is no weights of classes 'odd'"),
        (lambda: class_weights(LABELS, 3, "effective", beta=1.0), "beta is from 0 to below 1"),
        (lambda: draw_places(LABELS, "odd", 0), "there is no sampling 'odd'; there are none, bal"),
        (lambda: synthesise(rows(), LABELS, "odd", seed=0), "there is no synthesis 'odd'"),
    ],
)
def test_what_there_is_not_is_named(call, said: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert said in str(caught.value)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "imblearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "imblearn", None)
    with pytest.raises(MissingExtraError, match=r"embedsearch\[train\]"):
        draw_places(LABELS, "over", 0)
