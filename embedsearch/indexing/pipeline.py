"""One ``index`` run: scan, then read, decode and encode on every core while this thread stores.

Each worker thread takes a few files through all their stages itself: two such workers on two cores
are faster than a chain of queues, because no core waits for another stage. What is under way is
bounded, so memory does not grow with the folder.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Event

from embedsearch.encoders.base import Encoder
from embedsearch.images.scan import scan
from embedsearch.indexing import scopes as scoping
from embedsearch.indexing.progress import Progress, Silent
from embedsearch.indexing.sync import sync_vectors
from embedsearch.indexing.worker import Looked, Worker
from embedsearch.records import IndexReport
from embedsearch.store.catalogue import StoredEncoder
from embedsearch.store.ledger import Ledger
from embedsearch.store.scan_plan import ScanPlan, Scope

CHUNK = 4
"""Files a worker takes at a time; batches of 1 to 8 are the fastest on a CPU."""
AHEAD = 4
"""Chunks under way for each worker."""
BATCH = 256
"""Pictures in one transaction, or fewer where it takes longer than BATCH_SECONDS."""
BATCH_SECONDS = 2.0
SYNC_AFTER = 50_000
"""A run over many pictures brings the vector index up to date whenever so many were added."""


class Run:
    """One run over some paths. Made by :func:`run`, which see."""

    def __init__(
        self,
        ledger: Ledger,
        encoder: Encoder,
        index_folder: Path,
        *,
        version: str,
        progress: Progress,
        stop: Event,
    ) -> None:
        self._ledger = ledger
        self._encoder = encoder
        self._folder = index_folder
        self._progress = progress
        self._stop = stop
        self._counts: Counter[str] = Counter()
        self._warnings: list[str] = []
        self._failed = 0
        self._unsynced = 0
        with ledger.transaction():
            self._run_id = ledger.start_run(version)
            self._stored: StoredEncoder = ledger.add_encoder(encoder.info)
        self._plan = ScanPlan(ledger)
        self._scopes: list[Scope] = []

    def scan(self, paths: Iterable[bytes], exclude: Sequence[str], force: bool) -> tuple[str, ...]:
        """Find the files and decide which to read. Returns warnings."""
        with self._ledger.transaction():
            resolved = scoping.resolve(self._ledger, paths)
        warnings = list(resolved.warnings)
        self._scopes = []
        with self._ledger.transaction():
            for scope in resolved.scopes:
                self._plan.clear_passing_failures(scope.root.absolute(scope.below))
                seen = self._scan_scope(scope, exclude)
                scope, warning = scoping.distrust_empty(scope, seen)
                warnings += [warning] if warning else []
                if self._stop.is_set():
                    scope = replace(scope, trusted=False)
                self._scopes.append(scope)
            self._plan.conclude(self._scopes, self._stored, force=force)
            for scope in self._scopes:
                self._adopt_device(scope)
        return tuple(warnings)

    def recall(self) -> None:
        """Read what the catalogue knows and the encoder has not seen, and nothing else."""
        self._scopes = [Scope(root, b"", trusted=False) for root in self._ledger.roots()]
        with self._ledger.transaction():
            self._plan.recall(self._stored, is_gone=scoping.is_gone)

    def _scan_scope(self, scope: Scope, exclude: Sequence[str]) -> int:
        root, below = scope.root, scope.below
        before = self._plan.seen_count()

        def failed(path: bytes, reason: str) -> None:
            self._ledger.add_failure(path, "scan", reason, self._run_id)
            self._failed += 1
            relative = root.relative(path)
            # A broken link is gone; what cannot be read may well be there.
            if relative and not os.path.islink(path):
                self._plan.see_unreadable(root, relative)

        files = scan(
            root.absolute(below),
            exclude=exclude,
            skip={os.fsencode(self._folder.absolute()), os.fsencode(self._folder.resolve())},
            on_failure=failed,
        )
        folder = os.path.dirname(below) if scope.single_file else below
        prefix = folder + b"/" if folder else b""
        while batch := list(islice(files, 10_000)):
            if self._stop.is_set():
                break
            self._plan.see(root, ((prefix + file.path, file.size, file.mtime_ns) for file in batch))
            self._progress.scanned(self._plan.seen_count())
        return self._plan.seen_count() - before

    def _adopt_device(self, scope: Scope) -> None:
        """A disk that came back under another device number, with pictures that we know."""
        try:
            device = os.stat(scope.root.path).st_dev
        except OSError:
            return
        if device != scope.root.device and self._plan.recognises(scope.root):
            self._ledger.set_device(scope.root, device)

    def read(self, workers: int) -> None:
        """Read, decode, encode and store all that is pending, or until told to stop."""
        total = self._plan.pending_count()
        self._progress.begin(total)
        if not total:
            return
        worker = Worker(self._encoder, self._stored, self._ledger, self._stop)
        done, batch, since = 0, [], time.monotonic()
        try:
            for looked in self._looked(worker, workers):
                done += 1
                batch.append(looked)
                if len(batch) >= BATCH or time.monotonic() - since > BATCH_SECONDS:
                    self._store(batch, worker)
                    batch, since = [], time.monotonic()
                    self._progress.advance(done, self._failed)
            self._store(batch, worker)
            self._progress.advance(done, self._failed)
        finally:
            worker.close()

    def _looked(self, worker: Worker, workers: int) -> Iterator[Looked]:
        """Results in the order of the plan, with a bounded number of chunks under way."""
        items = self._plan.pending()
        under_way: deque[Future[list[Looked]]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="embedsearch") as pool:
            try:
                while True:
                    while len(under_way) < workers * AHEAD and not self._stop.is_set():
                        chunk = list(islice(items, CHUNK))
                        if not chunk:
                            break
                        under_way.append(pool.submit(worker.look, chunk))
                    if not under_way:
                        return
                    yield from under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()

    def _store(self, batch: list[Looked], worker: Worker) -> None:
        if not batch:
            return
        with self._ledger.transaction():
            for looked in batch:
                self._store_one(looked, worker)
        self._unsynced += len(batch)
        if self._unsynced >= SYNC_AFTER:
            self.sync()

    def _store_one(self, looked: Looked, worker: Worker) -> None:
        item = looked.item
        if looked.content is not None:
            outcome = self._ledger.store(
                item.root,
                item.path,
                looked.content,
                self._stored,
                anew=item.anew,
                is_gone=scoping.is_gone,
            )
            if outcome is not None:
                self._warnings += [] if looked.warning is None else [looked.warning]
                self._counts[outcome] += 1
                self._counts["encoded"] += looked.content.vector is not None
                return
            # The picture that had this content was changed or removed earlier in this run.
            for anew in worker.look([item], encode_known=True):
                self._store_one(anew, worker)
            return
        error = looked.error
        assert error is not None
        self._ledger.fail(item.root, item.path, error, looked.read_as, self._run_id)
        self._failed += 1

    def sync(self) -> None:
        """Write the vector index."""
        self._progress.writing()
        sync_vectors(self._ledger, self._folder, self._stored)
        self._unsynced = 0

    def finish(self, warnings: tuple[str, ...], seconds: float) -> IndexReport:
        """Write down what was done and report it."""
        failures = [
            failure
            for scope in self._scopes
            for failure in self._ledger.failures(scope.root.absolute(scope.below))
        ]
        report = IndexReport(
            new=self._counts["new"],
            changed=self._counts["changed"],
            moved=self._counts["moved"],
            copies=self._counts["copies"],
            unchanged=self._plan.unchanged + self._counts["unchanged"],
            vanished=self._plan.vanished_count(),
            encoded=self._counts["encoded"],
            failed=len(failures),
            failures=tuple(failures),
            warnings=(*warnings, *self._warnings),
            seconds=seconds,
            interrupted=self._stop.is_set(),
        )
        counts = {
            name: getattr(report, name)
            for name in ("new", "changed", "moved", "copies", "unchanged", "vanished")
        }
        counts |= {"failed": report.failed, "encoded": report.encoded}
        counts |= {"interrupted": report.interrupted}
        with self._ledger.transaction():
            self._ledger.finish_run(self._run_id, counts)
        self._ledger.checkpoint()
        return report


def run(
    ledger: Ledger,
    encoder: Encoder,
    index_folder: Path,
    paths: Iterable[bytes],
    *,
    version: str,
    exclude: Sequence[str] = (),
    force: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    stop: Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> IndexReport:
    """Index files and folders; the caller holds the index lock.

    A picture that fails is reported and does not stop the run; neither does it touch another's
    embedding. When ``stop`` is set, what is under way is stored, the vector index is written, and
    the report says ``interrupted``; the next run goes on from there.
    """
    started = clock()
    work = Run(
        ledger,
        encoder,
        index_folder,
        version=version,
        progress=progress or Silent(),
        stop=stop or Event(),
    )
    warnings = work.scan(paths, exclude, force)
    try:
        work.read(workers)
    finally:
        work.sync()
    return work.finish(warnings, clock() - started)
