"""What enrichers found in pictures: objects, masks and lines of text, and who has looked where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from embedsearch.records import (
    Box,
    Detection,
    EnricherInfo,
    Mask,
    Stage,
    StageCoverage,
    TextLine,
)
from embedsearch.store.catalogue import Catalogue, Ids, Matrix, StoredEncoder
from embedsearch.store.ledger import Ledger
from embedsearch.store.tag_table import image_ids_under

FOR_VIDEOS: tuple[Stage, ...] = ("track",)
"""Stages that look at videos only."""
FOR_BOTH: tuple[Stage, ...] = ("ocr",)
"""Stages that look at videos too; the others look at pictures only."""


@dataclass(frozen=True, slots=True)
class StoredEnricher:
    """An enricher that looked at pictures of this index. ``key`` is its row in the catalogue."""

    key: int
    info: EnricherInfo


Times = tuple[float, float, float]
"""When an object is first and last seen, and when best: seconds from the beginning of a video."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one stage found in one picture; boxes in pixels of the upright picture."""

    objects: Sequence[Detection] = ()
    vectors: Matrix | None = None
    """float32 (len(objects), dim): an embedding of each object."""
    times: Sequence[Times] | None = None
    """Of objects that were followed through a video, in their order."""
    lines: Sequence[TextLine] = ()
    line_times: Sequence[float] | None = None
    """When each line stands in a video, seconds from its beginning."""


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """An object of a picture, and which pixels are its own."""

    region_id: int
    box: Box
    mask: Mask | None = field(default=None)
    at: float | None = None
    """In a video: when it is there, seconds from the beginning."""
    masked: bool = False
    """Whether it is embedded by its own pixels alone."""


def add_enricher(ledger: Ledger, info: EnricherInfo) -> StoredEnricher:
    """The enricher's row, made where the index has not met it yet. Inside a transaction."""
    ledger.connection.execute(
        "insert into enrichers (enricher_id, stage, info) values (?, ?, ?) "
        "on conflict (enricher_id) do nothing",
        (info.id, info.stage, json.dumps(asdict(info))),
    )
    key = ledger.connection.execute(
        "select id from enrichers where enricher_id = ?", (info.id,)
    ).fetchone()[0]
    return StoredEnricher(key, info)


def unseen(
    catalogue: Catalogue, enricher: StoredEnricher, paths: Sequence[bytes] | None
) -> list[int]:
    """Ids of the present pictures (videos for a stage of videos) that ``enricher`` has not looked
    at yet, by id; of those at or under the absolute ``paths``, where given."""
    stage = enricher.info.stage
    rows = catalogue.connection.execute(
        f"select id from images where status = 'ok' and {_looked_at(stage)} and not exists "
        "(select 1 from enriched where image_id = images.id and stage = ? and enricher = ?) "
        "order by id",
        (stage, enricher.key),
    )
    ids = [row[0] for row in rows]
    if paths is None:
        return ids
    meant = {id_ for path in paths for id_ in image_ids_under(catalogue, path)}
    return [id_ for id_ in ids if id_ in meant]


def _looked_at(stage: Stage) -> str:
    """SQL for: the image is one that the stage looks at."""
    if stage in FOR_BOTH:
        return "1"
    return f"duration is {'not null' if stage in FOR_VIDEOS else 'null'}"


def seen_twin(catalogue: Catalogue, image_id: int, enricher: StoredEnricher) -> int | None:
    """Another picture of the same content that ``enricher`` has looked at, or None."""
    row = catalogue.connection.execute(
        "select twin.id from images as own join images as twin on twin.hash = own.hash "
        "and twin.size = own.size and twin.id <> own.id join enriched on image_id = twin.id "
        "and stage = ? and enricher = ? where own.id = ? and own.hash <> '' limit 1",
        (enricher.info.stage, enricher.key, image_id),
    ).fetchone()
    return None if row is None else int(row[0])


def store_found(
    ledger: Ledger,
    image_id: int,
    enricher: StoredEnricher,
    found: Found,
    encoder: StoredEncoder,
) -> None:
    """Put what was found in a picture in place of what this stage found there before. Inside a
    transaction."""
    _clear(ledger, image_id, enricher.info.stage)
    times: Sequence[Times | None] = found.times or [None] * len(found.objects)
    ids = [
        _add_object(ledger, image_id, enricher, one, when)
        for one, when in zip(found.objects, times, strict=True)
    ]
    if ids and found.vectors is not None:
        ledger.embed_regions(np.array(ids, np.int64), found.vectors, encoder)
    line_times: Sequence[float | None] = found.line_times or [None] * len(found.lines)
    ledger.connection.executemany(
        "insert into text_lines (image_id, enricher, x, y, w, h, quad, text, confidence, at) "
        "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                image_id,
                enricher.key,
                *line.box,
                None if line.quad is None else json.dumps([round(one, 1) for one in line.quad]),
                line.text,
                line.confidence,
                at,
            )
            for line, at in zip(found.lines, line_times, strict=True)
        ],
    )
    mark_seen(ledger, image_id, enricher)


def copy_found(ledger: Ledger, source: int, image_id: int, enricher: StoredEnricher) -> None:
    """Give a picture what was found in another of the same content. Inside a transaction."""
    _clear(ledger, image_id, enricher.info.stage)
    regions = ledger.connection.execute(
        "select id from regions where image_id = ? and enricher = ? order by id",
        (source, enricher.key),
    ).fetchall()
    for (region_id,) in regions:
        ledger.copy_region(region_id, image_id)
    ledger.copy_lines(source, image_id, enricher.key)
    mark_seen(ledger, image_id, enricher)


