"""Pictures by the words written in them.

Each word that is asked for is looked up four ways, best first: as a whole word and as the beginning
of one (FTS5 ``text_words``), as a part of one (``text_trigrams``), and, where a letter may be
wrong, by the runs of three letters that it shares with what is written. What is found is then
compared with the text itself (:mod:`embedsearch.store.text_terms`), which gives the score.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from embedsearch.records import Box
from embedsearch.store.catalogue import Catalogue, stored_path
from embedsearch.store.text_terms import GRAM, Term, folded, matcher_of, quality, terms_of

CANDIDATES = 400
"""At least so many lines of each kind are compared for each word; of a word that is in more, those
that were read last."""
GRAM_LINES = 2000
"""A run of three letters that is in more lines than this tells little, and is left out where there
are others."""
TYPO_LINES = 40
APART = 0.95
"""Words that stand in one line together count for more than words of the same picture."""


@dataclass(frozen=True, slots=True)
class WrittenLine:
    """A line that answers."""

    text: str
    box: Box
    at: float | None
    """In a video: seconds from its beginning."""


@dataclass(frozen=True, slots=True)
class Written:
    """A picture in which is written what was asked for."""

    image_id: int
    path: str
    score: float
    """In (0, 1]: the mean quality of the words, each in its best line. Whole words 0.9 to 1,
    beginnings 0.7 to 0.85, parts 0.5 to 0.65, misspellings 0.2 to 0.45."""
    lines: tuple[WrittenLine, ...]
    """The best line of each word, the best first."""

    @property
    def text(self) -> str:
        return self.lines[0].text

    @property
    def box(self) -> Box:
        return self.lines[0].box

    @property
    def at(self) -> float | None:
        return self.lines[0].at


_Line = tuple[int, int, str]
"""Its id, the id of its picture, its text."""
_Qualities = dict[int, tuple[float, int]]
"""By picture: the quality of one word's best line, and the line's id."""


def search_text(
    catalogue: Catalogue,
    asked: str,
    limit: int,
    allowed: Collection[int] | None = None,
    *,
    every: bool = True,
) -> list[Written]:
    """Pictures in which ``asked`` is written, best first, at most ``limit``.

    Words may stand in different lines of a picture; what is between double quotes must stand
    together. Case and accents do not matter. ``allowed``: only these image ids. ``every``: all
    words must be there; otherwise some are enough, rare words count for more, and the score is the
    share of the question that was found. Pictures that have vanished are left out, and a question
    without letters or digits finds nothing.
    """
    terms = terms_of(asked)
    if not terms or limit < 1 or not catalogue.knows_findings:
        return []
    reader = _Reader(catalogue, max(CANDIDATES, 4 * limit), allowed)
    weights = [1.0] * len(terms)
    if len(terms) == 1:
        found = [reader.best(terms[0])]
    elif every:
        found = _all_of(reader, terms, 4 * limit)
    else:
        total = reader.total()
        weights = [math.log(1 + total / (1 + reader.count(term))) for term in terms]
        found = [reader.best(term) for term in terms]
    return reader.told(_ranked(found, weights, every)[:limit])


def _all_of(reader: _Reader, terms: list[Term], enough: int) -> list[_Qualities]:
    """Qualities of all terms: in lines that have all of them, and where those are not in
    ``enough`` pictures, in pictures that have the rarest."""
    together = reader.words(" AND ".join(map(_beginning, terms)))
    images = dict.fromkeys(image_id for _, image_id, _ in together)
    if len(images) >= enough:
        return [_best_lines(term, together) for term in terms]
    counts = [reader.count(term) for term in terms]
    rarest = terms[min(range(len(terms)), key=counts.__getitem__)]
    images |= dict.fromkeys(reader.best(rarest))
    lines = reader.of_images(list(images))
    return [_best_lines(term, lines, typos=len(images) <= TYPO_LINES) for term in terms]


def _best_lines(term: Term, lines: Iterable[_Line], typos: bool = False) -> _Qualities:
    matcher = matcher_of(term) if typos and term.edits else None
    best: _Qualities = {}
    for line_id, image_id, text in lines:
        value = quality(term, text, matcher)
        if value > 0 and (image_id not in best or value > best[image_id][0]):
            best[image_id] = value, line_id
    return best


def _ranked(
    found: list[_Qualities], weights: list[float], every: bool
) -> list[tuple[float, int, list[int]]]:
    """Score, image id and ids of the best lines, best first."""
    pictures = defaultdict[int, list[tuple[float, float, int]]](list)
    for qualities, weight in zip(found, weights, strict=True):
        for image_id, (value, line_id) in qualities.items():
            pictures[image_id].append((value, weight, line_id))
    hits = []
    for image_id, answers in pictures.items():
        if every and len(answers) < len(found):
            continue
        score = sum(value * weight for value, weight, _ in answers) / sum(weights)
        lines = list(dict.fromkeys(line for _, _, line in sorted(answers, reverse=True)))
        hits.append((score * APART if len(lines) > 1 else score, image_id, lines))
    return sorted(hits, key=lambda hit: (-hit[0], hit[1]))


class _Reader:
    """Candidates from the two full-text indexes."""

    def __init__(self, catalogue: Catalogue, most: int, allowed: Collection[int] | None) -> None:
        self._connection = catalogue.connection
        self._most = most
        self._allowed = None if allowed is None else json.dumps(list(allowed))

    def total(self) -> int:
        """About how many lines there are."""
        row = self._connection.execute("select coalesce(max(id), 0) from text_lines").fetchone()
        return int(row[0])

    def count(self, term: Term) -> int:
        """In about how many lines it is, as a word or the beginning of one; not over GRAM_LINES."""
        row = self._connection.execute(
            "select count(*) from (select 1 from text_words where text_words match ? limit ?)",
            (_beginning(term), GRAM_LINES),
        ).fetchone()
        return int(row[0])

    def best(self, term: Term) -> _Qualities:
        """The best line of each picture for one term. Weaker ways are gone only while stronger ones
        have not filled the candidates."""
        lines = dict.fromkeys(self.words(_whole(term)))
        if len(lines) < self._most:
            lines |= dict.fromkeys(self.words(_beginning(term)))
        if len(lines) < self._most:
            lines |= dict.fromkeys(self._parts(term))
        best = _best_lines(term, lines)
        if len(lines) < self._most and term.edits:
            others = [line for line in self._alike(term) if line not in lines]
            for image_id, told in _best_lines(term, others, typos=True).items():
                best.setdefault(image_id, told)
        return best

    def words(self, match: str) -> list[_Line]:
        return self._matching("text_words", match)

    def of_images(self, images: list[int]) -> list[_Line]:
        """All lines of some pictures that are allowed already."""
        rows = self._connection.execute(
            "select id, image_id, text from text_lines "
            "where image_id in (select value from json_each(?))",
            (json.dumps(images),),
        )
        return rows.fetchall()

    def told(self, hits: list[tuple[float, int, list[int]]]) -> list[Written]:
        """The hits with all that is to be said of them."""
        wanted = json.dumps([line for _, _, lines in hits for line in lines])
        rows = self._connection.execute(
            "select text_lines.id, roots.path, images.path, text, x, y, w, h, at from text_lines "
            "join images on images.id = image_id join roots on roots.id = root_id "
            "where text_lines.id in (select value from json_each(?))",
            (wanted,),
        )
        paths, lines = {}, {}
        for line_id, root, path, text, x, y, w, h, at in rows:
            paths[line_id] = stored_path(root, path)
            lines[line_id] = WrittenLine(text, (x, y, w, h), at)
        return [
            Written(image_id, paths[ids[0]], score, tuple(lines[line_id] for line_id in ids))
            for score, image_id, ids in hits
        ]

    def _parts(self, term: Term) -> list[_Line]:
        if len(term.written) >= GRAM:
            ways = dict.fromkeys((term.written, " ".join(term.tokens)))
            return self._matching("text_trigrams", " OR ".join(map(_quoted, ways)))
        if term.written.isascii():  # two letters are in half of all words
            return []
        # Two signs can be a word where words are not set apart, as in Chinese.
        return self._select("text_lines", "text_lines.text like ? escape '\\'", _like(term.written))

    def _alike(self, term: Term) -> list[_Line]:
        """Lines that share the most runs of three letters with a word that may be misspelt."""
        shared: Counter[int] = Counter()
        common: list[list[int]] = []
        for gram in term.grams:
            rows = self._connection.execute(
                "select rowid from text_trigrams where text_trigrams match ? "
                "order by rowid desc limit ?",
                (_quoted(gram), GRAM_LINES),
            ).fetchall()
            ids = [row[0] for row in rows]
            if len(ids) < GRAM_LINES:
                shared.update(ids)
            else:
                common.append(ids)
        if not shared:
            for ids in common:
                shared.update(ids)
        nearest = [line for line, _ in shared.most_common(TYPO_LINES)]
        condition = "text_lines.id in (select value from json_each(?))"
        return self._select("text_lines", condition, json.dumps(nearest))

    def _matching(self, index: str, match: str) -> list[_Line]:
        source = f"{index} join text_lines on text_lines.id = {index}.rowid"
        return self._select(source, f"{index} match ?", match, order=f"{index}.rowid desc")

    def _select(
        self, source: str, condition: str, argument: str, order: str = "text_lines.id desc"
    ) -> list[_Line]:
        arguments: list[str | int] = [argument]
        if self._allowed is not None:
            condition += " and image_id in (select value from json_each(?))"
            arguments.append(self._allowed)
        rows = self._connection.execute(
            f"select text_lines.id, image_id, text_lines.text from {source} "
            f"join images on images.id = image_id where status = 'ok' and {condition} "
            f"order by {order} limit ?",
            (*arguments, self._most),
        )
        return rows.fetchall()


def _whole(term: Term) -> str:
    return _quoted(" ".join(term.tokens))


def _beginning(term: Term) -> str:
    return f"{_whole(term)} *"


def _quoted(text: str) -> str:
    """A string of FTS5's query language: nothing in it is an operator."""
    return '"' + text.replace('"', '""') + '"'


def _like(text: str) -> str:
    plain = folded(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{plain}%"
