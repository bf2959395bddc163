"""Readers' questions about what enrichers found: labels, counts, and whose regions are whose.

On the path of a query: only sqlite3 and numpy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embedsearch.records import Box, Region
from embedsearch.store.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Labelled:
    """An object or a track with its label, and the picture it is in."""

    image_id: int
    region_id: int
    label: str
    score: float
    box: Box
    kind: str
    at: float | None


def labels(catalogue: Catalogue) -> list[str]:
    """The labels of objects and tracks in this index, in alphabetical order."""
    if not catalogue.knows_findings:
        return []
    # From one label to the next through the index: a million dogs cost no more than one.
    rows = catalogue.connection.execute(
        "with recursive each(label) as (select min(label) from regions where label is not null "
        "union all select (select min(label) from regions where label > each.label) from each "
        "where each.label is not null) select label from each where label is not null"
    )
    return [row[0] for row in rows]


def labelled(catalogue: Catalogue, wanted: Sequence[str], most: int) -> list[Labelled]:
    """The regions of present pictures with one of the ``wanted`` labels, at most ``most`` of each,
    the surest first."""
    found: list[Labelled] = []
    for label in wanted:
        rows = catalogue.connection.execute(
            "select image_id, regions.id, label, score, x, y, w, h, kind, at from regions "
            "join images on images.id = image_id where label = ? and status = 'ok' "
            "order by score desc, regions.id limit ?",
            (label, most),
        )
        found += [
            Labelled(image_id, region_id, one, score or 0.0, (x, y, w, h), kind, at)
            for image_id, region_id, one, score, x, y, w, h, kind, at in rows
        ]
    return found


def images_with(catalogue: Catalogue, label: str, operator: str, number: int) -> list[int]:
    """Ids of the present pictures that hold ``operator`` ``number`` objects of a label, such as
    ``>= 2``; ``operator`` is one of :data:`OPERATORS`. Where several enrichers looked, the most
    that one of them found counts."""
    assert operator in OPERATORS
    counted = (
        "select images.id as id, ifnull(max(found), 0) as most from images left join ("
        "select image_id, count(*) as found from regions where label = :label "
        "group by image_id, enricher) on image_id = images.id "
        "where status = 'ok' group by images.id"
    )
    rows = catalogue.connection.execute(
        f"select id from ({counted}) where most {operator} :number",
        {"label": label, "number": number},
    )
    return [row[0] for row in rows]


OPERATORS = ("=", "==", "!=", "<>", ">=", "<=", ">", "<")


def owners(catalogue: Catalogue, region_ids: Iterable[int]) -> dict[int, int]:
    """Ids of the pictures that regions are of, by region id; those of pictures that are not there
    are left out."""
    rows = catalogue.connection.execute(
        "select regions.id, image_id from json_each(?) as wanted "
        "cross join regions on regions.id = wanted.value "
        "join images on images.id = image_id where status = 'ok'",
        (json.dumps(list(region_ids)),),
    )
    return dict(rows.fetchall())


def whole_regions(catalogue: Catalogue, image_ids: Iterable[int]) -> dict[int, Region]:
    """The regions of whole pictures by image id, of those that are there."""
    rows = catalogue.connection.execute(
        "select image_id, regions.id from json_each(?) as wanted "
        "cross join regions on image_id = wanted.value and kind = 'image'",
        (json.dumps(list(image_ids)),),
    ).fetchall()
    regions = catalogue.regions(region_id for _, region_id in rows)
    return {image_id: regions[id_] for image_id, id_ in rows if id_ in regions}
