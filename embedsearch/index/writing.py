"""Bringing pictures into an index and taking them out; keeping it sound."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from embedsearch import settings
from embedsearch.index.opened import AnyPath, OpenedIndex
from embedsearch.records import (
    ForgottenEncoder,
    IndexReport,
    Problem,
    Stage,
)
from embedsearch.settings import Device

if TYPE_CHECKING:
    from embedsearch.encoders.base import Encoder
    from embedsearch.indexing.crops import Crop
    from embedsearch.indexing.progress import Progress
    from embedsearch.store.ledger import Ledger


class Writing(OpenedIndex):
    """The part of :class:`embedsearch.index.Index` that writes pictures."""

    def add(
        self,
        *paths: AnyPath,
        encoder: str | None = None,
        exclude: Sequence[str] = (),
        force: bool = False,
        device: Device = "auto",
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> IndexReport:
        """Index pictures and folders of pictures; what did not change since is not read again.

        ``encoder`` is a spec; by default the one this index was made with, else ``mini``.
        ``exclude`` are globs as :mod:`embedsearch.images.scan` describes them. ``force`` reads and
        encodes everything anew. ``wait_seconds`` is how long to wait for another writer. A set
        ``stop`` ends the run early, with everything done so far kept.

        Raises :class:`~embedsearch.errors.DataError` for a path that does not exist and
        :class:`~embedsearch.errors.IndexLockedError`. A picture that cannot be used raises
        nothing: it is in the report's ``failures``.
        """
        from embedsearch import __version__
        from embedsearch.encoders import registry
        from embedsearch.indexing import pipeline
        from embedsearch.indexing.fitting import Fitting, FittingStoppedError, derive

        with self._writer(wait_seconds, make=True) as ledger:
            given = [os.fsencode(path) for path in paths]
            threads = settings.workers(workers)
            fit = Fitting(ledger, self.folder, given, exclude, threads, progress, stop)
            try:
                chosen = self._encoder_to_add(ledger, encoder, device, fit)
            except FittingStoppedError:
                return IndexReport(interrupted=True)
            registry.keep_copy(chosen, self.folder)
            derived = derive(ledger, chosen)
            report = pipeline.run(
                ledger,
                chosen,
                self.folder,
                given,
                version=__version__,
                exclude=exclude,
                force=force,
                workers=threads,
                progress=progress,
                stop=stop,
            )
            self._embed_objects(ledger, chosen, threads, progress, stop)
            warnings = (*fit.warnings, *report.warnings)
            return replace(report, derived=derived, warnings=warnings)

    def enrich(
        self,
        stages: str = "all",
        *paths: AnyPath,
        specs: Mapping[Stage, str | None] | None = None,
        crop: Crop = "box",
        encoder: str | None = None,
        device: Device = "auto",
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> IndexReport:
        """Find words (``ocr``), objects (``detect``), outlines (``segment``) and what moves through
        videos (``track``) in pictures of the index that these stages have not looked at yet: those
        at or under ``paths``, or all.

        ``stages`` is ``all``, or some of the four parted by commas; ``specs`` names who does them,
        by default what is in the box. Objects are embedded with ``encoder``, by default the index's
        first: all that lies in their box, or with ``crop`` ``masked`` only their own pixels, where
        a mask is known; ``segment`` looks anew where it was the other way. What other stages found
        is not touched.

        Raises :class:`~embedsearch.errors.EnricherError`,
        :class:`~embedsearch.errors.MissingExtraError` and
        :class:`~embedsearch.errors.IndexLockedError`. A picture that cannot be looked at raises
        nothing: it is in the report's ``failures``.
        """
        from embedsearch import __version__
        from embedsearch.indexing import staging
        from embedsearch.indexing.progress import Silent

        wishes = staging.parse(stages, dict(specs or {}))
        staging.check(wishes)
        given = [os.path.abspath(os.fsencode(path)) for path in paths] or None
        with self._writer(wait_seconds) as ledger:
            chosen = self._encoder_to_add(ledger, encoder, device, None)
            reports, warnings = staging.run_stages(
                ledger,
                chosen,
                self.folder,
                wishes,
                given,
                version=__version__,
                crop=crop,
                device=device,
                workers=settings.workers(workers),
                progress=progress or Silent(),
                stop=stop or Event(),
            )
            self._embed_objects(ledger, chosen, settings.workers(workers), progress, stop)
            names = {report.stage for report in reports}
            failures = tuple(one for one in ledger.failures() if one.stage in names)
            return IndexReport(
                failed=len(failures),
                failures=failures,
                warnings=warnings,
                interrupted=stop is not None and stop.is_set(),
                stages=reports,
                seconds=sum(report.seconds for report in reports),
            )

    def _embed_objects(
        self,
        ledger: Ledger,
        encoder: Encoder,
        threads: int,
        progress: Progress | None,
        stop: Event | None,
    ) -> None:
        """Objects found before the index had this encoder."""
        from embedsearch.indexing.crops import embed_objects
        from embedsearch.indexing.progress import Silent

        embed_objects(
            ledger,
            encoder,
            self.folder,
            workers=threads,
            progress=progress or Silent(),
            stop=stop or Event(),
        )

    def re_encode(
        self,
        encoder: str | None = None,
        *,
        device: Device = "auto",
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> IndexReport:
        """Encode every picture of the index with ``encoder``, by default with what the spec of its
        first encoder names now; once all are, this is the index's first encoder.

        Nothing else is looked at: neither new pictures nor those that changed. The older embeddings
        stay (:meth:`forget_encoder`). A run that was stopped is gone on with by the next.

        Raises :class:`~embedsearch.errors.EncoderError` where the spec leads nowhere, and
        :class:`~embedsearch.errors.IndexLockedError`.
        """
        from embedsearch import __version__
        from embedsearch.encoders import registry
        from embedsearch.indexing.fitting import Fitting, FittingStoppedError, derive
        from embedsearch.indexing.re_encode import re_encode

        with self._writer(wait_seconds) as ledger:
            roots, threads = [root.path for root in ledger.roots()], settings.workers(workers)
            fit = Fitting(ledger, self.folder, roots, (), threads, progress, stop)
            try:
                chosen = self._encoder_to_use(ledger, encoder, device, fit)
            except FittingStoppedError:
                return IndexReport(interrupted=True)
            registry.keep_copy(chosen, self.folder)
            derived = derive(ledger, chosen)
            report = re_encode(
                ledger,
                chosen,
                self.folder,
                version=__version__,
                workers=threads,
                progress=progress,
                stop=stop,
            )
            self._embed_objects(ledger, chosen, threads, progress, stop)
            warnings = (*fit.warnings, *report.warnings)
            return replace(report, derived=derived, warnings=warnings)

    def add_embeddings(
        self,
        folder: AnyPath,
        *,
        encoder: str | None = None,
        device: Device = "auto",
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Progress | None = None,
        stop: Event | None = None,
    ) -> IndexReport:
        """Index the pictures that a folder in the layout of clip-retrieval has embeddings of.

        The embeddings are taken as they are. ``encoder`` is the spec or id of the one that made
        them, by default what the folder says; a few pictures are encoded anew to see that it is.
        Pictures that are gone, or have changed since as far as the folder tells, are in the
        report's ``failures``.

        Raises :class:`~embedsearch.errors.DataError` for files that do not fit together,
        :class:`~embedsearch.errors.EncoderError` for embeddings of another encoder, and
        :class:`~embedsearch.errors.IndexLockedError`.
        """
        from embedsearch import __version__
        from embedsearch.encoders import registry
        from embedsearch.indexing.clip_retrieval import read_folder
        from embedsearch.indexing.given import GivenRun, encoder_named
        from embedsearch.indexing.progress import Silent

        given = read_folder(Path(os.fsdecode(folder)))
        with self._writer(wait_seconds, make=True) as ledger:
            named = encoder_named(given, ledger, encoder)
            chosen = self._encoder_to_add(ledger, named, device, None)
            run = GivenRun(
                ledger,
                chosen,
                self.folder,
                given,
                version=__version__,
                workers=settings.workers(workers),
                progress=progress or Silent(),
                stop=stop or Event(),
            )
            registry.keep_copy(chosen, self.folder)
            return run.run()

    def forget(
        self, *paths: AnyPath, dry_run: bool = False, wait_seconds: float = 0.0
    ) -> list[str]:
        """Remove pictures from the index (never from the disk): those at or under ``paths``, or,
        without any, those that vanished. Returns their paths; with ``dry_run`` nothing is removed.
        """
        from embedsearch.indexing.forget import forget

        absolute = [os.path.abspath(os.fsencode(path)) for path in paths]
        if dry_run:
            return forget(self._reader(), self.folder, absolute)
        with self._writer(wait_seconds) as ledger:
            return forget(ledger, self.folder, absolute)

    def forget_encoder(
        self, encoder: str, *, dry_run: bool = False, wait_seconds: float = 0.0
    ) -> ForgottenEncoder:
        """Take an encoder (its id, or a spec) out of the index, with its embeddings and its copy;
        the pictures stay. With ``dry_run`` nothing is removed.

        Raises :class:`~embedsearch.errors.EncoderMismatchError` where the index has no such
        encoder, and :class:`~embedsearch.errors.QueryError` where it has no other.
        """
        from embedsearch.indexing.forget import forget_encoder

        if dry_run:
            return forget_encoder(self._reader(), self.folder, encoder)
        with self._writer(wait_seconds) as ledger:
            return forget_encoder(ledger, self.folder, encoder)

    def verify(
        self, *, repair: bool = False, deep: bool = False, wait_seconds: float = 0.0
    ) -> list[Problem]:
        """Hold files, catalogue, vector index and encoders against each other.

        ``deep`` reads every file and every vector as well. ``repair`` mends what can be mended
        without reading pictures, and marks it so in the answer.
        """
        from embedsearch.indexing import verify

        problems = verify.check(self._reader(), self.folder, deep=deep)
        if not repair or not problems:
            return problems
        with self._writer(wait_seconds) as ledger:
            return verify.repair(ledger, self.folder, problems)
