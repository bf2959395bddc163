"""The one clustering of an index: its clusters, their members, and how it came about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedsearch.store.catalogue import Catalogue, Ids, Matrix, StoredEncoder
from embedsearch.store.ledger import Ledger, now
from embedsearch.store.vector_file import Vector


@dataclass(frozen=True, slots=True)
class Clustering:
    """How the clusters of an index came about."""

    encoder: StoredEncoder
    method: str
    parameters: dict[str, Any]
    made_at: str


@dataclass(frozen=True, slots=True)
class StoredCluster:
    """One cluster. ``size`` counts the members whose picture is there."""

    number: int
    name: str
    medoid: int | None
    """Region of the member that shows it best; None where that picture went."""
    centroid: Vector
    """float32 (dim,), of unit length."""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Members:
    """Regions by ascending id, the number of the cluster of each, and its cosine to the centroid;
    three arrays of shape (N,)."""

    region_ids: Ids
    numbers: Ids
    similarities: Vector


def clustering(catalogue: Catalogue) -> Clustering | None:
    """The clustering of this index, or None where it has none (any more)."""
    row = catalogue.connection.execute(
        "select encoder_id, method, parameters, made_at from clusterings "
        "join encoders on encoders.id = encoder"
    ).fetchone()
    if row is None:
        return None
    encoder_id, method, parameters, made_at = row
    return Clustering(catalogue.encoder(encoder_id), method, json.loads(parameters), made_at)


def stored_clusters(catalogue: Catalogue) -> list[StoredCluster]:
    """All clusters by number, also those whose pictures have all gone."""
    rows = catalogue.connection.execute(
        "select number, name, medoid, centroid, (select count(*) from cluster_members "
        "join regions on regions.id = region_id join images on images.id = image_id "
        "where cluster_members.number = clusters.number and status = 'ok') "
        "from clusters order by number"
    )
    return [
        StoredCluster(
            number, name, medoid, np.frombuffer(blob, np.float16).astype(np.float32), size
        )
        for number, name, medoid, blob, size in rows
    ]


def members(catalogue: Catalogue) -> Members:
    """The members of all clusters whose picture is there."""
    rows = catalogue.connection.execute(
        "select region_id, number, similarity from cluster_members "
        "join regions on regions.id = region_id join images on images.id = image_id "
        "where status = 'ok' order by region_id"
    ).fetchall()
    return Members(
        np.fromiter((row[0] for row in rows), np.int64, len(rows)),
        np.fromiter((row[1] for row in rows), np.int64, len(rows)),
        np.fromiter((row[2] for row in rows), np.float32, len(rows)),
    )


def nearest_members(catalogue: Catalogue, number: int, count: int) -> list[tuple[int, float]]:
    """Regions of the ``count`` members most like the whole cluster ``number`` and their cosines
    to its centroid; the medoid comes first."""
    rows = catalogue.connection.execute(
        "select region_id, similarity from cluster_members join clusters using (number) "
        "join regions on regions.id = region_id join images on images.id = image_id "
        "where number = ? and status = 'ok' "
        "order by region_id is not medoid, similarity desc, region_id limit ?",
        (number, count),
    )
    return list(rows.fetchall())


def replace_clustering(
    ledger: Ledger,
    encoder: StoredEncoder,
    method: str,
    parameters: dict[str, Any],
    clusters: Sequence[StoredCluster],
    found: Members,
) -> None:
    """Put a new clustering in the place of the one that was there. Inside a transaction."""
    drop_clustering(ledger)
    ledger.connection.execute(
        "insert into clusterings (id, encoder, method, parameters, made_at) values (1, ?, ?, ?, ?)",
        (
            encoder.key,
            method,
            json.dumps(parameters),
            now(),
        ),
    )
    ledger.connection.executemany(
        "insert into clusters (number, name, medoid, centroid) values (?, ?, ?, ?)",
        [
            (one.number, one.name, one.medoid, one.centroid.astype(np.float16).tobytes())
            for one in clusters
        ],
    )
    add_members(ledger, found)


def add_members(ledger: Ledger, found: Members) -> None:
    """Put regions that are in no cluster into clusters that are there. Inside a transaction."""
    ledger.connection.executemany(
        "insert into cluster_members (region_id, number, similarity) values (?, ?, ?)",
        zip(
            found.region_ids.tolist(),
            found.numbers.tolist(),
            found.similarities.tolist(),
            strict=True,
        ),
    )


def set_parameters(ledger: Ledger, parameters: dict[str, Any]) -> None:
    """Write anew how the clustering came about. Inside a transaction."""
    ledger.connection.execute("update clusterings set parameters = ?", (json.dumps(parameters),))


def renew_medoids(ledger: Ledger) -> None:
    """Give each cluster whose medoid is not there the present member nearest to its centroid.
    Inside a transaction."""
    ledger.connection.execute(
        "update clusters set medoid = (select region_id from cluster_members "
        "join regions on regions.id = region_id join images on images.id = image_id "
        "where cluster_members.number = clusters.number and status = 'ok' "
        "order by similarity desc, region_id limit 1) "
        "where medoid is null or not exists (select 1 from regions "
        "join images on images.id = image_id where regions.id = medoid and status = 'ok')"
    )


def drop_clustering(ledger: Ledger) -> None:
    """Forget all clusters. Inside a transaction."""
    for table in ("cluster_members", "clusters", "clusterings"):
        ledger.connection.execute(f"delete from {table}")


def clustering_faults(catalogue: Catalogue) -> list[str]:
    """What is wrong with the clusters, in plain words."""
    made, found = clustering(catalogue), stored_clusters(catalogue)
    if made is None:
        return [f"{len(found)} clusters of no clustering"] if found else []
    wrong = [
        f"cluster {one.number} has a centroid of {len(one.centroid)} numbers, not "
        f"{made.encoder.info.dim}, or not of unit length"
        for one in found
        if len(one.centroid) != made.encoder.info.dim
        or not abs(float(np.linalg.norm(one.centroid)) - 1) < 0.01
    ]
    (strangers,) = catalogue.connection.execute(
        "select count(*) from cluster_members where not exists (select 1 from embeddings "
        "where embeddings.region_id = cluster_members.region_id and encoder = ?)",
        (made.encoder.key,),
    ).fetchone()
    if strangers:
        wrong.append(f"{strangers} members of clusters lack an embedding of the clusters' encoder")
    return wrong


def centroids_of(clusters: Sequence[StoredCluster]) -> Matrix:
    """Centroids, float32 (K, dim)."""
    return np.stack([one.centroid for one in clusters])
