"""The shots of a video as regions: of kind track, without a label, found by no enricher."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHOTS = "kind = 'track' and label is null and enricher is null"
"""SQL for: the region is a shot."""


@dataclass(frozen=True, slots=True)
class ShotContent:
    """A shot, and the embedding of the frame that shows it best."""

    start: float
    """Seconds from the beginning of the video."""
    until: float
    at: float
    """When that frame is shown."""
    vector: NDArray[np.float32]
    """float32 (dim,)."""


Kept = dict[float, dict[int, bytes]]
"""Embeddings by the time of the frame, then by encoder key."""


def embeddings_of_shots(db: sqlite3.Connection, image_id: int) -> Kept:
    """What encoders made of the shots of a video."""
    kept: Kept = {}
    for at, encoder, vector in db.execute(
        "select at, encoder, vector from regions join embeddings on region_id = regions.id "
        f"where image_id = ? and {SHOTS}",
        (image_id,),
    ):
        kept.setdefault(at, {})[encoder] = vector
    return kept


def store_shots(
    db: sqlite3.Connection,
    image_id: int,
    shots: Sequence[ShotContent],
    encoder_key: int,
    kept: Kept,
) -> None:
    """Give a video the shots that it lacks, and each shot an embedding of one encoder where it
    lacks that; new ones also get those that are ``kept`` of their moment. Inside a transaction."""
    known = dict(
        db.execute(f"select at, id from regions where image_id = ? and {SHOTS}", (image_id,))
    )
    for shot in shots:
        region_id = known.get(shot.at)
        vectors = {encoder_key: shot.vector.astype(np.float16).tobytes()}
        if region_id is None:
            region_id = _add(db, image_id, shot)
            vectors = kept.get(shot.at, {}) | vectors
        db.executemany(
            "insert or ignore into embeddings (region_id, encoder, vector) values (?, ?, ?)",
            [(region_id, key, vector) for key, vector in vectors.items()],
        )


def shots_of_twin(
    db: sqlite3.Connection, size: int, content_hash: str, encoder_key: int
) -> list[ShotContent]:
    """The shots of some video of this very content that has embeddings of one encoder."""
    row = db.execute(
        "select images.id from images where hash = ? and size = ? and duration is not null and "
        "exists (select 1 from regions join embeddings on region_id = regions.id and encoder = ? "
        f"where image_id = images.id and {SHOTS}) limit 1",
        (content_hash, size, encoder_key),
    ).fetchone()
    return [] if row is None else list(_shots(db, row[0], encoder_key))


def _shots(db: sqlite3.Connection, image_id: int, encoder_key: int) -> Iterator[ShotContent]:
    rows = db.execute(
        "select start, until, at, vector from regions join embeddings on region_id = regions.id "
        f"and encoder = ? where image_id = ? and {SHOTS} order by start",
        (encoder_key, image_id),
    ).fetchall()
    for start, until, at, vector in rows:
        yield ShotContent(start, until, at, np.frombuffer(vector, np.float16).astype(np.float32))


def _add(db: sqlite3.Connection, image_id: int, shot: ShotContent) -> int:
    cursor = db.execute(
        "insert into regions (image_id, kind, x, y, w, h, start, until, at) "
        "select id, 'track', 0, 0, width, height, ?, ?, ? from images where id = ?",
        (shot.start, shot.until, shot.at, image_id),
    )
    return int(cursor.lastrowid or 0)
