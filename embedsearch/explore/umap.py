"""UMAP by umap-learn: a layout of reduced rows, and new rows placed among old ones."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from embedsearch.explore.projection import Places, Progress, Rows

SEED = 0
NEIGHBOURS = 15
SPREAD = 5.0
"""How far apart the points begin: standard deviation of x."""


def umap_class() -> Any:
    """The library's class. Raises ``ImportError``."""
    with warnings.catch_warnings():
        # It warns of each of its optional parts that is not there.
        warnings.simplefilter("ignore")
        from umap import UMAP
    return UMAP


def _model(reduced: Rows, **settings: Any) -> Any:
    return umap_class()(
        n_neighbors=min(NEIGHBOURS, len(reduced) - 1), random_state=SEED, n_jobs=1, **settings
    )


def lay_out(reduced: Rows, start: Places, progress: Progress) -> Places:
    """UMAP (L. McInnes, J. Healy and J. Melville, 2018)."""
    from embedsearch.store.vectors import nearest_by_distance

    progress("UMAP", 0, 1)
    found, distances = nearest_by_distance(reduced, reduced, min(NEIGHBOURS, len(reduced) - 1))
    model = _model(
        reduced,
        init=start.astype(np.float32),
        precomputed_knn=(found, distances),
    )
    with warnings.catch_warnings():
        # That this very model could not place new rows: another one does.
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\]", UserWarning)
        places = model.fit_transform(reduced)
    progress("UMAP", 1, 1)
    return np.array(places, np.float64)


def place(new: Rows, old: Rows, places: Places, progress: Progress) -> Places:
    """UMAP's own transform, in a model that is told who the neighbours are and where they lie."""
    from embedsearch.store.vectors import nearest_by_distance

    progress("UMAP", 0, 1)
    model = _model(old, metric="precomputed", init=places.astype(np.float32), n_epochs=0)
    k = model.n_neighbors
    with warnings.catch_warnings():
        # That distances are given, which is meant.
        warnings.filterwarnings("ignore", ".*precomputed metric", UserWarning)
        among_old = _matrix(*nearest_by_distance(old, old, k + 1), len(old))
        # It asks that distances be the same both ways, and nothing from a row to itself.
        among_old = among_old.maximum(among_old.T).tolil()
        among_old.setdiag(0)
        model.fit(among_old.tocsr())
        model.embedding_ = places.astype(np.float32)
        model.n_epochs = None  # as many for the new ones as UMAP thinks right
        placed = model.transform(_matrix(*nearest_by_distance(old, new, k), len(old)))
    progress("UMAP", 1, 1)
    return np.array(placed, np.float64)


def _matrix(found: Any, distances: Any, count: int) -> Any:
    """Distances to the rows ``found`` (N, k) as a sparse matrix (N, ``count``). Of copies they are
    a hair above nothing: what is zero would be missing."""
    from scipy.sparse import csr_matrix

    ends = np.arange(len(found) + 1) * found.shape[1]
    data = np.maximum(distances, 1e-6).ravel()
    return csr_matrix((data, found.ravel(), ends), shape=(len(found), count))
