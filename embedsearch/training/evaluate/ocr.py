"""``ocr``: are the words in pictures read?"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.base import Enricher
from embedsearch.errors import DataError, MissingExtraError, PictureError
from embedsearch.images.decode import decode
from embedsearch.records import TextLine
from embedsearch.training.evaluate.detection import Half, half_of
from embedsearch.training.evaluate.ground_truth import Progress, Row, read_json_lines, silent

Figures = dict[str, float | None]
Quad = NDArray[np.float64]
"""Four corners, shape (4, 2): x and y in pixels."""


@dataclass(frozen=True, slots=True)
class Page:
    """A picture, and what is written in it."""

    file: Path
    where: str
    kind: str
    words: tuple[str, ...]
    """As :func:`words_of` gives them."""
    ignored: tuple[Quad, ...] = ()
    """Where something is written that nobody can read."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one picture, or of several."""

    words: int = 0
    found: int = 0
    signs: int = 0
    errors: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.words + other.words,
            self.found + other.found,
            self.signs + other.signs,
            self.errors + other.errors,
        )

    def figures(self) -> Figures:
        return {
            "word_recall": self.found / self.words if self.words else None,
            "CER": self.errors / self.signs if self.signs else None,
        }


def evaluate_ocr(
    path: Path, reader: Enricher, *, half: Half | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Measure on JSON lines with ``file``, ``kind`` and ``items`` (``text``, ``quad`` = x and y of
    four corners or null, ``ignore``): ``{"overall": {"word_recall", "CER"}, "kinds": {KIND: {the
    same}}}``, KIND the first word of ``kind``. A picture without words counts for CER alone.

    ``half``: only files whose name has an odd or even SHA-1. Raises
    :class:`~embedsearch.errors.DataError`.
    """
    rows = [row for row in read_json_lines(path) if half in (None, half_of(row.file()))]
    if not rows:
        raise DataError(f"{path}: none of its files is in the {half} half")
    pages = [_page(row) for row in rows]
    kinds: dict[str, Tally] = {}
    for done, page in enumerate(pages, 1):
        lines, factor = _read(page, reader)
        kinds[page.kind] = kinds.get(page.kind, Tally()) + tally(page, lines, factor)
        progress(done, len(pages))
    return {
        "overall": sum(kinds.values(), Tally()).figures(),
        "kinds": {kind: kinds[kind].figures() for kind in sorted(kinds)},
    }


def tally(page: Page, lines: Sequence[TextLine], factor: float = 1.0) -> Tally:
    """Compare what was read with what is written. Boxes of ``lines``, times ``factor``, are in
    pixels of the page.

    Words are a multiset: their order does not matter. A word is found where the very same was
    read. Errors are the letters to be changed, where each written word is paired with one that was
    read so that there are least; what is left over counts whole, on either side, except what was
    read where the page is ignored.
    """
    read: list[str] = []
    elsewhere: list[str] = []
    for line in lines:
        for word, middle in zip(*_placed_words(line), strict=True):
            read.append(word)
            if not any(_inside(middle * factor, quad) for quad in page.ignored):
                elsewhere.append(word)
    written, counted = Counter(page.words), Counter(elsewhere)
    found = (written & Counter(read)).total()
    missed, extra = list((written - counted).elements()), list((counted - written).elements())
    return Tally(len(page.words), found, sum(map(len, page.words)), least_errors(missed, extra))


def least_errors(written: Sequence[str], read: Sequence[str]) -> int:
    """Letters to be inserted, deleted and changed (Levenshtein) to make one multiset of words the
    other, words being paired the best way (Kuhn, "The Hungarian method", 1955)."""
    if not written or not read:
        return sum(map(len, written)) + sum(map(len, read))
    from scipy.optimize import linear_sum_assignment

    size = len(written) + len(read)
    costs = np.zeros((size, size), np.int64)
    costs[: len(written), : len(read)] = _distances(written, read)
    costs[: len(written), len(read) :] = np.array([len(word) for word in written])[:, None]
    costs[len(written) :, : len(read)] = np.array([len(word) for word in read])[None, :]
    return int(costs[linear_sum_assignment(costs)].sum())


def words_of(text: str) -> list[str]:
    """Words as they are compared: casefolded, without punctuation and symbols at the edges."""
    bare = (_without_edges(word.casefold()) for word in text.split())
    return [word for word in bare if word]


def _distances(written: Sequence[str], read: Sequence[str]) -> NDArray[np.int64]:
    try:
        from torchmetrics.functional.text import edit_distance
    except ImportError as error:
        raise MissingExtraError("evaluate ocr", "train") from error

    pairs = [(one, other) for one in written for other in read]
    told = edit_distance([p[1] for p in pairs], [p[0] for p in pairs], reduction="none")
    made: NDArray[np.int64] = told.numpy().astype(np.int64).reshape(len(written), len(read))
    return made


def _without_edges(word: str) -> str:
    kept = [place for place, sign in enumerate(word) if unicodedata.category(sign)[0] not in "PS"]
    return word[kept[0] : kept[-1] + 1] if kept else ""


def _placed_words(line: TextLine) -> tuple[list[str], list[NDArray[np.float64]]]:
    """The words of a line, and the middle of each, as if all signs were equally wide."""
    x, y, w, h = line.box
    corners = line.quad or (x, y, x + w, y, x + w, y + h, x, y + h)
    quad = np.array(corners, np.float64).reshape(4, 2)
    left, right = (quad[0] + quad[3]) / 2, (quad[1] + quad[2]) / 2
    words, middles, start = [], [], 0
    for piece in line.text.split():
        start = line.text.index(piece, start)
        share = (start + len(piece) / 2) / len(line.text)
        start += len(piece)
        for word in words_of(piece):
            words.append(word)
            middles.append(left + (right - left) * share)
    return words, middles


def _inside(point: NDArray[np.float64], quad: Quad) -> bool:
    """Whether a point is in a convex quad: on the same side of all its edges."""
    edges, to_point = np.roll(quad, -1, axis=0) - quad, point - quad
    sides = edges[:, 0] * to_point[:, 1] - edges[:, 1] * to_point[:, 0]
    return bool((sides >= 0).all() or (sides <= 0).all())


def _read(page: Page, reader: Enricher) -> tuple[Sequence[TextLine], float]:
    """What was read, and by how much the page is larger than the picture that was read."""
    try:
        decoded = decode(page.file, reader.info.look)
    except PictureError as error:
        raise DataError(f"{page.where}: {page.file} cannot be used: {error}") from error
    return reader.enrich(decoded.pixels).lines, decoded.width / decoded.pixels.shape[1]


def _page(row: Row) -> Page:
    kind, items = row.text("kind").split()[0], row.values.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{row.where}: 'items' is no list of objects with 'text'")
    words: list[str] = []
    ignored: list[Quad] = []
    for item in items:
        quad, text = item.get("quad"), item.get("text")
        if not isinstance(text, str):
            raise DataError(f"{row.where}: an item has no 'text'")
        if not item.get("ignore"):
            words += words_of(text)
        elif quad is not None:
            ignored.append(_quad(row, quad))
    return Page(row.file(), row.where, kind, tuple(words), tuple(ignored))


def _quad(row: Row, numbers: Iterable[Any]) -> Quad:
    try:
        return np.array(numbers, np.float64).reshape(4, 2)
    except (TypeError, ValueError) as error:
        raise DataError(f"{row.where}: a 'quad' is not eight numbers: {numbers!r}") from error
