"""Makes the words that name clusters and tag pictures:
``python -m embedsearch.training.vocabulary --data train.jsonl --out vocabulary.txt``.

Three sources: what captions speak of, the names of labels, and a list kept by hand of what both
lack. Captions are cut at stop words, verbs and punctuation into runs such as "small brown dog"
(RAKE; S. Rose et al., "Automatic keyword extraction from individual documents", 2010). A word that
ends most of its runs, often after "a" or "the", is a thing; one that stands before another word is
an adjective, which alone names nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from embedsearch.errors import EmbedSearchError
from embedsearch.training.data.photos import Photo, read_photos

LEAST_WORD = 12
"""How many captions a word must be in."""
LEAST_PAIR = 12
LEAST_LABEL = 4
"""How many photos a label must have: rarer ones are rare things, with names few would look for."""
HEAD_SHARE = 0.5
"""Of its occurrences, how many of a word must end a run for it to be a name."""
THING_SHARE = 0.1
"""In how many of its occurrences a word must stand alone after a determiner ("a collar") to be a
thing: in "the dog chasing" it does not."""
COHESION = 0.08
"""Least share that a pair has in the occurrences of its rarer word: "frisbee" goes with anything,
"fire hydrant" belongs together."""
WITHOUT_LABELS_OF = frozenset({"grocery", "clothing"})
"""Sources whose labels are brands, or plain categories that the everyday list has."""
IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "geese": "goose",
    "leaves": "leaf",
    "wolves": "wolf",
    "gray": "grey",
}

_CUT = re.compile(r"[^a-z' -]+")


def _listed(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(",")]


_LISTS = tomllib.loads(Path(__file__).with_name("word_lists.toml").read_text("utf-8"))
DETERMINERS, VERBS, VAGUE, PEOPLE, COLOURS = (
    frozenset(_LISTS[name].split())
    for name in ("determiners", "verbs", "vague", "people", "colours")
)
LEFT_OUT = frozenset(_listed(_LISTS["left_out"]))


def caption_words(captions: Iterable[str]) -> list[str]:
    """Words and pairs of words that captions speak of, the most frequent first."""
    cut = [run for caption in captions for run in _runs(caption)]
    singular = _singulars(Counter(word for _, run in cut for word in run))
    runs = [[singular.get(word, word) for word in run] for _, run in cut]
    counts = Counter(word for run in runs for word in run)
    heads = Counter(run[-1] for run in runs)
    things = Counter(
        run[0]
        for (before, _), run in zip(cut, runs, strict=True)
        if len(run) == 1 and before in DETERMINERS
    )
    pairs = Counter(pair for run in runs for pair in pairwise(run))
    pair_heads = Counter(tuple(run[-2:]) for run in runs if len(run) > 1)
    kept = Counter(
        {
            word: count
            for word, count in counts.items()
            if count >= LEAST_WORD
            and heads[word] >= HEAD_SHARE * count
            and things[word] >= THING_SHARE * count
            and _is_name(word)
        }
    )
    for (first, second), count in pairs.items():
        belongs = count >= COHESION * min(counts[first], counts[second])
        ends = pair_heads[first, second] >= HEAD_SHARE * count
        if count >= LEAST_PAIR and belongs and ends and second in kept and _fit(first, second):
            kept[f"{first} {second}"] = count
    return [word for word, _ in kept.most_common()]


def label_words(photos: Iterable[Photo]) -> list[str]:
    """The usual name of each label that several photos have, in lower case."""
    names = Counter(
        photo.names[0].lower()
        for photo in photos
        if photo.label is not None and photo.source not in WITHOUT_LABELS_OF
    )
    return sorted(name for name in names if names[name] >= LEAST_LABEL)


def everyday_words() -> list[str]:
    """The list kept by hand, in its order."""
    return [word for listed in _LISTS["everyday"].values() for word in _listed(listed)]


def vocabulary(photos: Sequence[Photo]) -> list[str]:
    """All words, each once, in alphabetical order. Of a word that several sources have in singular
    and plural, the form of the list kept by hand stays, else the singular."""
    by_hand, labels = everyday_words(), label_words(photos)
    captions = caption_words(caption for photo in photos for caption in photo.captions)
    chosen: dict[str, str] = {}
    for word in [*by_hand, *labels, *captions]:
        if word not in LEFT_OUT:
            chosen.setdefault(_stem(word), word)
    return sorted(chosen.values())


def _runs(caption: str) -> Iterator[tuple[str, list[str]]]:
    """Runs of words between the stop words of a caption, each with the stop word before it."""
    for clause in _CUT.split(caption.lower()):
        before, run = "", list[str]()
        for word in [*clause.replace("-", " ").split(), "."]:
            if word != "." and word not in ENGLISH_STOP_WORDS and word not in VERBS:
                run.append(word)
                continue
            if run:
                yield before, run
            before, run = word, []


def _is_name(word: str) -> bool:
    return len(word) > 2 and "'" not in word and word not in VAGUE and word not in COLOURS


def _fit(first: str, second: str) -> bool:
    """Whether a pair says more than its second word, and nothing of how people look."""
    if first == second or len(first) < 3 or "'" in first or first in VAGUE:
        return False
    return second not in PEOPLE and not (first in PEOPLE and second in PEOPLE)


def _singulars(counts: Counter[str]) -> dict[str, str]:
    """Plurals whose singular is used about as often; "jeans" and "sunglasses" stay as they are."""
    return {
        word: one
        for word, count in counts.items()
        if (one := _stem(word)) != word and counts[one] >= 0.15 * count
    }


def _stem(word: str) -> str:
    """``word`` without the ending of its plural, where it looks like one."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    for ending, instead in (
        ("ies", "y"),
        ("sses", "ss"),
        ("shes", "sh"),
        ("ches", "ch"),
        ("xes", "x"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word[: -len(ending)] + instead
    if word.endswith("s") and word[-2:] not in ("ss", "us", "is") and len(word) > 3:
        return word[:-1]
    return word


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m embedsearch.training.vocabulary",
        description="Make the words that name clusters.",
    )
    parser.add_argument("--data", type=Path, required=True, help="photos as JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="the list of words to write")
    given = parser.parse_args(arguments)
    try:
        words = vocabulary(read_photos(given.data))
    except EmbedSearchError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    given.out.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    sys.stderr.write(f"{len(words):,} words written to {given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
