"""Rows of embeddings put into groups: k-means, by density, and how many groups there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.store.catalogue import Ids, Matrix
from embedsearch.store.vector_file import Vector

Rows = NDArray[np.float16]

SEED = 0
ROWS_PER_CENTROID = 256
"""k-means learns from so many rows for each centroid; more change little (FAISS's default)."""
ITERATIONS = 20
SAMPLE_ROWS = 8192
"""The number of centroids is chosen on a sample of this size."""
START_ROWS = 4096
"""The first centroids are found among so many."""
JUDGED_ROWS = 3000
"""The silhouette is taken of so many."""
BLOCK_ROWS = 8192
MOST_CLUSTERS = 300
"""Chosen by default; more can be asked for."""
CHOICES = 10
NEIGHBOURS = 10
ATTACHED = 0.4
"""A row outside all groups joins the one that this share of its neighbours is in."""
LEAST_MEMBERS = 5
"""Of a group found by density."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """``labels`` (N,): the group of each row, from 0 on, -1 for none. ``centroids`` (K, dim) of
    unit length. ``similarities`` (N,): cosine of each row to the centroid of its group."""

    labels: Ids
    centroids: Matrix
    similarities: Vector


def by_kmeans(rows: Rows, count: int | None = None) -> Grouping:
    """Every row in one of ``count`` groups, by default as many as :func:`number_of_groups` says.

    Spherical k-means from k-means++ centroids (D. Arthur and S. Vassilvitskii, 2007). There are
    fewer groups than asked for where there are fewer different rows.
    """
    from embedsearch.store.vectors import nearest_rows, spherical_kmeans

    if count is None:
        count = number_of_groups(rows)
    count = max(1, min(count, len(rows)))
    taught = _sample(rows, ROWS_PER_CENTROID * count)
    centroids = spherical_kmeans(taught, _start(rows, count), ITERATIONS)
    labels, similarities = nearest_rows(rows, centroids)
    used, labels = np.unique(labels, return_inverse=True)
    return Grouping(labels.astype(np.int64), centroids[used], similarities)


def number_of_groups(rows: Rows) -> int:
    """How many groups k-means should make: of some numbers between the cube root of N and four
    times its square root, that of the best mean silhouette (P. Rousseeuw, "Silhouettes", 1987).

    The cube root is there because a silhouette is often best at two groups, such as indoors and
    outdoors, which tell nobody anything.
    """
    from sklearn.metrics import silhouette_score

    from embedsearch.store.vectors import nearest_rows, spherical_kmeans

    count = len(rows)
    least = max(2, round(math.cbrt(count)))
    most = max(least, min(count // LEAST_MEMBERS, round(4 * math.sqrt(count)), MOST_CLUSTERS))
    if count <= least:
        return max(1, count)
    sample, start = _sample(rows, SAMPLE_ROWS), _start(rows, most)
    judged = sample[_places(len(sample), JUDGED_ROWS)]
    distances = (1 - judged @ judged.T).clip(0, 2)
    np.fill_diagonal(distances, 0)
    best, chosen = -2.0, least
    for number in np.unique(np.geomspace(least, most, CHOICES).round().astype(int)).tolist():
        # The first of many k-means++ centroids are those of few.
        centroids = spherical_kmeans(sample, start[:number], ITERATIONS // 2)
        labels, _ = nearest_rows(judged, centroids)
        if not 1 < len(np.unique(labels)) < len(judged):
            continue
        score = float(silhouette_score(distances, labels, metric="precomputed"))
        if score > best:
            best, chosen = score, number
    return chosen


def by_density(rows: Rows) -> Grouping:
    """Rows that lie close together; the others belong to no group.

    HDBSCAN (R. Campello et al., 2013) over the graph of nearest neighbours, in which two rows are
    the nearer the more neighbours they share (R. Jarvis and E. Patrick, 1973; L. Ertöz et al.,
    2003). Distances themselves say little in hundreds of dimensions: over them HDBSCAN calls most
    rows noise. Then a row joins the group that most of its neighbours are in, if it is not far
    off the middle of it (:func:`fence`).
    """
    from sklearn.cluster import HDBSCAN

    from embedsearch.store.neighbours import nearest_neighbours

    count = len(rows)
    if count < 2 * LEAST_MEMBERS:
        return _none(rows)
    neighbours = nearest_neighbours(rows, min(NEIGHBOURS, count - 1))
    density = HDBSCAN(
        min_cluster_size=max(LEAST_MEMBERS, round(math.sqrt(count) / 10)),
        min_samples=3,
        metric="precomputed",
        copy=True,
    )
    labels = density.fit_predict(_shared_neighbours(neighbours)).astype(np.int64)
    if labels.max() < 0:
        return _none(rows)
    labels = _attached(rows, labels, neighbours)
    centroids = _means(rows, labels)
    return Grouping(labels, centroids, _similarities(rows, labels, centroids))


def _sample(rows: Rows, size: int) -> Matrix:
    return rows[_places(len(rows), size)].astype(np.float32)


def _places(count: int, size: int) -> Ids:
    """Places of a random sample, ascending; all where there are no more."""
    if count <= size:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).permutation(count)[:size])


def _start(rows: Rows, count: int) -> Matrix:
    """``count`` of the rows that lie far apart, by k-means++."""
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits

    sample = _sample(rows, max(START_ROWS, 2 * count))
    with threadpool_limits(1):  # many small products, which threads only hold up
        centroids, _ = kmeans_plusplus(sample, count, random_state=SEED)
    return np.asarray(centroids, np.float32)


def _shared_neighbours(neighbours: Ids) -> object:
    """Distances between neighbours, a sparse (N, N) matrix of one connected piece.

    A row is described by its neighbours, itself first, with weights that fall with their rank; the
    distance is one minus what the descriptions of two rows have in common.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count, k = neighbours.shape
    own, shape = np.arange(count), (count, count)
    weights = np.linspace(1, 0, k + 2, dtype=np.float32)[:-1]
    known = np.column_stack([own, neighbours])
    kept = known >= 0
    rows_of = np.broadcast_to(own[:, None], known.shape)[kept]
    described = csr_array(
        (np.broadcast_to(weights, known.shape)[kept], (rows_of, known[kept])), shape=shape
    )
    one, other = rows_of[rows_of != known[kept]], known[kept][rows_of != known[kept]]
    common = np.empty(len(one), np.float64)
    for start in range(0, len(one), 1 << 18):
        part = slice(start, start + (1 << 18))
        common[part] = described[one[part]].multiply(described[other[part]]).sum(axis=1)
    # Zero would be taken for "no neighbours" in a sparse matrix.
    distances = np.clip(1 - common / float(weights @ weights), 1e-6, 1)
    graph = csr_array((distances, (one, other)), shape=shape)
    graph = graph.maximum(graph.T)
    pieces, piece = connected_components(graph, directed=False)
    if pieces > 1:  # HDBSCAN wants one piece: they are joined at the largest distance
        first = np.unique(piece, return_index=True)[1]
        ends = (np.r_[first[:-1], first[1:]], np.r_[first[1:], first[:-1]])
        graph = graph + csr_array((np.ones(2 * (pieces - 1)), ends), shape=shape)
    return graph


def _attached(rows: Rows, labels: Ids, neighbours: Ids) -> Ids:
    """Labels with those outside joined to the group around them, and those that lie far off the
    middle of their group taken out."""
    centroids = _means(rows, labels)
    cosines = _similarities(rows, labels, centroids)
    reach = np.array([fence(cosines[labels == group]) for group in range(len(centroids))])
    labels = np.where((labels >= 0) & (cosines >= reach[labels]), labels, -1)
    for _ in range(3):
        outside = np.flatnonzero(labels < 0)
        around = np.where(neighbours[outside] >= 0, labels[neighbours[outside]], -1)
        same = (around[:, :, None] == around[:, None, :]) & (around >= 0)[:, :, None]
        votes = same.sum(axis=2)
        proposed = np.full(len(labels), -1, np.int64)
        enough = votes.max(axis=1, initial=0) >= ATTACHED * neighbours.shape[1]
        winner = around[np.arange(len(outside)), votes.argmax(axis=1)]
        proposed[outside[enough]] = winner[enough]
        near = _similarities(rows, proposed, centroids) >= reach[proposed]
        joins = (proposed >= 0) & near
        if not joins.any():
            break
        labels[joins] = proposed[joins]
    return labels


def fence(cosines: Vector) -> float:
    """Least cosine to the middle of a group that is not far from those of its members: a quarter
    of them have less than q, and this is q less 3 times the interquartile range (J. Tukey,
    "Exploratory Data Analysis", 1977)."""
    lower, upper = np.quantile(cosines, (0.25, 0.75))
    return float(lower - 3 * (upper - lower))


def _none(rows: Rows) -> Grouping:
    """No groups."""
    return Grouping(
        np.full(len(rows), -1, np.int64),
        np.empty((0, rows.shape[1]), np.float32),
        np.zeros(len(rows), np.float32),
    )


def _means(rows: Rows, labels: Ids) -> Matrix:
    centroids = np.zeros((int(labels.max(initial=-1)) + 1, rows.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        inside = np.flatnonzero(labels[start : start + BLOCK_ROWS] >= 0) + start
        np.add.at(centroids, labels[inside], rows[inside].astype(np.float32))
    return np.asarray(centroids / np.linalg.norm(centroids, axis=1, keepdims=True), np.float32)


def _similarities(rows: Rows, labels: Ids, centroids: Matrix) -> Vector:
    cosines = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        inside = np.flatnonzero(labels[start : start + BLOCK_ROWS] >= 0) + start
        cosines[inside] = np.einsum(
            "ij,ij->i", rows[inside].astype(np.float32), centroids[labels[inside]]
        )
    return cosines.clip(-1, 1)
