"""Which labels of an index a text means: by its words, and by what they mean to the text tower."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from embedsearch.encoders.base import Encoder
from embedsearch.encoders.known_texts import known_texts
from embedsearch.encoders.towers import towers_of

MEANS, SURELY = 0.45, 0.8
"""A text means a label as far as its cosine to the label's name is on the way from the one to the
other. With ``mini``: puppy and dog 0.74, automobile and car 0.71, sofa and couch 0.83; puppy and
hot dog 0.54, tree and broccoli 0.31."""
LEAST = 0.55
"""Below this cosine a label is not meant."""
POWER = 3
"""A label that is all of a text is what is asked for; one word among eight of a description is one
of its details, and counts (1/8)^3. With the share itself captions found their photo among the first
ten 0.61 instead of 0.64 of the time."""

_EMPTY = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "with", "and", "or", "to", "for", "from", "by", "is"}
    | {"are", "his", "her", "its", "their", "some", "any", "this", "that"}
    | {"photo", "picture", "image", "photos", "pictures", "images"}
)
"""Words that name nothing in a picture."""
_IRREGULAR = {
    "people": "person",
    "persons": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "geese": "goose",
    "knives": "knife",
    "shelves": "shelf",
    "leaves": "leaf",
    "buses": "bus",
    "glasses": "glass",
    "sandwiches": "sandwich",
}


@dataclass(frozen=True, slots=True)
class Meant:
    """A label that a text means."""

    label: str
    strength: float
    """In (0, 1]: how much of the text it is, or how surely it is meant."""


def words_of(text: str) -> list[str]:
    """The words of a text that say something, in the singular and lower case."""
    return [singular(word) for word in said_words(text)]


def said_words(text: str) -> list[str]:
    """The words of a text that say something, as they stand, in lower case."""
    return [word for word in re.findall(r"[^\W_]+", text.casefold()) if word not in _EMPTY]


def singular(word: str) -> str:
    """An English noun in the singular, as far as its ending tells."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def labels_in(text: str, labels: Sequence[str]) -> list[Meant]:
    """The labels whose words stand in the text, one after the other, each with the share of the
    text's words that they are. Of labels within one another (dog, hot dog) the longest counts."""
    words = words_of(text)
    free = [True] * len(words)
    found: list[Meant] = []
    for label in sorted(labels, key=lambda one: (-len(words_of(one)), one)):
        sought = words_of(label)
        for start in range(len(words) - len(sought) + 1):
            place = slice(start, start + len(sought))
            if sought and words[place] == sought and all(free[place]):
                free[place] = [False] * len(sought)
                found.append(Meant(label, len(sought) / len(words)))
                break
    return found


def meant_labels(text: str, labels: Sequence[str], encoder: Encoder | None) -> list[Meant]:
    """The labels that a text means: those whose words stand in it, by the share of it that they are
    to the power of :data:`POWER`; where none do, those whose names the text tower of ``encoder``
    takes for nearly the same."""
    found = [Meant(one.label, one.strength**POWER) for one in labels_in(text, labels)]
    if found or not labels or encoder is None or not encoder.info.has_text:
        return found
    towers = towers_of(encoder)  # texts are compared with texts
    places, rows = known_texts(towers, labels)
    _, asked = known_texts(towers, [text])
    if not len(asked):
        return []
    cosines = (rows @ asked[0]).tolist()
    near = [
        Meant(labels[place], min((cosine - MEANS) / (SURELY - MEANS), 1.0))
        for place, cosine in zip(places, cosines, strict=True)
        if cosine >= LEAST
    ]
    return sorted(near, key=lambda one: -one.strength)
