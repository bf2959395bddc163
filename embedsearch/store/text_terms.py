"""How well written words answer words that are asked for: standard library only, for it is on the
path of every query."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

EXACT = (0.9, 1.0)
PREFIX = (0.7, 0.85)
PART = (0.5, 0.65)
TYPO = (0.2, 0.45)
"""Bands of quality, worst and best: a whole word is always better than the beginning of one, that
than a part from the middle, that than a misspelling. Within a band, more is what covers more of
the word and of the line."""
GRAM = 3
LONGEST = 64
"""Characters of a term that count; no word is longer."""
MOST_TERMS = 16


@dataclass(frozen=True, slots=True)
class Term:
    """A word that is asked for, or several that must stand one after the other."""

    tokens: tuple[str, ...]
    """Folded words, as FTS5's unicode61 tells them apart."""
    written: str
    """Folded like them, with what stood between, as the index of letters knows it."""

    @property
    def grams(self) -> tuple[str, ...]:
        """All runs of three characters of a single word; none of a phrase."""
        word = self.tokens[0]
        if len(self.tokens) > 1:
            return ()
        return tuple(dict.fromkeys(word[i : i + GRAM] for i in range(len(word) - GRAM + 1)))

    @property
    def edits(self) -> int:
        """So many letters may be wrong."""
        length = len(self.tokens[0])
        return 0 if len(self.tokens) > 1 or length < 4 else 1 if length < 8 else 2


def folded(text: str) -> str:
    """Without case and accents."""
    if text.isascii():
        return text.lower()
    # Lower case, not casefold: ß stays one letter here as it does in FTS5.
    plain = unicodedata.normalize("NFKD", text.lower()).lower()  # 🄐 shows its A only now
    return unicodedata.normalize("NFC", "".join(c for c in plain if not unicodedata.combining(c)))


def tokens_of(text: str) -> list[str]:
    """The words of ``text``, folded: runs of letters and digits, as unicode61 has them."""
    return "".join(c if _is_letter(c) else " " for c in folded(text)).split()


def terms_of(asked: str) -> list[Term]:
    """What is asked for: words, and between double quotes phrases. Anything may be asked; what
    holds no letter or digit asks for nothing. A quote that is not closed is none."""
    # A path can hold what is no text; it is no letter either.
    pieces = asked.replace("\0", " ").encode("utf-8", "replace").decode().split('"')
    closed = len(pieces) // 2 * 2 if len(pieces) % 2 else len(pieces) - 1
    terms: dict[Term, None] = {}
    for place, piece in enumerate(pieces):
        quoted = place % 2 == 1 and place < closed
        for chunk in [piece] if quoted else piece.split():
            tokens = tuple(token[:LONGEST] for token in tokens_of(chunk))[:MOST_TERMS]
            if tokens:
                written = folded(" ".join(chunk.split())).strip()[: LONGEST * MOST_TERMS]
                terms[Term(tokens, written)] = None
    return list(terms)[:MOST_TERMS]


def quality(term: Term, text: str, matcher: SequenceMatcher[str] | None = None) -> float:
    """How well the line ``text`` answers ``term``, in [0, 1]; 0 is not at all.

    ``matcher`` (:func:`matcher_of`) lets misspellings count too.
    """
    if matcher is None and term.tokens[0] not in folded(text):
        return 0.0
    words = tokens_of(text)
    size = sum(map(len, words))
    asked = sum(map(len, term.tokens))
    best = 0.0
    for start in range(len(words) - len(term.tokens) + 1):
        window = words[start : start + len(term.tokens)]
        if tuple(window[:-1]) != term.tokens[:-1]:
            continue
        if window[-1] == term.tokens[-1]:
            return _within(EXACT, 1.0, asked / size)
        if window[-1].startswith(term.tokens[-1]):
            share = len(term.tokens[-1]) / len(window[-1])
            best = max(best, _within(PREFIX, share, asked / size))
    if best:
        return best
    if _is_part(term, text, words):
        return _within(PART, asked / max(map(len, words)), asked / size)
    if matcher is None:
        return 0.0
    return max((_misspelt(term, word, matcher, size) for word in words), default=0.0)


def matcher_of(term: Term) -> SequenceMatcher[str]:
    """Compares words with a term that may be misspelt; it remembers what it knows of the term."""
    matcher = SequenceMatcher(None, autojunk=False)
    matcher.set_seq2(term.tokens[0])
    return matcher


def _misspelt(term: Term, word: str, matcher: SequenceMatcher[str], size: int) -> float:
    """One letter wrong, missing, too much or changed places costs one edit (Ratcliff and Obershelp,
    "Pattern Matching: The Gestalt Approach", 1988): of n letters n - 1 still agree."""
    length = len(term.tokens[0])
    if not term.edits or abs(len(word) - length) > term.edits:
        return 0.0
    least = 1 - term.edits / min(length, len(word)) - 1e-9
    matcher.set_seq1(word)
    if matcher.quick_ratio() < least:
        return 0.0
    ratio = matcher.ratio()
    if ratio < least:
        return 0.0
    return _within(TYPO, (ratio - least) / (1 - least), length / size)


def _is_part(term: Term, text: str, words: Sequence[str]) -> bool:
    if len(term.tokens) == 1:
        return any(term.tokens[0] in word for word in words)
    return term.written in folded(" ".join(text.split()))


def _within(band: tuple[float, float], of_word: float, of_line: float) -> float:
    """A place in a band: mostly by how much of the word is asked for, then of the line."""
    share = 0.7 * min(of_word, 1.0) + 0.3 * min(of_line, 1.0)
    return band[0] + (band[1] - band[0]) * share


def _is_letter(character: str) -> bool:
    if character.isascii():
        return character.isalnum()
    return unicodedata.category(character)[0] in "LN" or unicodedata.category(character) == "Co"
