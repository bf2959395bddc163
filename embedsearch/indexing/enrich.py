"""One stage of enriching: what an enricher finds in the pictures of an index that it has not seen.

Stages come after the embeddings, so that search works at once. Each picture is stored whole or not
at all; one that fails is written down and touches no other. What is broken off goes on where it
was, because the catalogue knows which pictures a stage has seen.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np

from embedsearch.encoders.base import Encoder
from embedsearch.enrichers.base import Enricher, Findings
from embedsearch.errors import EmbedSearchError, PictureError
from embedsearch.images.decode import Decoded, decode
from embedsearch.indexing.crops import Crop, embed_crops, read_unchanged
from embedsearch.indexing.progress import Progress
from embedsearch.indexing.sync import sync_vectors
from embedsearch.indexing.worker import in_short
from embedsearch.records import Box, EnricherInfo, Image, StageReport, TextLine
from embedsearch.store.catalogue import StoredEncoder
from embedsearch.store.findings import (
    Found,
    StoredEnricher,
    add_enricher,
    copy_found,
    seen_twin,
    store_found,
    unseen,
)
from embedsearch.store.ledger import Ledger
from embedsearch.store.whole_pictures import images_by_id

AHEAD = 3
"""Pictures under way for each worker."""
BATCH_SECONDS = 2.0
"""What was found is written so often."""
PAGE = 1024
LEAST_SIDE = 2.0
"""Boxes narrower than this, in pixels of the upright picture, hold nothing to embed."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of one picture."""

    image: Image
    found: Found | None = None
    error: PictureError | None = None


def cutting(info: EnricherInfo, crop: Crop) -> EnricherInfo:
    """What an index knows the enricher by, which also says how its objects were cut out: with the
    other way they are looked at anew."""
    if crop == "box" or info.stage != "segment":
        return info
    return replace(info, id=f"{info.id}-{crop}", crop=crop)