def mark_seen(ledger: Ledger, image_id: int, enricher: StoredEnricher) -> None:
    """Write down that a stage has looked at a picture. Inside a transaction."""
    ledger.connection.execute(
        "insert or replace into enriched (image_id, stage, enricher) values (?, ?, ?)",
        (image_id, enricher.info.stage, enricher.key),
    )


def coverage(catalogue: Catalogue) -> list[StageCoverage]:
    """What each enricher has looked at, of the pictures that are there, by stage and age."""
    if not catalogue.knows_findings:
        return []
    rows = catalogue.connection.execute(
        "select enricher_id, enrichers.stage, count(images.id), "
        "(select count(*) from regions join images on images.id = image_id "
        "where regions.enricher = enrichers.id and status = 'ok'), "
        "(select count(*) from text_lines join images on images.id = image_id "
        "where text_lines.enricher = enrichers.id and status = 'ok') "
        "from enrichers left join enriched on enriched.enricher = enrichers.id "
        "left join images on images.id = image_id and status = 'ok' "
        "group by enrichers.id having count(images.id) order by enrichers.stage, enrichers.id"
    ).fetchall()
    failed = dict(
        catalogue.connection.execute("select stage, count(*) from failures group by stage")
    )
    return [
        StageCoverage(stage, enricher_id, pictures, objects, lines, failed.get(stage, 0))
        for enricher_id, stage, pictures, objects, lines in rows
    ]


def pictures_for(catalogue: Catalogue, stage: Stage) -> int:
    """How many pictures (videos) are there that the stage may look at."""
    row = catalogue.connection.execute(
        f"select count(*) from images where status = 'ok' and {_looked_at(stage)}"
    ).fetchone()
    return int(row[0])


def part_ids(catalogue: Catalogue) -> Ids:
    """Ids of all regions that are no whole pictures, ascending, shape (N,)."""
    if not catalogue.knows_findings:
        return np.empty(0, np.int64)
    rows = catalogue.connection.execute(
        "select id from regions indexed by regions_of_parts where kind <> 'image' order by id"
    )
    return np.fromiter((row[0] for row in rows), np.int64)


def has_lines(catalogue: Catalogue) -> bool:
    """Whether words were read in any picture."""
    if not catalogue.knows_findings:
        return False
    return catalogue.connection.execute("select 1 from text_lines limit 1").fetchone() is not None


def unembedded_objects(
    catalogue: Catalogue, encoder: StoredEncoder
) -> dict[int, list[ObjectPlace]]:
    """By the id of a present picture, its objects that have no embedding of ``encoder``; of a video
    those that were followed, where each is seen best."""
    rows = catalogue.connection.execute(
        "select image_id, regions.id, x, y, w, h, mask, at, "
        "coalesce(json_extract(info, '$.crop'), 'box') = 'masked' from regions "
        "join images on images.id = image_id "
        "left join enrichers on enrichers.id = enricher where status = 'ok' "
        "and (kind = 'object' or (kind = 'track' and label is not null)) "
        "and not exists (select 1 from embeddings where region_id = regions.id and encoder = ?) "
        "order by image_id, regions.id",
        (encoder.key,),
    )
    found: dict[int, list[ObjectPlace]] = {}
    for image_id, region_id, x, y, w, h, mask, at, masked in rows:
        place = ObjectPlace(region_id, (x, y, w, h), read_mask(mask), at, bool(masked))
        found.setdefault(image_id, []).append(place)
    return found


def masks_of(catalogue: Catalogue, image_ids: Iterable[int]) -> dict[int, list[Detection]]:
    """By image id, the objects of pictures that have masks, the largest first."""
    if not catalogue.knows_findings:
        return {}
    rows = catalogue.connection.execute(
        "select image_id, label, score, x, y, w, h, mask from regions where mask is not null "
        "and image_id in (select value from json_each(?)) order by image_id, w * h desc",
        (json.dumps(list(image_ids)),),
    )
    found: dict[int, list[Detection]] = {}
    for image_id, label, score, x, y, w, h, mask in rows:
        one = Detection(label or "", score or 0.0, (x, y, w, h), read_mask(mask))
        found.setdefault(image_id, []).append(one)
    return found


def read_mask(text: str | None) -> Mask | None:
    """A mask from the JSON that the catalogue keeps: ``{"size": [height, width], "counts"}``."""
    if text is None:
        return None
    told = json.loads(text)
    height, width = told["size"]
    return Mask(height, width, told["counts"])


def mask_json(mask: Mask) -> str:
    """A mask as the catalogue keeps it, which is how COCO writes it."""
    return json.dumps({"size": [mask.height, mask.width], "counts": mask.counts})


def _add_object(
    ledger: Ledger,
    image_id: int,
    enricher: StoredEnricher,
    one: Detection,
    when: Times | None,
) -> int:
    """An object, or with its times a track."""
    cursor = ledger.connection.execute(
        "insert into regions (image_id, kind, x, y, w, h, label, score, mask, enricher, start, "
        "until, at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            image_id,
            "object" if when is None else "track",
            *one.box,
            one.label,
            one.score,
            None if one.mask is None else mask_json(one.mask),
            enricher.key,
            *(when or (None, None, None)),
        ),
    )
    return int(cursor.lastrowid or 0)


def _clear(ledger: Ledger, image_id: int, stage: Stage) -> None:
    of_stage = "enricher in (select id from enrichers where stage = ?)"
    ledger.touch_encoders_of(image_id)
    for table in ("regions", "text_lines"):
        ledger.connection.execute(
            f"delete from {table} where image_id = ? and {of_stage}", (image_id, stage)
        )
