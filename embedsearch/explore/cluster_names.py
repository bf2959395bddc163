"""Names of clusters: the word that fits a cluster well and the others badly."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from embedsearch.explore.grouping import BLOCK_ROWS, Grouping, Rows
from embedsearch.explore.word_scores import standardised
from embedsearch.store.catalogue import Matrix

CONTRAST = 0.5
"""What counts against a word of its mean fit to the other clusters. At 0 all clusters of a
collection of dogs are called "dog", at 1 each by its oddest member."""
STANDING_OUT = 2.0
"""Standard deviations above the mean of all words from which a word counts for a picture."""
MEMBERS = 0.8
"""How much the members of a cluster count beside its middle, chosen on training photos."""
MANY_WORDS = 100
"""From so many on, how well the best would fit by chance is known."""
LEAST_SHARE = 0.5
"""A folder or tag names a cluster if so many of its members share it."""


def word_fit(rows: Rows, grouping: Grouping, embedded: Matrix) -> Matrix:
    """How well words ``embedded`` (W, dim) fit the groups of ``rows`` (N, dim): (K, W).

    The cosine of a word with the middle of a group, and how far it stands out in its members (the
    mean of what is over 2 standard deviations, at most 2). In a group of one kind both agree; the
    middle of a group of many kinds is near to words that are true of none of them.
    """
    fit = grouping.centroids @ embedded.T
    count = len(fit)
    sizes = np.bincount(grouping.labels[grouping.labels >= 0], minlength=count)
    for start in range(0, len(rows), BLOCK_ROWS):
        labels = grouping.labels[start : start + BLOCK_ROWS]
        inside = np.flatnonzero(labels >= 0)
        cosines = rows[start + inside].astype(np.float32) @ embedded.T
        over = (standardised(cosines) - STANDING_OUT).clip(0, 2)
        of_group = csr_array(
            (1 / sizes[labels[inside]], (labels[inside], np.arange(len(inside)))),
            shape=(count, len(inside)),
        )
        fit += MEMBERS * (of_group @ over)
    return np.asarray(fit, np.float32)


def says_something(grouping: Grouping, embedded: Matrix) -> NDArray[np.bool_]:
    """Whether words ``embedded`` (W, dim) fit the groups better than by chance: (K, W).

    The best of W normal numbers is about sqrt(2 ln W) deviations above their mean (Leadbetter et
    al., "Extremes", 1983, theorem 1.5.3): a word whose cosine with the middle of a group stands out
    less is what some word had to be. That holds of many words; of few all are taken to fit.
    """
    if len(embedded) < MANY_WORDS:
        return np.ones((len(grouping.centroids), len(embedded)), np.bool_)
    best_by_chance = math.sqrt(2 * math.log(len(embedded)))
    return standardised(grouping.centroids @ embedded.T) >= best_by_chance


def names_by_words(
    fit: Matrix,
    words: Sequence[str],
    taken: Collection[str] = (),
    allowed: NDArray[np.bool_] | None = None,
) -> list[str | None]:
    """A word for each cluster, all different and none of ``taken``; ``fit`` (K, W) is how well each
    word fits, and ``allowed`` (K, W) whether it fits at all.

    All names are chosen together, so that the sum of their scores is the largest (H. Kuhn's
    Hungarian method, 1955). None where there are too few words.
    """
    free = [place for place, word in enumerate(words) if word not in taken]
    fit = fit[:, free]
    others = (fit.sum(axis=0) - fit) / max(1, len(fit) - 1)
    score = fit - CONTRAST * others
    fits = np.ones_like(fit, np.bool_) if allowed is None else allowed[:, free]
    # No sum of scores is worth a word that does not fit where another does.
    least = score.min(initial=0) - len(fit) * np.ptp(score) if score.size else 0
    names: list[str | None] = [None] * len(fit)
    chosen = linear_sum_assignment(np.where(fits, score, least), maximize=True)
    for cluster, word in zip(*chosen, strict=True):
        if fits[cluster, word]:
            names[cluster] = words[free[word]]
    return names


def names_by_terms(
    terms: Sequence[Sequence[str]],
    labels: NDArray[np.int64],
    count: int,
    taken: Collection[str] = (),
) -> list[str | None]:
    """A name for each of ``count`` clusters from the ``terms`` (folders, tags) of each member.

    A term counts by its share in the cluster less its share in all pictures; it must be that of
    half of the members. None where there is no such term, or other clusters have taken it.
    """
    everywhere = Counter(term for some in terms for term in set(some))
    inside = [Counter[str]() for _ in range(count)]
    sizes = Counter(labels.tolist())
    for some, label in zip(terms, labels.tolist(), strict=True):
        if label >= 0:
            inside[label].update(set(some))
    scored = [
        (share - everywhere[term] / len(terms), cluster, term)
        for cluster, counted in enumerate(inside)
        for term, pictures in counted.items()
        if (share := pictures / sizes[cluster]) >= LEAST_SHARE and term not in taken
    ]
    names: list[str | None] = [None] * count
    used = set[str]()
    for gain, cluster, term in sorted(scored, key=lambda one: (-one[0], one[1], one[2])):
        if names[cluster] is None and term not in used and (count == 1 or gain > 0):
            names[cluster] = term
            used.add(term)
    return names


def folder_of(path: str) -> str:
    """The folder that a picture lies in, as a name: ``"Summer_2020"`` as "Summer 2020"."""
    return os.path.basename(os.path.dirname(path)).replace("_", " ").strip()
