"""Clusters of a collection: made, named, kept, and added to as pictures come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Encoder
from embedsearch.errors import QueryError
from embedsearch.explore.cluster_names import (
    folder_of,
    names_by_terms,
    names_by_words,
    says_something,
    word_fit,
)
from embedsearch.explore.grouping import Grouping, Rows, by_density, by_kmeans, fence
from embedsearch.explore.word_scores import embedded_words
from embedsearch.records import Cluster, ClusterReport
from embedsearch.store import clusterings
from embedsearch.store.catalogue import Catalogue, Ids, StoredEncoder
from embedsearch.store.clusterings import Clustering, Members, StoredCluster
from embedsearch.store.ledger import Ledger
from embedsearch.store.tag_table import given_tags
from embedsearch.store.whole_pictures import (
    WholePicture,
    half_precision_rows,
    images_by_id,
    whole_pictures,
)

Method = Literal["kmeans", "density"]
SAME = 0.5
"""An old and a new cluster are the same where what they share is so much of what either has."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for; None where nothing was said."""

    method: Method | None = None
    clusters: int | None = None
    where: str | None = None
    encoder: str | None = None
    anew: bool = False


def run(ledger: Ledger, wishes: Wishes, load: Callable[[StoredEncoder], Encoder]) -> ClusterReport:
    """Bring the clusters of an index up to date, or make them where there are none, or where
    others are wished for than there are.

    ``load`` loads the encoder whose text tower names clusters. Raises
    :class:`~embedsearch.errors.QueryError` for wishes that do not go together.
    """
    old = clusterings.clustering(ledger)
    if old is not None and wishes.encoder is None and _is_overtaken(ledger, old):
        wishes = _again(old, wishes)
    if old is not None and not _differs(ledger, old, wishes):
        if clusterings.stored_clusters(ledger):
            added = _add(ledger, old)
            return replace(report(ledger), added=added)
        wishes = _wishes_of(old)  # there were too few pictures; there may be more now
    method: Method = wishes.method or ("kmeans" if old is None else _method(old, wishes))
    if method == "density" and wishes.clusters is not None:
        raise QueryError(
            "The density method finds the number of clusters itself. Leave the number out, or take "
            "--method kmeans."
        )
    encoder = ledger.encoder(wishes.encoder)
    added = _make(ledger, encoder, method, wishes, load)
    return replace(report(ledger), added=added, anew=True)


def report(catalogue: Catalogue) -> ClusterReport:
    """The clusters as they are kept; none where there are none.

    Clusters whose pictures have all gone are left out, but keep their number.
    """
    made = clusterings.clustering(catalogue)
    if made is None:
        return ClusterReport((), 0)
    found = [one for one in clusterings.stored_clusters(catalogue) if one.size]
    shown = {one.number: clusterings.nearest_members(catalogue, one.number, 1) for one in found}
    paths = catalogue.regions(region for some in shown.values() for region, _ in some)
    where = made.parameters.get("where")
    pictures = sum(1 for _ in whole_pictures(catalogue, made.encoder, where))
    return ClusterReport(
        clusters=tuple(
            Cluster(one.number, one.name, one.size, paths[shown[one.number][0][0]].path)
            for one in found
        ),
        unclustered=max(0, pictures - sum(one.size for one in found)),
        method=made.method,
        where=where,
    )


def _differs(ledger: Ledger, old: Clustering, wishes: Wishes) -> bool:
    """Whether other clusters are wished for than there are."""
    return (
        wishes.anew
        or wishes.method not in (None, old.method)
        or wishes.clusters not in (None, old.parameters.get("clusters"))
        or wishes.where not in (None, old.parameters.get("where"))
        or (wishes.encoder is not None and ledger.encoder(wishes.encoder).key != old.encoder.key)
    )


def _is_overtaken(ledger: Ledger, old: Clustering) -> bool:
    """Whether the index is used with newer weights of the encoder whose embeddings these clusters
    are made of: pictures that come now have none of the older ones."""
    first = ledger.encoder()
    return first.key != old.encoder.key and first.info.spec == old.encoder.info.spec


