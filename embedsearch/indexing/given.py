"""Indexing pictures whose embeddings are given: they are read and hashed, but not encoded.

Of videos the shots are encoded: nobody gives their embeddings.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Literal

import numpy as np

from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.errors import EncoderError, PictureError
from embedsearch.images.decode import decode
from embedsearch.images.files import FileBytes, content_hash, read, status
from embedsearch.images.video import is_video
from embedsearch.indexing import scopes
from embedsearch.indexing.clip_retrieval import ClipRetrievalFolder, GivenRow
from embedsearch.indexing.progress import Progress
from embedsearch.indexing.sync import sync_vectors
from embedsearch.indexing.video_worker import look_at_video
from embedsearch.indexing.worker import content_of
from embedsearch.records import Failure, IndexReport
from embedsearch.store.catalogue import Root, is_inside
from embedsearch.store.ledger import Ledger
from embedsearch.store.picture_writer import Content

BATCH = 256
"""Pictures in one transaction, and under way."""
PROBES = 5
"""Pictures that are encoded anew, to see whether the embeddings are of the encoder they are said
to be of."""
AGREEMENT = 0.8
"""The median of their cosines is at least this. The same weights on another device, or behind
another way of resizing, come to over 0.95; another encoder comes to about 0."""


@dataclass(frozen=True, slots=True)
class _Looked:
    row: GivenRow
    root: Root | None
    """None where its folder is not there."""
    content: Content | None = None
    """None where the index knows the picture as it is, or it cannot be used."""
    error: PictureError | None = None
    read_as: tuple[int, int] | None = None


class GivenRun:
    """One run over a folder of embeddings. The caller holds the index lock."""

    def __init__(
        self,
        ledger: Ledger,
        encoder: Encoder,
        index_folder: Path,
        given: ClipRetrievalFolder,
        *,
        version: str,
        workers: int,
        progress: Progress,
        stop: Event,
    ) -> None:
        """Raises :class:`~embedsearch.errors.EncoderError` where the embeddings are not those of
        ``encoder``; nothing is written then."""
        _check_encoder(given, encoder)
        self._ledger, self._encoder, self._folder = ledger, encoder, index_folder
        self._given, self._workers = given, workers
        self._progress, self._stop = progress, stop
        self._counts: Counter[str] = Counter()
        self._failures: list[Failure] = []
        with ledger.transaction():
            self._run_id = ledger.start_run(version)
            self._stored = ledger.add_encoder(encoder.info)
            self._roots = _roots(ledger, given)

    def run(self) -> IndexReport:
        """Take what can be taken; pictures that are missing, changed or broken are reported."""
        started = time.monotonic()
        total = sum(1 for _ in self._given.paths())
        self._progress.begin(total)
        done = 0
        try:
            for batch in self._batches():
                with self._ledger.transaction():
                    for looked in batch:
                        self._store(looked)
                done += len(batch)
                self._progress.advance(done, len(self._failures))
        finally:
            self._progress.writing()
            sync_vectors(self._ledger, self._folder, self._stored)
        return self._finish(time.monotonic() - started)

    def _batches(self) -> Iterator[list[_Looked]]:
        """What was looked at, in order; one batch is read while the one before is stored."""
        rows = self._given.rows()
        under_way: deque[list[Future[_Looked]]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            while True:
                while len(under_way) < 2 and not self._stop.is_set():
                    batch = [self._begin(pool, row) for row in islice(rows, BATCH)]
                    if not batch:
                        break
                    under_way.append(batch)
                if not under_way:
                    return
                yield [future.result() for future in under_way.popleft()]

    def _begin(self, pool: ThreadPoolExecutor, row: GivenRow) -> Future[_Looked]:
        root = self._roots[os.path.dirname(row.path)]
        look = _Looked if root is not None and self._is_current(row, root) else self._look
        return pool.submit(look, row, root)

    def _is_current(self, row: GivenRow, root: Root) -> bool:
        try:
            size, mtime_ns = status(row.path)
        except OSError:
            return False  # reading it will say why
        path = root.relative(row.path)
        return self._ledger.is_current(root, path, size, mtime_ns, self._stored)

    def _look(self, row: GivenRow, root: Root | None) -> _Looked:
        try:
            file = read(row.path)
        except PictureError as error:
            return _Looked(row, root, error=error)
        if changed := _changed(row, file.size, file.mtime_ns):
            return _Looked(row, root, error=PictureError("read", changed))
        try:
            return _Looked(row, root, self._content(file, row.vector))
        except PictureError as error:
            return _Looked(row, root, error=error, read_as=(file.size, file.mtime_ns))

    def _content(self, file: FileBytes, vector: Embeddings) -> Content:
        """What is stored of a file. The shots of a video are encoded: nobody gives theirs."""
        side = self._encoder.info.input_size
        if not is_video(file):
            return content_of(file, content_hash(file), decode(file, side), vector)
        encode = self._encoder.encode_images
        seen = look_at_video(file, content_hash(file), lambda some: list(encode(some)), side)
        return replace(seen.content, vector=vector)

    def _store(self, looked: _Looked) -> None:
        row, root = looked.row, looked.root
        if looked.error is not None:
            self._fail(looked, looked.error)
        elif looked.content is None:
            self._counts["unchanged"] += 1
        else:
            assert root is not None  # else there was nothing to read
            path = root.relative(row.path)
            outcome = self._ledger.store(
                root, path, looked.content, self._stored, anew=False, is_gone=scopes.is_gone
            )
            assert outcome is not None  # the content has a vector
            self._counts[outcome] += 1
            self._counts["taken"] += 1

    def _fail(self, looked: _Looked, error: PictureError) -> None:
        path, root = looked.row.path, looked.root
        if root is None:
            self._ledger.add_failure(path, error.stage, error.reason, self._run_id)
        else:
            self._ledger.fail(root, root.relative(path), error, looked.read_as, self._run_id)
        stage: Literal["read", "decode"] = "decode" if error.stage == "decode" else "read"
        self._failures.append(Failure(os.fsdecode(path), stage, error.reason))

    def _finish(self, seconds: float) -> IndexReport:
        with self._ledger.transaction():
            counts = dict(self._counts) | {"failed": len(self._failures)}
            self._ledger.finish_run(self._run_id, counts)
        self._ledger.checkpoint()
        return IndexReport(
            new=self._counts["new"],
            changed=self._counts["changed"],
            moved=self._counts["moved"],
            copies=self._counts["copies"],
            unchanged=self._counts["unchanged"],
            taken=self._counts["taken"],
            failed=len(self._failures),
            failures=tuple(self._failures),
            seconds=seconds,
            interrupted=self._stop.is_set(),
        )


def encoder_named(given: ClipRetrievalFolder, ledger: Ledger, asked: str | None) -> str:
    """Spec or id of the encoder that made the embeddings: the one ``asked`` for, else the one that
    the folder names. Raises :class:`~embedsearch.errors.EncoderError` where nobody says."""
    known = [one.info.id for one in ledger.encoders() if one.info.id == given.encoder_id]
    named = asked or next(iter(known), None) or given.encoder_spec
    if named is None:
        raise EncoderError(
            f"{given.path} does not say which encoder made its embeddings. Name it: --encoder SPEC "
            "(what clip-retrieval uses by default is openclip:ViT-B-32/openai)"
        )
    return named


def _changed(row: GivenRow, size: int, mtime_ns: int) -> str | None:
    if row.size is None or row.mtime_ns is None or (row.size, row.mtime_ns) == (size, mtime_ns):
        return None
    return "it has changed since its embedding was made; index it with its encoder"


def _roots(ledger: Ledger, given: ClipRetrievalFolder) -> dict[bytes, Root | None]:
    """The root of every folder with pictures: the topmost of those folders, or what holds them;
    None where the folder is not there."""
    folders = {folder: os.path.isdir(folder) for folder in map(os.path.dirname, given.paths())}
    top: bytes | None = None
    for folder in sorted(folder for folder, there in folders.items() if there):
        # Sorted, a folder comes before what is in it, though not always right before.
        if top is None or not is_inside(folder, top):
            top = folder
            ledger.add_root(folder, os.stat(folder).st_dev)
    roots = ledger.roots()
    return {folder: _root_of(roots, folder) if there else None for folder, there in folders.items()}


def _root_of(roots: list[Root], folder: bytes) -> Root:
    return next(root for root in roots if folder == root.path or is_inside(folder, root.path))


def _check_encoder(given: ClipRetrievalFolder, encoder: Encoder) -> None:
    info = encoder.info
    if given.dim != info.dim:
        raise EncoderError(
            f"{given.path} holds embeddings of {given.dim} dimensions, {info.spec} makes such of "
            f"{info.dim}. Name the encoder that made them: --encoder SPEC"
        )
    if given.encoder_id not in (None, info.id):
        raise EncoderError(
            f"{given.path} was made with {given.encoder_id}, but {info.spec} is {info.id}. Name "
            "the encoder that made it: --encoder SPEC, or a folder that holds it."
        )
    cosines = list(islice(_cosines(given, encoder), PROBES))
    if cosines and np.median(cosines) < AGREEMENT:
        raise EncoderError(
            f"The embeddings in {given.path} are not those of {info.spec}: {len(cosines)} pictures "
            f"encoded anew have a median cosine of {np.median(cosines):.2f} to them. Name the "
            "encoder that made them: --encoder SPEC"
        )


def _cosines(given: ClipRetrievalFolder, encoder: Encoder) -> Iterator[float]:
    """How well the first pictures that are there, encoded anew, agree with what is given."""
    for row in given.rows():
        try:
            file = read(row.path)
            if _changed(row, file.size, file.mtime_ns) or is_video(file):
                continue  # of a video what is given may be that of any frames
            pixels = decode(file, encoder.info.input_size).pixels
        except PictureError:
            continue
        yield float(encoder.encode_images([pixels])[0] @ row.vector)
