"""Embeddings laid out in the plane: PCA, t-SNE, UMAP; new rows placed among old ones.

Nothing is pickled. To place new rows, what a method learnt is made anew from the old rows and from
where they lie (t-SNE, UMAP), or is a few numbers that are kept beside the map (PCA).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import MissingExtraError
from embedsearch.explore import tsne, umap

Method = Literal["tsne", "pca", "umap"]
METHODS: tuple[Method, ...] = ("tsne", "pca", "umap")
Rows = NDArray[np.float32]
Places = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and of how much."""

SEED = 0
DIMENSIONS = 50
"""Neighbours are sought among so many principal components, as is usual: what the others hold is
mostly noise, and it takes a fifth of the time."""
LEAST_OLD = 12
"""Among fewer pictures there is no map to place others in."""


def silent(what: str, done: int, total: int) -> None:
    """Shows nothing."""


def require(method: Method) -> None:
    """Raises :class:`~embedsearch.errors.MissingExtraError` where a library is not installed."""
    try:
        if method == "tsne":
            import openTSNE  # noqa: F401
        elif method == "umap":
            umap.umap_class()
    except ImportError as error:
        names = {"tsne": "A t-SNE map", "umap": "A UMAP map"}
        raise MissingExtraError(f"{names[method]} (--method pca does without)", "map") from error


def lay_out(
    rows: Rows, method: Method, *, workers: int = 1, progress: Progress = silent
) -> tuple[Places, dict[str, Any]]:
    """Places of ``rows`` (N, dim), float64 (N, 2), and the parameters that :func:`place` needs.

    The same rows get the same places. Raises
    :class:`~embedsearch.errors.MissingExtraError`.
    """
    if method == "pca":
        mean, axes = _principal_axes(rows, 2)
        return _projected(rows, mean, axes), {"mean": mean.tolist(), "axes": axes.tolist()}
    require(method)
    reduced = _reduced(rows)
    if len(rows) < LEAST_OLD:  # too few to have neighbourhoods
        return _first_two(reduced), {"fitted": len(rows)}
    if method == "tsne":
        start = _start(reduced, tsne.SPREAD)
        places = tsne.lay_out(reduced, start, workers, progress)
        return places, {"perplexity": tsne.PERPLEXITY, "fitted": len(rows)}
    places = umap.lay_out(reduced, _start(reduced, umap.SPREAD), progress)
    return places, {"neighbours": umap.NEIGHBOURS, "fitted": len(rows)}


def place(
    new: Rows,
    old: Rows,
    places: Places,
    method: Method,
    parameters: dict[str, Any],
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> Places:
    """Places of the rows ``new`` (M, dim) in a map where ``old`` (N, dim) lie at ``places`` (N, 2).

    ``old`` holds at least :data:`LEAST_OLD` rows, and any number for PCA. None of them moves.
    """
    if method == "pca":
        mean = np.array(parameters["mean"], np.float32)
        return _projected(new, mean, np.array(parameters["axes"], np.float32))
    require(method)
    mean, axes = _principal_axes(old, DIMENSIONS)
    old, new = _projected_rows(old, mean, axes), _projected_rows(new, mean, axes)
    if method == "tsne":
        return tsne.place(new, old, places, workers, progress)
    return umap.place(new, old, places, progress)


# Principal components


def _principal_axes(rows: Rows, count: int) -> tuple[Rows, Rows]:
    """The mean, (dim,), and the first ``count`` axes at most, (dim, count)."""
    from sklearn.decomposition import PCA

    if len(rows) < 2:  # no direction to speak of
        return rows.mean(axis=0), np.zeros((rows.shape[1], min(count, rows.shape[1])), np.float32)
    kept = min(count, len(rows), rows.shape[1])
    with warnings.catch_warnings():
        # All rows the same: no variance to explain, and every place is as good.
        warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
        fitted = PCA(kept, svd_solver="covariance_eigh").fit(rows)
    return fitted.mean_.astype(np.float32), fitted.components_.T.astype(np.float32)


def _projected_rows(rows: Rows, mean: Rows, axes: Rows) -> Rows:
    return np.ascontiguousarray((rows - mean) @ axes, np.float32)


def _projected(rows: Rows, mean: Rows, axes: Rows) -> Places:
    return _first_two(_projected_rows(rows, mean, axes))


def _reduced(rows: Rows) -> Rows:
    return _projected_rows(rows, *_principal_axes(rows, DIMENSIONS))


def _first_two(reduced: Rows) -> Places:
    places = np.zeros((len(reduced), 2))
    places[:, : reduced.shape[1]] = reduced[:, :2]
    return places


def _start(reduced: Rows, spread: float) -> Places:
    """Where t-SNE and UMAP begin: on the first two components, so that the map's large shape means
    something (D. Kobak and P. Berens, "The art of using t-SNE for single-cell transcriptomics",
    2019). A little noise parts pictures that are the same."""
    places = _first_two(reduced)
    deviation = places[:, 0].std()
    places *= spread / deviation if deviation > 1e-7 else 0.0
    return places + np.random.default_rng(SEED).normal(0, spread / 100, places.shape)
