"""Names of clusters."""

from __future__ import annotations

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.explore.cluster_names import (
    folder_of,
    names_by_terms,
    names_by_words,
    says_something,
    word_fit,
)
from embedsearch.explore.grouping import Grouping
from embedsearch.explore.word_scores import embedded_words

WORDS = ("animal", "cat", "dog", "tree")


def unit(rows: list[list[float]]) -> np.ndarray:
    matrix = np.array(rows, np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def test_a_name_is_what_sets_a_cluster_apart_from_the_others() -> None:
    """ "animal" fits cats and dogs best of all words, but it fits both."""
    words = unit([[1, 1, 0], [1, 0.1, 0], [0.1, 1, 0], [0, 0, 1]])
    clusters = unit([[1, 0.6, 0], [0.6, 1, 0]])
    fit = clusters @ words.T
    assert fit.argmax(axis=1).tolist() == [0, 0]
    assert names_by_words(clusters @ words.T, WORDS) == ["cat", "dog"]


def test_a_word_that_stands_out_in_members_counts_beside_one_that_fits_their_mean() -> None:
    rng = np.random.default_rng(0)
    embedded = unit(np.eye(40).tolist())
    rows = unit(
        [[1 if place in (0, 1 + member) else 0 for place in range(40)] for member in range(4)]
    )
    rows = np.concatenate([rows, unit(rng.standard_normal((3, 40)).tolist())]).astype(np.float16)
    labels = np.array([0, 0, 0, 0, -1, -1, -1])
    middle = unit(np.eye(40)[39:].tolist())  # near to a word that is true of no member
    fit = word_fit(rows, Grouping(labels, middle, np.zeros(7, np.float32)), embedded)
    assert fit.shape == (1, 40)
    assert fit[0, 39] == 1 and fit[0].argmax() == 0
    assert fit[0, 1] == pytest.approx(fit[0, 0] / 4, rel=0.05)


def test_no_two_clusters_have_one_name_and_taken_ones_are_left_alone() -> None:
    words = unit([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    clusters = unit([[1, 0, 0], [1, 0.01, 0]])
    names = names_by_words(clusters @ words.T, WORDS)
    assert len(set(names)) == 2
    assert "cat" in names
    assert "cat" not in names_by_words(clusters @ words.T, WORDS, taken={"cat"})


def test_a_word_that_fits_no_better_than_one_had_to_by_chance_names_nothing() -> None:
    rng = np.random.default_rng(0)
    embedded = unit(rng.standard_normal((1000, 64)).tolist())
    near, far = embedded[3] + 0.5 * embedded[7], rng.standard_normal(64)
    middles = unit([near.tolist(), far.tolist()])
    grouping = Grouping(np.zeros(0, np.int64), middles, np.zeros(0, np.float32))
    allowed = says_something(grouping, embedded)
    assert np.flatnonzero(allowed[0]).tolist() == [3, 7]
    assert not allowed[1].any()
    words = [f"word {place}" for place in range(1000)]
    assert names_by_words(middles @ embedded.T, words, (), allowed) == ["word 3", None]
    assert names_by_words(middles @ embedded.T, words, {"word 3"}, allowed) == ["word 7", None]
    assert says_something(grouping, embedded[:9]).all()


def test_a_cluster_gives_its_word_up_where_another_has_no_other_that_fits() -> None:
    fit = np.array([[0.9, 0.6, 0.0], [0.7, 0.0, 0.69]], np.float32)
    allowed = np.array([[True, True, False], [True, False, False]])
    assert names_by_words(fit, WORDS[:3], (), allowed) == ["cat", "animal"]


@given(clusters=st.integers(1, 8), words=st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_where_words_run_out_the_rest_has_no_name(clusters: int, words: int) -> None:
    rng = np.random.default_rng(clusters)
    known = tuple(f"word {place}" for place in range(words))
    names = names_by_words(rng.standard_normal((clusters, words)), known)
    given_names = [name for name in names if name is not None]
    assert len(given_names) == len(set(given_names)) == min(clusters, words)


def test_folders_and_tags_name_clusters_that_most_members_share() -> None:
    terms = [["Rome", "trip"]] * 6 + [["Oslo", "trip"]] * 5 + [["misc", "trip"]] + [["misc"]] * 4
    labels = np.array([0] * 6 + [1] * 6 + [2, 2, -1, -1])
    assert names_by_terms(terms, labels, 3) == ["Rome", "Oslo", "misc"]
    assert names_by_terms(terms, labels, 3, taken={"Rome"}) == ["trip", "Oslo", "misc"]


def test_what_no_half_of_the_members_shares_names_nothing() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert names_by_terms([["a"], ["b"], ["c"], ["d"], ["d"], ["e"]], labels, 2) == [None, "d"]


def test_what_all_pictures_share_sets_no_cluster_apart() -> None:
    assert names_by_terms([["all"]] * 4, np.array([0, 0, 1, 1]), 2) == [None, None]
    assert names_by_terms([["all"]] * 2, np.array([0, 0]), 1) == ["all"]


def test_a_folder_is_read_as_a_name() -> None:
    assert folder_of("/p/Summer_2020/a.jpg") == "Summer 2020"
    assert folder_of("/a.jpg") == ""


def test_words_that_an_encoder_does_not_know_are_left_out() -> None:
    encoder = ColourEncoder()
    words, embedded = embedded_words(encoder)
    assert "brown dog" in words and "dog" not in words
    assert embedded.shape == (len(words), encoder.info.dim)
    brown = encoder.encode_texts(["brown"])[0]
    assert np.allclose(embedded[words.index("brown dog")], brown)
