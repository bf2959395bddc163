"""The grammar of a mixture: what is split, what is a weight, what is a picture."""

from __future__ import annotations

import contextlib
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.errors import QueryError
from embedsearch.search.mixture import Part, parse, parse_part, written

SIGN_OR_SPACE = st.sampled_from(
    ["+", "-", " ", "\t", ":", "2:", "0.5:", "./", "~", "/", "dog", "3"]
)
MIXTURE_LIKE = st.lists(st.one_of(SIGN_OR_SPACE, st.text(max_size=3)), max_size=12).map("".join)
"""Texts in which separators, weights and paths come often, in any order."""


def picture(path: str, weight: float = 1.0, *, negative: bool = False) -> Part:
    return Part(path, True, weight, negative)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a red car", [Part("a red car")]),
        ("beach + sunset", [Part("beach"), Part("sunset")]),
        ("dog - grass", [Part("dog"), Part("grass", is_negative=True)]),
        (
            "2:beach + ./a.jpg - people",
            [Part("beach", weight=2), picture("./a.jpg"), Part("people", is_negative=True)],
        ),
        (
            "a - 0.5:../b c.png + d",
            [Part("a"), picture("../b c.png", 0.5, negative=True), Part("d")],
        ),
        (
            "/abs/x.jpg + ~/y.jpg + ~me/z.jpg",
            [*map(picture, ("/abs/x.jpg", "~/y.jpg", "~me/z.jpg"))],
        ),
        # No part is split without white space on both sides of the sign.
        ("a t-shirt, c++ and 1+1", [Part("a t-shirt, c++ and 1+1")]),
        ("dog -grass", [Part("dog -grass")]),
        ("dog- grass", [Part("dog- grass")]),
        ("+ dog", [Part("+ dog")]),
        ("dog -", [Part("dog -")]),
        ("a — b", [Part("a — b")]),
        ("a -- b", [Part("a -- b")]),
        ("  a\t+\nb  ", [Part("a"), Part("b")]),
        ("a - - b", [Part("a"), Part("- b", is_negative=True)]),
        # A path is one at the beginning of a part only.
        ("cats and/or dogs", [Part("cats and/or dogs")]),
        ("photo a.jpg", [Part("photo a.jpg")]),
        (".hidden", [Part(".hidden")]),
        # A number is a weight only at the beginning, before a colon that no digit follows.
        ("16:9 photo + 10:30", [Part("16:9 photo"), Part("10:30")]),
        ("3 dogs", [Part("3 dogs")]),
        ("2: 3 dogs", [Part("3 dogs", weight=2)]),
        ("ratio 2:one", [Part("ratio 2:one")]),
        (".5:a + 1e1:b + +3:c", [Part("a", weight=0.5), Part("b", weight=10), Part("c", weight=3)]),
        ("0.01:a + 100:b", [Part("a", weight=0.01), Part("b", weight=100)]),
    ],
)
def test_a_mixture_is_read_as_these_parts(text: str, parts: list[Part]) -> None:
    assert parse(text) == tuple(parts)


@pytest.mark.parametrize("weight", ["0", "-1", "-0.5", "1e9", "0.009", "100.1", "9" * 400, "0e0"])
@pytest.mark.parametrize("text", ["{}:dog", "cat + {}:dog", "cat - {}:./dog.jpg"])
def test_a_weight_that_is_zero_negative_or_huge_is_refused_with_the_bounds(
    text: str, weight: str
) -> None:
    with pytest.raises(QueryError, match=r"is not from 0\.01 to 100\..*--literal") as caught:
        parse(text.format(weight))
    assert f"The weight {weight} " in str(caught.value)
    assert ("--not" in str(caught.value)) == weight.startswith("-")


@pytest.mark.parametrize("text", ["a + ", " - a", "a +  + b", "a -  - b", " + ", "a - \t"])
def test_an_empty_part_is_refused_not_dropped(text: str) -> None:
    with pytest.raises(QueryError, match=r"A part of .* is empty.*--literal"):
        parse(text)


@pytest.mark.parametrize("text", ["2:", "2:  ", "a + 0.5:", "", " \n"])
def test_a_weight_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="nothing to look for"):
        parse(text)


def test_a_single_part_is_never_split_and_keeps_weight_and_picture() -> None:
    assert parse_part("a - b", is_negative=True) == Part("a - b", is_negative=True)
    assert parse_part("2:~/a + b.jpg") == picture("~/a + b.jpg", 2)


@settings(deadline=None)
@given(st.one_of(st.text(), MIXTURE_LIKE))
def test_any_text_is_read_or_refused_with_a_named_error(text: str) -> None:
    with contextlib.suppress(QueryError):
        parts = parse(text)
        assert parts
        assert not parts[0].is_negative
        for part in parts:
            assert part.what == part.what.strip() != ""
            assert math.isfinite(part.weight) and 0.01 <= part.weight <= 100


@settings(deadline=None)
@given(st.one_of(st.text(min_size=1), MIXTURE_LIKE))
def test_a_text_without_a_sign_between_white_space_is_one_part(text: str) -> None:
    if re.search(r"\s[+-]\s", text):
        return
    with contextlib.suppress(QueryError):
        assert len(parse(text)) == 1


WORDS = (
    st.text(min_size=1)
    .map(str.strip)
    .filter(
        lambda text: (
            text
            and not re.search(r"\s[+-]\s", f" {text} ")
            and not re.search(r"^[+-]\s|\s[+-]$", text)
            and not text.startswith(("./", "../", "/", "~"))
        )
    )
)
WEIGHTS = st.one_of(st.just(1.0), st.floats(0.01, 100))
PARTS = st.one_of(
    st.builds(Part, WORDS, st.just(False), WEIGHTS, st.booleans()),
    st.builds(
        lambda start, name, weight, negative: Part(start + name, True, weight, negative),
        st.sampled_from(["./", "../", "/", "~", "~/"]),
        WORDS.map(lambda name: f"x{name}"),
        WEIGHTS,
        st.booleans(),
    ),
)


@settings(deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=5).filter(lambda parts: not parts[0].is_negative))
def test_what_is_written_is_read_as_the_same_parts(parts: list[Part]) -> None:
    assert parse(written(parts)) == tuple(parts)


@settings(deadline=None)
@given(st.one_of(st.text(), MIXTURE_LIKE))
def test_what_was_read_is_written_and_read_as_the_same(text: str) -> None:
    with contextlib.suppress(QueryError):
        parts = parse(text)
        assert parse(written(parts)) == parts


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("2.0:beach  +   ./a.jpg -  people", "2:beach + ./a.jpg - people"),
        ("2: 3 dogs", "2: 3 dogs"),
        ("1:dog", "dog"),
        ("1: 2:dog", "1: 2:dog"),
        ("0.5:a", "0.5:a"),
    ],
)
def test_a_mixture_is_written_as_one_would_type_it(text: str, again: str) -> None:
    assert written(parse(text)) == again


def test_a_negative_alone_is_written_with_its_sign() -> None:
    assert written([Part("people", is_negative=True)]) == "- people"
