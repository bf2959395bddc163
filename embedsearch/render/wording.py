"""Numbers and what they count, as people write them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 picture``, ``2,000 pictures``: for nouns whose plural ends in s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock(seconds: float) -> str:
    """A time in a video, as players show it: ``0:07``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
