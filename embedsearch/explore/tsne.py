"""t-SNE by openTSNE: a layout of reduced rows, and new rows placed among old ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from embedsearch.explore.projection import Places, Progress, Rows

SEED = 0
PERPLEXITY = 30
EXAGGERATION, EXAGGERATED_STEPS, STEPS = 12, 250, 500
LEAST_LEARNING_RATE = 200.0
"""Of a few hundred pictures n / 12 is too little to move them apart."""
STEPS_OF_NEW, NEW_PERPLEXITY = 100, 5
SPREAD = 1e-4
"""How far apart the points begin: standard deviation of x."""
_TOLD_EVERY = 10


def _affinities(reduced: Rows, workers: int, progress: Progress) -> Any:
    from openTSNE import affinity, nearest_neighbors

    from embedsearch.store.vectors import nearest_by_distance

    class Neighbours(nearest_neighbors.KNNIndex):  # type: ignore[misc]
        """The vector index in the place of openTSNE's own search for neighbours."""

        VALID_METRICS = ("euclidean",)

        def build(self) -> tuple[Any, Any]:
            found, distances = nearest_by_distance(self.data, self.data, self.k + 1)
            return _without_itself(found, distances)

        def query(self, query: Rows, k: int) -> tuple[Any, Any]:
            found, distances = nearest_by_distance(self.data, query, k)
            return found, distances.astype(np.float64)

    progress("neighbours", 0, 1)
    k = min(3 * PERPLEXITY, len(reduced) - 1)
    return affinity.PerplexityBasedNN(
        knn_index=Neighbours(reduced, k),
        perplexity=min(float(PERPLEXITY), k / 3),
        n_jobs=workers,
    )


def _without_itself(found: Any, distances: Any) -> tuple[Any, Any]:
    """Each row's neighbours but itself, which copies may keep from the first place, or from all."""
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(found), found.shape[1] - 1)
    return found[~own].reshape(shape), distances[~own].reshape(shape).astype(np.float64)


def lay_out(reduced: Rows, start: Places, workers: int, progress: Progress) -> Places:
    """FIt-SNE (G. C. Linderman et al., 2019) at the learning rate n / 12 (A. C. Belkina et al.,
    2019)."""
    import openTSNE

    workers = _threads(len(reduced), workers)
    affinities = _affinities(reduced, workers, progress)
    embedding = openTSNE.TSNEEmbedding(start, affinities, n_jobs=workers, random_state=SEED)
    shared: dict[str, Any] = {
        "inplace": True,
        "learning_rate": max(len(reduced) / EXAGGERATION, LEAST_LEARNING_RATE),
        "callbacks_every_iters": _TOLD_EVERY,
    }
    total = EXAGGERATED_STEPS + STEPS
    embedding.optimize(
        EXAGGERATED_STEPS,
        exaggeration=EXAGGERATION,
        momentum=0.5,
        callbacks=_told(progress, 0, total),
        **shared,
    )
    embedding.optimize(
        STEPS, momentum=0.8, callbacks=_told(progress, EXAGGERATED_STEPS, total), **shared
    )
    progress("t-SNE", total, total)
    return np.array(embedding, np.float64)


def _threads(count: int, workers: int) -> int:
    """On few rows threads wait for each other longer than they work."""
    return 1 if count < 2000 else workers


def _told(progress: Progress, before: int, total: int) -> Callable[[int, float, Any], bool]:
    def tell(step: int, error: float, embedding: Any) -> bool:
        progress("t-SNE", before + step, total)
        return False

    return tell


def place(new: Rows, old: Rows, places: Places, workers: int, progress: Progress) -> Places:
    """From the median of their nearest neighbours, new points settle among the old ones, which
    stay (P. G. Poličar, M. Stražar and B. Zupan, "Embedding to reference t-SNE space addresses
    batch effects in single-cell classification", 2021)."""
    import openTSNE

    workers = _threads(len(old), workers)
    affinities = _affinities(old, workers, progress)
    reference = openTSNE.TSNEEmbedding(places, affinities, n_jobs=workers, random_state=SEED)
    partial = reference.prepare_partial(
        new,
        initialization="median",
        k=min(25, len(old)),
        perplexity=min(NEW_PERPLEXITY, len(old) / 3),
    )
    partial.optimize(
        STEPS_OF_NEW,
        inplace=True,
        learning_rate=0.1,  # "auto" would throw them out of the map
        exaggeration=1.5,
        momentum=0.8,
        max_grad_norm=0.25,
        callbacks=_told(progress, 0, STEPS_OF_NEW),
        callbacks_every_iters=_TOLD_EVERY,
    )
    progress("t-SNE", STEPS_OF_NEW, STEPS_OF_NEW)
    return np.array(partial, np.float64)
