"""Objects cut out of pictures and embedded, so that they can be searched like whole pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.errors import PictureError
from embedsearch.images.decode import Decoded, Source, decode
from embedsearch.images.files import FileBytes, read
from embedsearch.images.region import region_pixels
from embedsearch.images.video import frame_at
from embedsearch.indexing.progress import Progress
from embedsearch.indexing.sync import sync_vectors
from embedsearch.records import Box, Image, Mask
from embedsearch.store.catalogue import StoredEncoder
from embedsearch.store.findings import ObjectPlace, unembedded_objects
from embedsearch.store.ledger import Ledger
from embedsearch.store.whole_pictures import images_by_id

Crop = Literal["box", "masked"]
"""All that lies in the box of an object, or only its own pixels, where its mask is known."""
BATCH = 8
"""Crops that are encoded at a time."""


def embed_crops(
    encoder: Encoder,
    source: Source,
    whole: Decoded,
    places: Sequence[tuple[Box, Mask | None]],
) -> Embeddings:
    """Embed parts of a picture: float32 (len(places), encoder.info.dim). With a mask only its
    pixels are seen, without one all that lies in the box.

    ``whole`` is ``source`` decoded. Boxes are in pixels of the upright picture and lie inside it.
    Raises :class:`~embedsearch.errors.PictureError` where it cannot be decoded any larger.
    """
    pixels = [_cut(encoder, source, whole, box, mask) for box, mask in places]
    if not pixels:
        return np.empty((0, encoder.info.dim), np.float32)
    rows = [encoder.encode_images(some) for some in _batches(pixels)]
    return np.concatenate(rows)


def embed_objects(
    ledger: Ledger,
    encoder: Encoder,
    index_folder: Path,
    *,
    workers: int,
    progress: Progress,
    stop: Event,
) -> int:
    """Give objects that lack one an embedding of ``encoder``: those that were found when the index
    had other encoders only, cut out as they were then. Returns how many got one. Pictures that
    cannot be read, or changed since, are passed over: the next run finds them.
    """
    stored = ledger.encoder(encoder.info.id)
    lacking = unembedded_objects(ledger, stored)
    if not lacking:
        return 0
    images = images_by_id(ledger, list(lacking))
    progress.stage("objects", len(images))
    made = done = 0
    since = time.monotonic()
    waiting: list[tuple[list[ObjectPlace], Embeddings]] = []

    def one(image: Image) -> tuple[list[ObjectPlace], Embeddings] | None:
        places = lacking[image.id]
        try:
            return places, _embed_places(encoder, read_unchanged(image), places)
        except PictureError:
            return None

    with ThreadPoolExecutor(workers, thread_name_prefix="embedsearch") as pool:
        for some in _chunks(list(images.values()), workers * 4):
            if stop.is_set():
                break
            waiting += [result for result in pool.map(one, some) if result is not None]
            done += len(some)
            progress.advance(done, 0)
            if time.monotonic() - since > 2 or done == len(images):
                made += _store(ledger, stored, waiting)
                waiting, since = [], time.monotonic()
    made += _store(ledger, stored, waiting)
    progress.writing()
    sync_vectors(ledger, index_folder, stored)
    return made


def _embed_places(encoder: Encoder, file: FileBytes, places: Sequence[ObjectPlace]) -> Embeddings:
    """Embed objects of a picture, or, each at its time, of a video: float32 (len(places), dim)."""
    rows = []
    for at, some in groupby(places, key=lambda place: place.at):
        source: Source = file if at is None else frame_at(file, at, sys.maxsize)
        whole = decode(source, encoder.info.input_size)
        boxes = [(place.box, place.mask if place.masked else None) for place in some]
        rows.append(embed_crops(encoder, source, whole, boxes))
    return np.concatenate(rows)


def read_unchanged(image: Image) -> FileBytes:
    """The file of a picture of the index. Raises :class:`~embedsearch.errors.PictureError` where it
    cannot be read, or is no longer what was indexed."""
    file = read(image.path)
    if (file.size, file.mtime_ns) != (image.size, image.mtime_ns):
        raise PictureError("read", "it changed since it was indexed; run index on it again")
    return file


def _cut(
    encoder: Encoder,
    source: Source,
    whole: Decoded,
    box: Box,
    mask: Mask | None,
) -> NDArray[np.uint8]:
    if mask is None:
        return region_pixels(source, whole, box, encoder.info.input_size)
    from embedsearch.enrichers.masks import masked_pixels

    rows, columns = whole.pixels.shape[:2]
    across, down = columns / whole.width, rows / whole.height
    x, y, w, h = box
    red, green, blue = (round(255 * channel) for channel in encoder.info.mean)
    there = (x * across, y * down, w * across, h * down)
    return masked_pixels(whole.pixels, mask, there, (red, green, blue))


def _batches(pixels: list[NDArray[np.uint8]]) -> Iterator[list[NDArray[np.uint8]]]:
    return (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))


def _chunks(images: list[Image], size: int) -> Iterator[list[Image]]:
    return (images[start : start + size] for start in range(0, len(images), size))


def _store(
    ledger: Ledger, stored: StoredEncoder, some: list[tuple[list[ObjectPlace], Embeddings]]
) -> int:
    if not some:
        return 0
    ids = np.array([place.region_id for places, _ in some for place in places], np.int64)
    with ledger.transaction():
        ledger.embed_regions(ids, np.concatenate([rows for _, rows in some]), stored)
    return len(ids)
