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
PERPLEXITY = 30
EXAGGERATION, EXAGGERATED_STEPS, STEPS = 12, 250, 500
LEAST_LEARNING_RATE = 200.0
"""Of a few hundred pictures n / 12 is too little to move them apart."""
STEPS_OF_NEW, NEW_PERPLEXITY = 100, 5
NEIGHBOURS = 15
"""Of UMAP."""
LEAST_OLD = 12
"""Among fewer pictures there is no map to place others in."""
_TOLD_EVERY = 10


def silent(what: str, done: int, total: int) -> None:
    """Shows nothing."""


def require(method: Method) -> None:
    """Raises :class:`~embedsearch.errors.MissingExtraError` where a library is not installed."""
    try:
        if method == "tsne":
            import openTSNE  # noqa: F401
        elif method == "umap":
            _umap_class()
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
        return _tsne(reduced, workers, progress), {"perplexity": PERPLEXITY, "fitted": len(rows)}
    return _umap(reduced, progress), {"neighbours": NEIGHBOURS, "fitted": len(rows)}


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
        return _placed_by_tsne(new, old, places, workers, progress)
    return _placed_by_umap(new, old, places, progress)


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


# t-SNE


def _affinities(reduced: Rows, workers: int, progress: Progress) -> Any:
    from openTSNE import affinity, nearest_neighbors

    from embedsearch.store.vectors import nearest_rows

    class Neighbours(nearest_neighbors.KNNIndex):  # type: ignore[misc]
        """The vector index in the place of openTSNE's own search for neighbours."""

        VALID_METRICS = ("euclidean",)

        def build(self) -> tuple[Any, Any]:
            found, distances = nearest_rows(self.data, self.data, self.k + 1)
            return _without_itself(found, distances)

        def query(self, query: Rows, k: int) -> tuple[Any, Any]:
            found, distances = nearest_rows(self.data, query, k)
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


def _tsne(reduced: Rows, workers: int, progress: Progress) -> Places:
    """FIt-SNE (G. C. Linderman et al., 2019) at the learning rate n / 12 (A. C. Belkina et al.,
    2019)."""
    import openTSNE

    workers = _threads(len(reduced), workers)
    affinities = _affinities(reduced, workers, progress)
    embedding = openTSNE.TSNEEmbedding(
        _start(reduced, 1e-4), affinities, n_jobs=workers, random_state=SEED
    )
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


def _placed_by_tsne(
    new: Rows, old: Rows, places: Places, workers: int, progress: Progress
) -> Places:
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


# UMAP


def _umap_class() -> Any:
    with warnings.catch_warnings():
        # It warns of each of its optional parts that is not there.
        warnings.simplefilter("ignore")
        from umap import UMAP
    return UMAP


def _umap_model(reduced: Rows, **settings: Any) -> Any:
    return _umap_class()(
        n_neighbors=min(NEIGHBOURS, len(reduced) - 1), random_state=SEED, n_jobs=1, **settings
    )


def _umap(reduced: Rows, progress: Progress) -> Places:
    """UMAP (L. McInnes, J. Healy and J. Melville, 2018)."""
    from embedsearch.store.vectors import nearest_rows

    progress("UMAP", 0, 1)
    found, distances = nearest_rows(reduced, reduced, min(NEIGHBOURS, len(reduced) - 1))
    model = _umap_model(
        reduced,
        init=_start(reduced, 5.0).astype(np.float32),
        precomputed_knn=(found, distances),
    )
    with warnings.catch_warnings():
        # That this very model could not place new rows: another one does.
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\]", UserWarning)
        places = model.fit_transform(reduced)
    progress("UMAP", 1, 1)
    return np.array(places, np.float64)


def _placed_by_umap(new: Rows, old: Rows, places: Places, progress: Progress) -> Places:
    """UMAP's own transform, in a model that learns the neighbourhoods of ``old`` and is told where
    they lie."""
    progress("UMAP", 0, 1)
    model = _umap_model(old, init=places.astype(np.float32), n_epochs=0)
    model.fit(old)
    model.embedding_ = places.astype(np.float32)
    model.n_epochs = None  # as many for the new ones as UMAP thinks right
    placed = model.transform(new)
    progress("UMAP", 1, 1)
    return np.array(placed, np.float64)
