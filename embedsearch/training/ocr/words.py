"""Which words are drawn."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from embedsearch.errors import DataError
from embedsearch.training.evaluate.ground_truth import Row, read_json_lines
from embedsearch.training.ocr.recipe import Data

LONGEST = 20
"""Signs of a word that is drawn; longer ones would be drawn very small."""
MARKS = "'-.,:!?&()"


@dataclass(frozen=True)
class Photo:
    """A picture of one word."""

    file: Path
    text: str


@dataclass(frozen=True)
class Words:
    """What is trained on, and what is measured on."""

    learned: tuple[str, ...]
    held: tuple[str, ...]
    photos: tuple[Photo, ...] = ()


def read_words(data: Data, signs: str) -> Words:
    """The words of the recipe that can be written with ``signs``.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    lists = [Path(path) for path in data.paths if not path.endswith(".jsonl")]
    named: list[str] = []
    for path in lists:
        try:
            named += path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of words ({error})") from error
    if not lists:
        usual = files("embedsearch.explore").joinpath("vocabulary.txt")
        named = usual.read_text("utf-8").split()
    known = dict.fromkeys(" ".join(word.split()) for word in named)
    usable = [word for word in known if word and len(word) <= LONGEST and spelled(word, signs)]
    held = [word for word in usable if _is_held(word, data)]
    learned = [word for word in usable if not _is_held(word, data)]
    if not learned or not held:
        raise DataError(
            f"{', '.join(data.paths) or 'the vocabulary'}: of {len(known)} words {len(usable)} can "
            f"be written with model.signs, {len(held)} of them are held out: too few. Name more "
            "words, or other data.held_out."
        )
    pictures = [Path(path) for path in data.paths if path.endswith(".jsonl")]
    photos = [photo for path in pictures for photo in _photos(path, signs)]
    return Words(tuple(learned), tuple(held), tuple(photos))


def spelled(text: str, signs: str) -> list[int]:
    """The places in ``signs`` of the letters of ``text``, from 1 on; capitals as small letters
    where ``signs`` has none. Empty where it lacks one."""
    places = [signs.find(sign if sign in signs else sign.lower()) + 1 for sign in text]
    return [] if 0 in places else places


def draw_text(words: Sequence[str], signs: str, data: Data, rng: np.random.Generator) -> str:
    """A word of the list, or something that is no word, in small letters, capitals or both."""
    text = _random_text(signs, rng) if rng.random() < data.random else _pick(words, rng)
    if rng.random() < data.joined and " " in signs:
        text = f"{text[:LONGEST]} {_pick(words, rng)}"
    styled = [text, text.upper(), text.title(), text.lower()][int(rng.choice(4, p=_STYLES))]
    if rng.random() < 0.1:
        styled += str(rng.choice(list(MARKS)))
    return styled if spelled(styled, signs) else text


_STYLES = (0.3, 0.35, 0.25, 0.1)


def _random_text(signs: str, rng: np.random.Generator) -> str:
    kind = int(rng.integers(5))
    if kind == 0:
        made = str(int(10 ** rng.uniform(0, 6)))
    elif kind == 1:
        made = f"{rng.choice(['', '$', 'RM '])}{10 ** rng.uniform(0, 3):.2f}"
    elif kind == 2:
        made = f"{rng.integers(1, 32):02d}/{rng.integers(1, 13):02d}/{rng.integers(1990, 2030)}"
    elif kind == 3:
        made = f"{rng.integers(24):02d}:{rng.integers(60):02d}"
    else:
        made = "".join(rng.choice(list(signs), int(rng.integers(2, 9)))).strip()
    if spelled(made, signs):
        return made
    return "".join(rng.choice([sign for sign in signs if sign != " "], int(rng.integers(1, 8))))


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def _is_held(word: str, data: Data) -> bool:
    return zlib.crc32(f"{data.split_seed} {word}".encode()) / 2**32 < data.held_out


def _photos(path: Path, signs: str) -> list[Photo]:
    """The pictures of a ground truth that show one item."""
    return [
        Photo(row.file(), text)
        for row in read_json_lines(path)
        if (text := _only_text(row)) and spelled(text, signs)
    ]


def _only_text(row: Row) -> str:
    items = row.values.get("items")
    if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], dict):
        return ""
    text = items[0].get("text")
    return text if isinstance(text, str) and not items[0].get("ignore") else ""
