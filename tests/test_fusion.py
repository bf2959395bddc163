"""One score out of all that speaks for a picture, and the reasons for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.records import Box, Signal
from embedsearch.search.fusion import WEIGHTS, Evidence, explained, ranked, score

A: Box = (0.0, 0.0, 10.0, 10.0)
B: Box = (5.0, 5.0, 10.0, 10.0)
COSINES = st.floats(-1, 1)


def part(cosine: float, box: Box = A) -> Signal:
    return Signal("object", cosine, box, "dog")


def label(confidence: float, name: str = "dog", box: Box = B) -> Signal:
    return Signal("label", confidence, box, name)


@given(COSINES)
def test_where_only_the_whole_picture_speaks_the_score_is_its_cosine(cosine: float) -> None:
    assert score(Evidence(whole=cosine)) == cosine


@given(COSINES, COSINES)
def test_a_part_counts_when_it_is_nearer_than_the_whole(whole: float, cosine: float) -> None:
    told = score(Evidence(whole=whole, parts=[part(cosine)]))
    assert told == pytest.approx(max(whole, cosine - WEIGHTS.part_discount))


@given(COSINES, COSINES)
def test_a_shot_counts_as_a_whole_picture(whole: float, cosine: float) -> None:
    evidence = Evidence(whole=whole)
    evidence.add_shot(Signal("track", cosine, A, time=3.0))
    assert score(evidence) == max(whole, cosine)


@given(COSINES, st.floats(0, 1), st.floats(0, 1))
def test_labels_and_words_only_add(whole: float, sure: float, read: float) -> None:
    evidence = Evidence(whole=whole)
    evidence.add_label(label(sure), 1.0)
    evidence.text = Signal("text", read, A, text="dog")
    added = WEIGHTS.label * sure + WEIGHTS.text * read
    assert score(evidence) == pytest.approx(whole + added)


def test_of_one_label_the_surest_object_counts_and_of_several_each_its_share() -> None:
    evidence = Evidence(whole=0.0)
    for sure in (0.4, 0.9, 0.6):
        evidence.add_label(label(sure), 0.5)
    evidence.add_label(label(0.8, "car"), 0.5)
    assert score(evidence) == pytest.approx(WEIGHTS.label * (0.5 * 0.9 + 0.5 * 0.8))


def test_reasons_come_with_the_surest_first_and_each_box_once() -> None:
    evidence = Evidence(whole=0.3, parts=[part(0.5, B), part(0.2)])
    evidence.add_label(label(0.9), 1.0)
    evidence.text = Signal("text", 0.7, A, text="dog")
    whole = Signal("image", 0.3, (0.0, 0.0, 20.0, 20.0))
    told = explained(evidence, whole)
    # The best part has the box of the label, and is not shown again.
    assert [one.kind for one in told] == ["text", "label", "image"]


def test_equal_scores_are_ranked_by_id() -> None:
    found = {7: Evidence(whole=0.2), 3: Evidence(whole=0.2), 5: Evidence(whole=0.4)}
    assert ranked(found) == [(5, 0.4), (3, 0.2), (7, 0.2)]
