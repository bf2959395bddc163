"""How many of what: ``dog>=2``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedsearch.errors import QueryError

_COUNT = re.compile(
    r"(?P<label>[^<>=!]*[^<>=!\s])\s*(?P<operator>>=|<=|==|!=|<>|=|>|<)\s*(?P<n>[0-9]{1,6})"
)


@dataclass(frozen=True, slots=True)
class Count:
    """A label and how many there are to be of it: ``operator`` is one that SQL knows."""

    label: str
    operator: str
    number: int

    def __str__(self) -> str:
        return f"{self.label}{self.operator}{self.number}"


def parse_count(text: str) -> Count:
    """Read ``LABEL OPERATOR NUMBER``; a label alone is at least one. Raises
    :class:`~embedsearch.errors.QueryError`."""
    found = _COUNT.fullmatch(text.strip())
    if found:
        return Count(found["label"].strip(), found["operator"], int(found["n"]))
    if text.strip() and not re.search("[<>=!]", text):
        return Count(text.strip(), ">=", 1)
    raise QueryError(
        f"--count {text!r} is not understood. Write a label, a comparison and a number, in quotes: "
        '--count "dog>=2"'
    )