def _again(old: Clustering, wishes: Wishes) -> Wishes:
    """The wishes, and what they leave open as it was wished for before, to be made anew."""
    before = _wishes_of(old)
    fewer = wishes.method == "density"  # which takes no number
    return Wishes(
        method=wishes.method or before.method,
        clusters=wishes.clusters or (None if fewer else before.clusters),
        where=wishes.where or before.where,
        anew=True,
    )


def _method(old: Clustering, wishes: Wishes) -> Method:
    return "density" if old.method == "density" and wishes.clusters is None else "kmeans"


def _wishes_of(old: Clustering) -> Wishes:
    return Wishes(
        method="density" if old.method == "density" else "kmeans",
        clusters=old.parameters.get("clusters"),
        where=old.parameters.get("where"),
        encoder=old.encoder.info.id,
    )


# Adding to what is there


def _add(ledger: Ledger, old: Clustering) -> int:
    """Put pictures that came since into the clusters; returns how many."""
    clusters = clusterings.stored_clusters(ledger)
    pictures = list(whole_pictures(ledger, old.encoder, old.parameters.get("where")))
    present = clusterings.members(ledger)
    ids = _regions(pictures)
    fresh = np.setdiff1d(ids, present.region_ids)
    if old.method == "density":  # the others were looked at, and found to be in none
        fresh = fresh[fresh > old.parameters["last_region"]]
    found = _assigned(ledger, old, clusters, present, fresh)
    last = int(max(ids.max(initial=0), old.parameters["last_region"]))
    with ledger.transaction():
        if len(found.region_ids):
            clusterings.add_members(ledger, found)
        if last != old.parameters["last_region"]:
            clusterings.set_parameters(ledger, old.parameters | {"last_region": last})
        clusterings.renew_medoids(ledger)
    return len(found.region_ids)


def _assigned(
    ledger: Ledger,
    old: Clustering,
    clusters: list[StoredCluster],
    present: Members,
    fresh: Ids,
) -> Members:
    """The cluster of each of the regions ``fresh``; without those that are too far from all."""
    from embedsearch.store.vectors import nearest_rows

    if not len(fresh) or not clusters:
        return Members(fresh[:0], fresh[:0], np.empty(0, np.float32))
    numbers = np.array([one.number for one in clusters])
    rows = half_precision_rows(ledger, old.encoder, fresh)
    places, cosines = nearest_rows(rows, clusterings.centroids_of(clusters))
    near = np.ones(len(fresh), bool)
    if old.method == "density":
        least = np.array([_fence(present, one.number) for one in clusters])
        near = cosines >= least[places]
    return Members(fresh[near], numbers[places[near]], cosines[near])


def _fence(present: Members, number: int) -> float:
    cosines = present.similarities[present.numbers == number]
    return fence(cosines) if len(cosines) else 2.0


# Making them


def _make(
    ledger: Ledger,
    encoder: StoredEncoder,
    method: Method,
    wishes: Wishes,
    load: Callable[[StoredEncoder], Encoder],
) -> int:
    """Cluster anew, and keep the numbers and names of clusters that stay the same."""
    pictures = list(whole_pictures(ledger, encoder, wishes.where))
    ids = _regions(pictures)
    rows = half_precision_rows(ledger, encoder, ids)
    if not len(rows):
        grouping = Grouping(
            ids, np.empty((0, encoder.info.dim), np.float32), np.empty(0, np.float32)
        )
    else:
        grouping = by_density(rows) if method == "density" else by_kmeans(rows, wishes.clusters)
    sizes = np.bincount(grouping.labels[grouping.labels >= 0], minlength=len(grouping.centroids))
    kept = _kept(ledger, ids, grouping.labels, len(sizes))
    numbers = _numbers(sizes, {place: one.number for place, one in kept.items()})
    names = _names(ledger, rows, grouping, pictures, kept, numbers, lambda: load(encoder))
    inside = grouping.labels >= 0
    clusters = [
        StoredCluster(numbers[place], names[place], None, grouping.centroids[place])
        for place in range(len(sizes))
    ]
    found = Members(
        ids[inside],
        np.array(numbers, np.int64)[grouping.labels[inside]],
        grouping.similarities[inside],
    )
    parameters: dict[str, Any] = {
        "clusters": wishes.clusters,
        "where": wishes.where,
        "last_region": int(ids.max(initial=0)),
    }
    with ledger.transaction():
        clusterings.replace_clustering(ledger, encoder, method, parameters, clusters, found)
        clusterings.renew_medoids(ledger)
    return len(found.region_ids)


