"""Maps as the catalogue keeps them: where each picture lies, and what it takes to place more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.records import Image, MapPoint
from embedsearch.store.catalogue import CHUNK, Catalogue, Ids, StoredEncoder
from embedsearch.store.ledger import Ledger, now
from embedsearch.store.whole_pictures import images_by_id

Places = NDArray[np.float64]
"""x and y of each picture, shape (N, 2)."""


@dataclass(frozen=True, slots=True)
class StoredProjection:
    """One kept map. ``places`` are those of ``region_ids``, which ascend."""

    key: int
    parameters: dict[str, Any]
    made_at: str
    region_ids: Ids
    places: Places


def stored_projection(
    catalogue: Catalogue, encoder: StoredEncoder, method: str
) -> StoredProjection | None:
    """The kept map of ``encoder`` by ``method``, or None. Regions that are gone are not in it."""
    row = catalogue.connection.execute(
        "select id, parameters, made_at from projections where encoder = ? and method = ?",
        (encoder.key, method),
    ).fetchone()
    if row is None:
        return None
    key, parameters, made_at = row
    points = catalogue.connection.execute(
        "select region_id, x, y from projection_points where projection = ? order by region_id",
        (key,),
    ).fetchall()
    return StoredProjection(
        key=key,
        parameters=json.loads(parameters),
        made_at=made_at,
        region_ids=np.fromiter((point[0] for point in points), np.int64, len(points)),
        places=np.array([point[1:] for point in points], np.float64).reshape(len(points), 2),
    )


def keep_projection(
    ledger: Ledger,
    encoder: StoredEncoder,
    method: str,
    parameters: Mapping[str, Any],
    region_ids: Ids,
    places: Places,
) -> str:
    """Keep a new map in the stead of that of ``encoder`` and ``method``; returns ``made_at``.
    Inside a transaction."""
    made_at = now()
    ledger.connection.execute(
        "delete from projections where encoder = ? and method = ?", (encoder.key, method)
    )
    cursor = ledger.connection.execute(
        "insert into projections (encoder, method, parameters, made_at) values (?, ?, ?, ?)",
        (encoder.key, method, json.dumps(dict(parameters)), made_at),
    )
    add_points(ledger, int(cursor.lastrowid or 0), region_ids, places)
    return made_at


def add_points(ledger: Ledger, projection: int, region_ids: Ids, places: Places) -> None:
    """Add places to a kept map. Inside a transaction. A region that is gone meanwhile, or that
    another process placed first, is left as it is."""
    ledger.connection.executemany(
        "insert or ignore into projection_points (projection, region_id, x, y) "
        "select ?, id, ?, ? from regions where id = ?",
        (
            (projection, x, y, region_id)
            for region_id, (x, y) in zip(region_ids.tolist(), places.tolist(), strict=True)
        ),
    )


def map_points(
    catalogue: Catalogue, image_ids: Ids, region_ids: Ids, places: Places
) -> Iterator[MapPoint]:
    """The pictures ``image_ids``, whose whole is ``region_ids``, at ``places``, in that order."""
    for start in range(0, len(image_ids), CHUNK):
        part = slice(start, start + CHUNK)
        ids = image_ids[part].tolist()
        images = images_by_id(catalogue, ids)
        clusters = _clusters(catalogue, region_ids[part].tolist())
        labels, tags = _labels(catalogue, ids), _tags(catalogue, ids)
        for id_, region_id, (x, y) in zip(
            ids, region_ids[part].tolist(), places[part].tolist(), strict=True
        ):
            if id_ in images:
                image: Image = images[id_]
                number, name = clusters.get(region_id, (None, None))
                yield MapPoint(image, x, y, number, name, labels.get(id_), tuple(tags.get(id_, ())))


def _clusters(catalogue: Catalogue, region_ids: list[int]) -> dict[int, tuple[int, str]]:
    rows = catalogue.connection.execute(
        "select region_id, number, name from cluster_members join clusters using (number) "
        "where region_id in (select value from json_each(?))",
        (json.dumps(region_ids),),
    )
    return {region_id: (number, name) for region_id, number, name in rows}


def _labels(catalogue: Catalogue, image_ids: list[int]) -> dict[int, str]:
    rows = catalogue.connection.execute(
        "select image_id, label from regions where label is not null "
        "and image_id in (select value from json_each(?)) order by kind != 'image', w * h desc, id",
        (json.dumps(image_ids),),
    )
    first: dict[int, str] = {}
    for image_id, label in rows:
        first.setdefault(image_id, label)
    return first


def _tags(catalogue: Catalogue, image_ids: list[int]) -> dict[int, list[str]]:
    rows = catalogue.connection.execute(
        "select image_id, tag from tags where image_id in (select value from json_each(?)) "
        "order by score is not null, score desc, tag",
        (json.dumps(image_ids),),
    )
    found: dict[int, list[str]] = {}
    for image_id, tag in rows:
        found.setdefault(image_id, []).append(tag)
    return found