class StageRun:
    """One stage over the pictures of one index. The caller holds the index lock."""

    def __init__(
        self,
        ledger: Ledger,
        encoder: Encoder,
        index_folder: Path,
        enricher: Enricher,
        *,
        crop: Crop,
        run_id: int,
        progress: Progress,
        stop: Event,
    ) -> None:
        self._ledger = ledger
        self._encoder = encoder
        self._folder = index_folder
        self._enricher = enricher
        self._crop: Crop = crop
        self._run_id = run_id
        self._progress = progress
        self._stop = stop
        self._counts: Counter[str] = Counter()
        with ledger.transaction():
            self._stored: StoredEncoder = ledger.add_encoder(encoder.info)
            self._key: StoredEnricher = add_enricher(ledger, cutting(enricher.info, crop))

    def run(
        self,
        workers: int,
        paths: Sequence[bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> StageReport:
        """Look at every picture (at or under the absolute ``paths``, where given) that this
        enricher has not seen, in threads. What it found there with other weights or settings is
        replaced, and nothing else."""
        started = clock()
        pending = unseen(self._ledger, self._key, paths)
        self._progress.stage(self._enricher.info.stage, len(pending))
        batch: list[Looked] = []
        since, done = time.monotonic(), 0
        try:
            for looked in self._looked(pending, workers):
                batch.append(looked)
                done += 1
                if time.monotonic() - since > BATCH_SECONDS:
                    self._store(batch)
                    batch, since = [], time.monotonic()
                    self._progress.advance(done, self._counts["failed"])
        finally:
            self._store(batch)
            self._progress.advance(done, self._counts["failed"])
            self._progress.writing()
            sync_vectors(self._ledger, self._folder, self._stored)
        return StageReport(
            stage=self._enricher.info.stage,
            enricher=self._key.info.id,
            looked_at=self._counts["looked_at"],
            copied=self._counts["copied"],
            objects=self._counts["objects"],
            lines=self._counts["lines"],
            failed=self._counts["failed"],
            seconds=clock() - started,
        )

    def _looked(self, pending: list[int], workers: int) -> Iterator[Looked]:
        """Results in the order of ``pending``, with a bounded number under way."""
        images = self._images(pending)
        under_way: deque[Future[Looked | None]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="embedsearch") as pool:
            try:
                while True:
                    while len(under_way) < workers * AHEAD and not self._stop.is_set():
                        image = next(images, None)
                        if image is None:
                            break
                        under_way.append(pool.submit(self.look, image))
                    if not under_way:
                        return
                    looked = under_way.popleft().result()
                    if looked is not None:
                        yield looked
            finally:
                for future in under_way:
                    future.cancel()

    def _images(self, pending: list[int]) -> Iterator[Image]:
        """Pictures to look at; those whose content was looked at in another file are not."""
        for start in range(0, len(pending), PAGE):
            page = images_by_id(self._ledger, pending[start : start + PAGE])
            for image_id, image in page.items():
                twin = seen_twin(self._ledger, image_id, self._key)
                if twin is None:
                    yield image
                else:
                    with self._ledger.transaction():
                        copy_found(self._ledger, twin, image_id, self._key)
                    self._counts["copied"] += 1

    def look(self, image: Image) -> Looked | None:
        """What comes of one picture; None where the run was told to stop in its middle."""
        stage = self._enricher.info.stage
        try:
            found = self.find(image)
            if found is None:
                return None
            if found.vectors is not None and not np.isfinite(found.vectors).all():
                raise ValueError("the encoder gave numbers that are no embedding")
            return Looked(image, found)
        except PictureError as error:
            return Looked(image, error=PictureError(stage, error.reason))
        except EmbedSearchError:
            raise  # no fault of this picture: the stage cannot go on
        except Exception as error:
            reason = f"{stage} failed on it: {in_short(error)}"
            return Looked(image, error=PictureError(stage, reason))

    def find(self, image: Image) -> Found | None:
        """What the enricher finds in one picture, with its embeddings. May raise anything."""
        file = read_unchanged(image)
        look = max(self._enricher.info.look, self._encoder.info.input_size)
        whole = decode(file, look)
        found = scaled(self._enricher.enrich(whole.pixels), whole)
        masked = self._crop == "masked"
        places = [(one.box, one.mask if masked else None) for one in found.objects]
        vectors = embed_crops(self._encoder, file, whole, places)
        return replace(found, vectors=vectors)

    def _store(self, batch: list[Looked]) -> None:
        if not batch:
            return
        with self._ledger.transaction():
            for looked in batch:
                path = looked.image.path
                self._ledger.clear_failure_of_stage(path, self._enricher.info.stage)
                if looked.found is None:
                    assert looked.error is not None
                    self._ledger.fail_stage(path, looked.error, self._run_id)
                    self._counts["failed"] += 1
                    continue
                store_found(self._ledger, looked.image.id, self._key, looked.found, self._stored)
                self._counts["looked_at"] += 1
                self._counts["objects"] += len(looked.found.objects)
                self._counts["lines"] += len(looked.found.lines)


def scaled(findings: Findings, whole: Decoded) -> Found:
    """Findings with boxes in pixels of the upright picture, of which ``whole.pixels`` may be a
    smaller copy. Boxes are cut at its edges; what is left of none is dropped. A mask stays of the
    size it has."""
    rows, columns = whole.pixels.shape[:2]
    across, down = whole.width / columns, whole.height / rows

    def fit(box: Box) -> Box:
        x, y, w, h = box
        left, top = max(x * across, 0.0), max(y * down, 0.0)
        right = min((x + w) * across, float(whole.width))
        bottom = min((y + h) * down, float(whole.height))
        return (round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1))

    def line(one: TextLine) -> TextLine:
        quad = one.quad
        if quad is not None:
            scales = (across, down) * 4
            quad = tuple(value * scale for value, scale in zip(quad, scales, strict=True))
        return replace(one, box=fit(one.box), quad=quad)

    objects = [replace(one, box=fit(one.box)) for one in findings.objects]
    return Found(
        objects=[one for one in objects if min(one.box[2:]) >= LEAST_SIDE],
        lines=[line(one) for one in findings.lines if one.text.strip()],
    )
