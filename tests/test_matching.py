"""Whether a picture matches a text at all."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from embedsearch.records import Signal
from embedsearch.search.fusion import Evidence
from embedsearch.search.matching import (
    LABEL,
    PART_STANDS_OUT,
    STANDS_OUT,
    TEXT,
    matches,
    standard_scores,
)

BOX = (0.0, 0.0, 10.0, 10.0)
QUERIES = Path(__file__).parents[1] / "benchmarks" / "queries" / "nothing_matches.csv"


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_text_is_held_against_what_else_could_be_said_of_a_picture() -> None:
    words = rows([1, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0], [0.6, 0, 0.8])
    pictures = rows([0, 1, 0], [0, 0, 1])
    text = np.array([0, 1, 0], np.float32)
    told = standard_scores(pictures, text, words)
    cosines = np.array([0, 0.6, 0.8, 0])
    assert told[0] == pytest.approx((1 - cosines.mean()) / cosines.std(), abs=1e-5)
    assert told[1] < 0 < told[0]


def test_words_that_are_all_alike_to_a_picture_divide_by_no_zero() -> None:
    told = standard_scores(rows([1, 0]), np.array([0, 1], np.float32), rows([0, 1], [0, 1]))
    assert np.isfinite(told).all()


@pytest.mark.parametrize(
    ("whole", "part", "label", "text", "enough"),
    [
        (STANDS_OUT, -9, None, None, True),
        (STANDS_OUT - 0.01, -9, None, None, False),
        (-9, PART_STANDS_OUT, None, None, True),
        (-9, STANDS_OUT, None, None, False),  # the best of many parts stands out by chance
        (-9, -9, LABEL, None, True),
        (-9, -9, LABEL - 0.01, None, False),
        (-9, -9, None, TEXT, True),
        (-9, -9, None, TEXT - 0.01, False),
    ],
)
def test_one_signal_is_enough_if_it_is_sure(
    whole: float, part: float, label: float | None, text: float | None, enough: bool
) -> None:
    evidence = Evidence(whole=0.1)
    if label is not None:
        evidence.add_label(Signal("label", label, BOX, "dog"), 1.0)
    if text is not None:
        evidence.text = Signal("text", text, BOX, text="dog")
    assert matches(evidence, whole, part) is enough


def test_the_queries_of_the_benchmark_are_half_present_half_absent_and_each_once() -> None:
    with QUERIES.open(newline="") as stream:
        asked = [(row["query"], row["present"]) for row in csv.DictReader(stream)]
    assert len({query for query, _ in asked}) == len(asked) >= 150
    present = [query for query, told in asked if told == "1"]
    assert len(present) * 2 == len(asked)
