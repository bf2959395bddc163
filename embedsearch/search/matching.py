"""Whether a picture matches a text at all, and not merely better than the others.

How similar a match is depends on the encoder and on the words. So a text is held against other
words: it matches a picture when it stands out among what could be said of it, as a tag does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.search.fusion import Evidence

STANDS_OUT = 3.6
"""A text matches when its cosine to a picture is so many standard deviations above the picture's
mean over words. Chosen by ``benchmarks/nothing_matches.py``, which asks 1,000 captioned photos that
``mini`` was not trained on for what they show and for what they do not; figures in
docs/enriching.md."""
PART_STANDS_OUT = 4.8
"""The same for objects: there are many, and the best of many stands out by chance."""
WORDS = 280
"""So many words are enough to hold a text against: with all 1,398 it is right as often."""
LABEL = 0.5
"""A label that is meant, found as surely as this, is a match."""
TEXT = 0.6
"""Words read in a picture match when they fit as well as this; a word with a misspelling does."""

Rows = NDArray[np.float32]


def standard_scores(pictures: Rows, text: NDArray[np.float32], words: Rows) -> NDArray[np.float32]:
    """By how many standard deviations ``text`` (dim,) is nearer to each of ``pictures`` (N, dim)
    than ``words`` (W, dim) are on average: float32 (N,)."""
    cosines = pictures @ words.T
    spread = np.maximum(cosines.std(axis=1), 1e-6)
    scores: NDArray[np.float32] = (pictures @ text - cosines.mean(axis=1)) / spread
    return scores


def matches(evidence: Evidence, whole: float, part: float) -> bool:
    """Whether something that speaks for a picture is enough by itself. ``whole`` is the greatest
    standard score of the picture and its shots, ``part`` that of objects and their tracks."""
    if whole >= STANDS_OUT or part >= PART_STANDS_OUT:
        return True
    said = sum(evidence.meant[label] * one.score for label, one in evidence.labels.items())
    read = 0.0 if evidence.text is None else evidence.text.score
    return said >= LABEL or read >= TEXT
