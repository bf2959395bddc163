"""Retrieval metrics over similarities: ranks, recall, average precision.

Ties count against the query: what is as similar as the right answer stands before it. So equal
embeddings cannot score, and the order of the files cannot matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RECALL_AT = (1, 5, 10)

Similarities = NDArray[np.float32]
"""(queries, gallery)."""
Relevance = NDArray[np.bool_]
"""(queries, gallery)."""


def first_ranks(similarities: Similarities, relevant: Relevance) -> NDArray[np.int64]:
    """Rank, from 1, of each query's best relevant picture among the others: int64 (queries,).

    Other relevant pictures are not competitors. Every query needs a relevant one.
    """
    _check(similarities, relevant)
    best = np.where(relevant, similarities, -np.inf).max(axis=1, keepdims=True)
    ranks: NDArray[np.int64] = ((similarities >= best) & ~relevant).sum(axis=1) + 1
    return ranks


def recall_summary(ranks: NDArray[np.int64]) -> dict[str, float]:
    """``R@1``, ``R@5``, ``R@10``: the share of queries whose rank is that or better; and
    ``median_rank``, from 1."""
    summary = {f"R@{k}": float((ranks <= k).mean()) for k in RECALL_AT}
    return {**summary, "median_rank": float(np.median(ranks))}


def average_precisions(similarities: Similarities, relevant: Relevance) -> NDArray[np.float64]:
    """Average precision of each query, float64 (queries,): the mean, over its relevant pictures,
    of the precision at the place where each is found (Manning, Raghavan and Schütze,
    "Introduction to Information Retrieval", 2008, section 8.4). With one relevant picture that is
    the reciprocal of its rank. Every query needs a relevant one.
    """
    _check(similarities, relevant)
    # Irrelevant pictures first among equals: ties count against the query.
    order = np.lexsort((relevant, -similarities), axis=1)
    found = np.take_along_axis(relevant, order, axis=1)
    places = np.arange(1, similarities.shape[1] + 1)
    precision = found.cumsum(axis=1) / places
    averages: NDArray[np.float64] = (precision * found).sum(axis=1) / found.sum(axis=1)
    return averages


def retrieval_summary(similarities: Similarities, relevant: Relevance) -> dict[str, float]:
    """``R@1``, the share of queries whose first result is relevant, and ``mAP``, the mean of the
    average precisions. Queries without a relevant picture are left out; NaN where none remains."""
    asked = relevant.any(axis=1)
    if not asked.any():
        return {"R@1": float("nan"), "mAP": float("nan")}
    similarities, relevant = similarities[asked], relevant[asked]
    return {
        "R@1": float((first_ranks(similarities, relevant) == 1).mean()),
        "mAP": float(average_precisions(similarities, relevant).mean()),
    }


def leave_one_out(
    embeddings: NDArray[np.float32], labels: Sequence[str]
) -> tuple[Similarities, Relevance]:
    """Each picture asks for the others of its label: similarities and relevance, each (N, N).

    The picture itself is put behind all others, and is not relevant.
    """
    names = np.asarray(labels)
    similarities = embeddings @ embeddings.T
    relevant = names[:, None] == names[None, :]
    np.fill_diagonal(similarities, -np.inf)
    np.fill_diagonal(relevant, False)
    return similarities, relevant


def _check(similarities: Similarities, relevant: Relevance) -> None:
    if similarities.shape != relevant.shape:
        raise ValueError(f"shapes differ: {similarities.shape} and {relevant.shape}")
    if not relevant.any(axis=1).all():
        raise ValueError("a query has no relevant picture")
