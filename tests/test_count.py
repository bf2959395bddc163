"""How many of what, as it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import QueryError
from embedsearch.search.count import Count, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("dog>=2", Count("dog", ">=", 2)),
        ("  hot dog < 3 ", Count("hot dog", "<", 3)),
        ("dog=0", Count("dog", "=", 0)),
        ("dog==1", Count("dog", "==", 1)),
        ("dog != 1", Count("dog", "!=", 1)),
        ("dog", Count("dog", ">=", 1)),
        ("T-shirt>1", Count("T-shirt", ">", 1)),
    ],
)
def test_a_label_a_comparison_and_a_number(text: str, count: Count) -> None:
    assert parse_count(text) == count
    assert parse_count(str(count)) == count


@pytest.mark.parametrize("text", ["", " ", ">=2", "dog>=", "dog>=two", "dog=>2", "dog>=2 or 1=1"])
def test_anything_else_is_an_error_that_shows_how(text: str) -> None:
    with pytest.raises(QueryError, match="dog>=2"):
        parse_count(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        count = parse_count(text)
    except QueryError:
        return
    assert count.label
    assert count.number >= 0
