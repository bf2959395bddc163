"""The grammar of a mixture: how ``2:beach + ./a.jpg - people`` is read.

A text is split at ``+`` and ``-`` with white space on both sides, and nowhere else: ``t-shirt`` and
``C++`` are words. What follows `` - `` is a negative. A part may begin with its weight and a colon,
``2:`` or ``0.5:``; where a digit follows the colon, as in ``16:9`` or ``10:30``, it is no weight. A
part that begins with ``./``, ``../``, ``/`` or ``~`` is the path of a picture; any other is words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from embedsearch.errors import QueryError

LEAST_WEIGHT, GREATEST_WEIGHT = 0.01, 100.0

_SEPARATOR = re.compile(r"\s([+-])\s")
_WEIGHT = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?):(?![0-9])")
_PICTURE = ("./", "../", "/", "~")
_AS_WORDS = "If the text is meant as it stands, add --literal."


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a query: words, or an example picture."""

    what: str
    """The words, or the path of the picture."""
    is_picture: bool = False
    weight: float = 1.0
    """From :data:`LEAST_WEIGHT` to :data:`GREATEST_WEIGHT`."""
    is_negative: bool = False

    def __str__(self) -> str:
        """As one writes it in a mixture, without the sign."""
        if self.weight == 1 and not _WEIGHT.match(self.what):
            return self.what
        space = " " if self.what[:1].isdigit() else ""
        return f"{repr(self.weight).removesuffix('.0')}:{space}{self.what}"


def parse(text: str) -> tuple[Part, ...]:
    """The parts of a mixture, in their order; the first one is never negative.

    The disk is not looked at. Raises :class:`~embedsearch.errors.QueryError` for an empty part and
    for a weight that is not from 0.01 to 100.
    """
    first, *rest = _SEPARATOR.split(text)
    signs = ["+", *rest[::2]]
    parts = [first, *rest[1::2]]
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise QueryError(
            f"A part of {text!r} is empty: there must be something before and after each ' + ' "
            f"and ' - '. {_AS_WORDS}"
        )
    return tuple(
        parse_part(part, is_negative=sign == "-") for sign, part in zip(signs, parts, strict=True)
    )


def parse_part(text: str, *, is_negative: bool = False) -> Part:
    """One part, that is not split: a weight if there is one, then words or a picture.

    Raises :class:`~embedsearch.errors.QueryError` as :func:`parse` does.
    """
    what, weight = text.strip(), 1.0
    if found := _WEIGHT.match(what):
        weight = _weight(found[1])
        what = what[found.end() :].lstrip()
    if not what:
        raise QueryError(f"{text!r} has nothing to look for. {_AS_WORDS}")
    return Part(what, what.startswith(_PICTURE), weight, is_negative)


def written(parts: Sequence[Part]) -> str:
    """The mixture as one text: what :func:`parse` reads as these parts, where it can be said."""
    text = "".join(f" {'-' if part.is_negative else '+'} {part}" for part in parts)
    return text.removeprefix(" + ").lstrip()


def _weight(said: str) -> float:
    weight = float(said)
    if LEAST_WEIGHT <= weight <= GREATEST_WEIGHT:
        return weight
    what_to_do = "To take something away, write ' - ' before it or use --not. " * (weight < 0)
    raise QueryError(
        f"The weight {said} is not from {LEAST_WEIGHT:g} to {GREATEST_WEIGHT:g}. "
        f"{what_to_do}{_AS_WORDS}"
    )
