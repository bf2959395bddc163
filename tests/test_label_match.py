"""Which labels a text means."""

from __future__ import annotations

import pytest
from colour_encoder import ColourEncoder
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.encoders import registry
from embedsearch.search.label_match import labels_in, meant_labels, singular, words_of

LABELS = ("person", "dog", "hot dog", "car", "wine glass", "bus", "sheep", "traffic light")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("dog", {"dog": 1.0}),
        ("Dogs!", {"dog": 1.0}),
        ("a photo of a dog", {"dog": 1.0}),
        ("a dog and a car", {"dog": 0.5, "car": 0.5}),
        ("a hot dog", {"hot dog": 1.0}),  # the longer label, and not the dog within it
        ("a hot dog for the dog", {"hot dog": 2 / 3, "dog": 1 / 3}),
        ("wine glasses", {"wine glass": 1.0}),
        ("buses at traffic lights", {"bus": 1 / 3, "traffic light": 2 / 3}),
        ("people", {"person": 1.0}),
        ("dogged carpenters", {}),  # words are whole
        ("light traffic", {}),  # in their order
        ("", {}),
    ],
)
def test_labels_are_found_by_their_words(text: str, meant: dict[str, float]) -> None:
    assert {one.label: one.strength for one in labels_in(text, LABELS)} == pytest.approx(meant)


@pytest.mark.parametrize(
    ("word", "one"),
    [
        ("dogs", "dog"),
        ("ponies", "pony"),
        ("benches", "bench"),
        ("boxes", "box"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("people", "person"),
        ("tennis", "tennis"),
    ],
)
def test_nouns_are_compared_in_the_singular(word: str, one: str) -> None:
    assert singular(word) == one


def test_another_word_for_a_label_is_known_to_the_encoder_in_the_box() -> None:
    mini = registry.load("mini")
    labels = ["dog", "hot dog", "car", "bicycle", "couch", "broccoli"]
    for word, label in (("puppy", "dog"), ("automobile", "car"), ("sofa", "couch")):
        best = meant_labels(word, labels, mini)
        assert [one.label for one in best] == [label]
        assert 0.2 < best[0].strength <= 1
    for nothing in ("tree", "happiness", "a red flower", "sunset over mountains"):
        assert meant_labels(nothing, labels, mini) == []


def test_an_encoder_that_knows_no_such_words_means_nothing() -> None:
    assert meant_labels("quux", ["dog"], ColourEncoder()) == []
    assert meant_labels("red", ["quux"], ColourEncoder()) == []
    assert meant_labels("puppy", ["dog"], None) == []


@given(st.text(), st.lists(st.text(max_size=20), max_size=5))
def test_any_text_and_any_labels_can_be_matched(text: str, labels: list[str]) -> None:
    for one in labels_in(text, labels):
        assert one.label in labels
        assert 0 < one.strength <= 1
    assert all(word == word.casefold() for word in words_of(text))
