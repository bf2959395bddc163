"""Whole pictures, as those who compare all of a collection read them: little of each, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.records import Image
from embedsearch.store.catalogue import CHUNK, Catalogue, Ids, StoredEncoder
from embedsearch.store.pictures_view import matching_images


@dataclass(frozen=True, slots=True)
class WholePicture:
    """A present picture and the region of the whole of it."""

    image_id: int
    region_id: int
    size: int
    hash: str
    taken_at: str | None


def whole_pictures(
    catalogue: Catalogue, encoder: StoredEncoder, where: str | None = None
) -> Iterator[WholePicture]:
    """Pictures that have an embedding of ``encoder``, by region id; those for which ``where`` is
    true. Raises :class:`~embedsearch.errors.QueryError` for a ``where`` that cannot be used."""
    wanted = None if where is None else set(matching_images(catalogue.path, where))
    last = 0
    while True:
        rows = catalogue.connection.execute(
            "select images.id, regions.id, size, hash, taken_at from regions "
            "join images on images.id = image_id "
            "join embeddings on region_id = regions.id and encoder = ? "
            "where kind = 'image' and status = 'ok' and regions.id > ? "
            f"order by regions.id limit {CHUNK}",
            (encoder.key, last),
        ).fetchall()
        if not rows:
            return
        last = rows[-1][1]
        for row in rows:
            if wanted is None or row[0] in wanted:
                yield WholePicture(*row)


def half_precision_rows(
    catalogue: Catalogue, encoder: StoredEncoder, region_ids: Ids
) -> NDArray[np.float16]:
    """Embeddings of ``region_ids``, ascending, as the catalogue keeps them: float16 (N, dim), half
    a gigabyte for a million of 256-d."""
    rows = np.empty((len(region_ids), encoder.info.dim), np.float16)
    start = 0
    for ids, chunk in catalogue.embeddings(encoder, region_ids):
        rows[start : start + len(ids)] = chunk
        start += len(ids)
    return rows


def images_by_id(catalogue: Catalogue, image_ids: Sequence[int]) -> dict[int, Image]:
    """The present pictures among ``image_ids``."""
    found: dict[int, Image] = {}
    for start in range(0, len(image_ids), CHUNK):
        chunk = json.dumps(list(image_ids[start : start + CHUNK]))
        found |= {
            image.id: image
            for image in catalogue.images_where(
                "images.id in (select value from json_each(?)) and status = 'ok'", (chunk,)
            )
        }
    return found
