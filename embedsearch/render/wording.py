"""Numbers and what they count, as people write them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 picture``, ``2,000 pictures``: for nouns whose plural ends in s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
