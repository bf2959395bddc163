"""Ranks, recall and average precision, against numbers worked by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from embedsearch.training.evaluate.metrics import (
    average_precisions,
    first_ranks,
    leave_one_out,
    recall_summary,
    retrieval_summary,
)


def similarities(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def relevance(*rows: str) -> np.ndarray:
    """One text a query: x is relevant, . is not."""
    return np.array([[mark == "x" for mark in row] for row in rows])


def test_the_first_rank_counts_the_irrelevant_pictures_before_the_best_relevant_one() -> None:
    ranks = first_ranks(
        similarities([0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]),
        relevance("x..", "..x", ".xx"),
    )
    assert ranks.tolist() == [1, 3, 2]


def test_other_relevant_pictures_do_not_push_a_query_down() -> None:
    assert first_ranks(similarities([0.9, 0.8, 0.7]), relevance("xxx")).tolist() == [1]


def test_a_tie_counts_against_the_query() -> None:
    tied = similarities([0.5, 0.5, 0.5])
    assert first_ranks(tied, relevance("x..")).tolist() == [3]
    # Both others stand before it: precision 1/3.
    assert average_precisions(tied, relevance("x..")) == pytest.approx([1 / 3])


def test_recall_is_the_share_of_ranks_within_k() -> None:
    told = recall_summary(np.array([1, 2, 5, 6, 10, 11]))
    assert told == {
        "R@1": pytest.approx(1 / 6),
        "R@5": pytest.approx(3 / 6),
        "R@10": pytest.approx(5 / 6),
        "median_rank": 5.5,
    }


def test_average_precision_is_the_mean_precision_at_the_relevant_pictures() -> None:
    # In the order of similarity: relevant, not, relevant, not, relevant. (1/1 + 2/3 + 3/5) / 3.
    got = average_precisions(similarities([0.9, 0.8, 0.7, 0.6, 0.5]), relevance("x.x.x"))
    assert got == pytest.approx([(1 + 2 / 3 + 3 / 5) / 3])


def test_average_precision_with_one_relevant_picture_is_the_reciprocal_rank() -> None:
    got = average_precisions(similarities([0.9, 0.8, 0.7, 0.6]), relevance("...x"))
    assert got == pytest.approx([1 / 4])


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.permutations([value / 16 for value in range(n)]),
            st.lists(st.booleans(), min_size=n, max_size=n).filter(any),
        )
    )
)
def test_average_precision_agrees_with_scikit_learn_where_nothing_ties(
    query: tuple[list[float], list[bool]],
) -> None:
    scores, relevant = query
    ours = average_precisions(similarities(scores), np.array([relevant]))
    assert ours == pytest.approx([average_precision_score(relevant, scores)])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 0.5]), st.booleans()), min_size=1, max_size=10
    ).filter(lambda row: any(relevant for _, relevant in row)),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_gallery_changes_nothing(row: list[tuple[float, bool]], random) -> None:
    def measured(gallery: list[tuple[float, bool]]) -> tuple[int, float]:
        scores = similarities([score for score, _ in gallery])
        relevant = np.array([[relevant for _, relevant in gallery]])
        return int(first_ranks(scores, relevant)[0]), float(average_precisions(scores, relevant)[0])

    shuffled = list(row)
    random.shuffle(shuffled)
    assert measured(row) == pytest.approx(measured(shuffled))


def test_a_summary_leaves_out_queries_without_an_answer() -> None:
    told = retrieval_summary(
        similarities([0.9, 0.1], [0.9, 0.1], [0.9, 0.1]), relevance("x.", "..", ".x")
    )
    assert told == {"R@1": 0.5, "mAP": pytest.approx((1 + 1 / 2) / 2)}


def test_a_summary_of_queries_that_all_have_no_answer_is_no_number() -> None:
    told = retrieval_summary(similarities([0.9, 0.1]), relevance(".."))
    assert np.isnan([told["R@1"], told["mAP"]]).all()


def test_leave_one_out_never_finds_the_picture_itself() -> None:
    pictures = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    scores, relevant = leave_one_out(pictures, ["a", "b", "a"])
    assert relevant.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    # Picture 0 is nearer to 1 (0.8) than to 2 (0), and 2 nearer to 1 (0.6) than to 0.
    assert first_ranks(scores[[0, 2]], relevant[[0, 2]]).tolist() == [2, 2]


def test_two_equal_pictures_are_each_others_first_hit() -> None:
    pictures = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert retrieval_summary(*leave_one_out(pictures, ["a", "a", "b"])) == {"R@1": 1, "mAP": 1}


def test_a_query_without_an_answer_has_no_rank() -> None:
    with pytest.raises(ValueError, match="no relevant picture"):
        first_ranks(similarities([0.9, 0.1]), relevance(".."))
    with pytest.raises(ValueError, match="no relevant picture"):
        average_precisions(similarities([0.9, 0.1]), relevance(".."))


def test_relevance_must_have_the_shape_of_the_similarities() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        first_ranks(similarities([0.9, 0.1]), relevance("x"))
