"""The teacher's rows on as many axes as the student has, so that the student's space becomes the
teacher's own rather than one from which the teacher's can be told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings
from embedsearch.encoders.compound import best_axes

Axes = NDArray[np.float32]
"""(dim, D), orthonormal rows."""


def principal_axes(
    taught: tuple[Embeddings, Embeddings | None], mine: tuple[Embeddings, Embeddings | None]
) -> Axes:
    """Axes that keep the most of the teacher's rows, turned to where the student's rows lie now.

    ``taught`` are rows of photos (N, D) and of texts (M, D) or none, ``mine`` the student's rows of
    the same, (N, dim) and (M, dim). Photos and texts count alike, however many there are. A turn
    changes no cosine, but spares the student learning one: it is the solution of the orthogonal
    Procrustes problem (Schönemann, 1966).
    """
    pairs = [(t, m) for t, m in zip(taught, mine, strict=True) if t is not None and m is not None]
    dim = pairs[0][1].shape[1]
    axes = best_axes(np.sum([_mean_product(t, t) for t, _ in pairs], axis=0), dim)
    agreement = np.sum([_mean_product(t @ axes.T, m) for t, m in pairs], axis=0)
    left, _, right = np.linalg.svd(agreement)
    turned: Axes = ((left @ right).T @ axes).astype(np.float32)
    return turned


def on_axes(rows: NDArray[np.floating], axes: Axes) -> NDArray[np.float16]:
    """Rows (..., D) on the axes, unit vectors (..., dim)."""
    reduced = rows.astype(np.float32) @ axes.T
    lengths = np.linalg.norm(reduced, axis=-1, keepdims=True)
    found: NDArray[np.float16] = (reduced / np.maximum(lengths, 1e-12)).astype(np.float16)
    return found


def _mean_product(first: Embeddings, second: Embeddings) -> NDArray[np.float64]:
    product: NDArray[np.float64] = first.astype(np.float64).T @ second.astype(np.float64)
    return product / len(first)