def _kept(
    ledger: Ledger, ids: Ids, labels: NDArray[np.int64], count: int
) -> dict[int, StoredCluster]:
    """The old cluster that each new one is, where there is one.

    Of the pictures that were there both times, more than half of those in either must be in both.
    """
    from scipy.optimize import linear_sum_assignment

    old = clusterings.stored_clusters(ledger)
    before = clusterings.members(ledger)
    if not old or not count:
        return {}
    place_of = {one.number: place for place, one in enumerate(old)}
    _, then, now = np.intersect1d(before.region_ids, ids, return_indices=True)
    shared = np.zeros((len(old), count + 1))
    places = np.array([place_of[number] for number in before.numbers[then].tolist()], np.int64)
    np.add.at(shared, (places, labels[now]), 1)  # the last column holds those in none
    either = shared.sum(axis=1)[:, None] + shared.sum(axis=0) - shared
    alike = (shared / np.maximum(either, 1))[:, :count]
    pairs = zip(*linear_sum_assignment(alike, maximize=True), strict=True)
    return {int(new): old[was] for was, new in pairs if alike[was, new] > SAME}


def _numbers(sizes: NDArray[np.int64], kept: dict[int, int]) -> list[int]:
    """Numbers for all clusters: those that are kept, and for the others, the largest first, the
    smallest numbers that are free."""
    taken = set(kept.values())
    free = iter(number for number in range(1, len(sizes) + len(taken) + 1) if number not in taken)
    others = [place for place in np.argsort(-sizes, kind="stable").tolist() if place not in kept]
    given = kept | dict(zip(others, free, strict=False))
    return [given[place] for place in range(len(sizes))]


def _names(
    ledger: Ledger,
    rows: Rows,
    grouping: Grouping,
    pictures: list[WholePicture],
    kept: dict[int, StoredCluster],
    numbers: list[int],
    load: Callable[[], Encoder],
) -> list[str]:
    """Names for all clusters: those that are kept, else by words that fit, else by folders and
    tags, else by number."""
    names: list[str | None] = [
        kept[place].name if place in kept else None for place in range(len(numbers))
    ]
    if None in names:
        taken = {name for name in names if name is not None}
        encoder = load()
        words, embedded = embedded_words(encoder)
        if words:
            allowed = says_something(grouping, embedded)
            chosen = names_by_words(word_fit(rows, grouping, embedded), words, taken, allowed)
            names = [name or new for name, new in zip(names, chosen, strict=True)]
    if None in names:
        taken = {name for name in names if name is not None}
        shared = names_by_terms(_terms(ledger, pictures), grouping.labels, len(numbers), taken)
        names = [name or new for name, new in zip(names, shared, strict=True)]
    return [name or f"cluster {number}" for name, number in zip(names, numbers, strict=True)]


def _terms(ledger: Ledger, pictures: list[WholePicture]) -> list[list[str]]:
    """For each picture its folder and the tags that people gave it."""
    images = images_by_id(ledger, [one.image_id for one in pictures])
    tags = given_tags(ledger)
    return [
        [
            term
            for term in (folder_of(images[one.image_id].path), *tags.get(one.image_id, ()))
            if term
        ]
        for one in pictures
    ]


def _regions(pictures: list[WholePicture]) -> Ids:
    return np.fromiter((one.region_id for one in pictures), np.int64, len(pictures))
