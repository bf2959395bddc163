"""Encoding all that is in an index with another encoder, which is its first one then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from embedsearch.encoders.base import Encoder
from embedsearch.indexing.pipeline import Run
from embedsearch.indexing.progress import Progress, Silent
from embedsearch.records import IndexReport
from embedsearch.render.wording import counted
from embedsearch.store.coverage import lacking_count
from embedsearch.store.ledger import Ledger


def re_encode(
    ledger: Ledger,
    encoder: Encoder,
    index_folder: Path,
    *,
    version: str,
    workers: int = 1,
    progress: Progress | None = None,
    stop: Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> IndexReport:
    """Give every picture of the index that lacks one an embedding of ``encoder``, and make this
    the index's first encoder once none lacks it; the caller holds the index lock.

    Only pictures that the index knows are read, whatever else lies beside them. What other encoders
    made is kept. When ``stop`` is set, what is done is kept, and the next call goes on from there.
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
    known = ledger.encoder(encoder.info.id)
    if ledger.encoder() == known and not lacking_count(ledger, known):
        said = f"There is nothing to encode: the index is used with {encoder.info.id} already."
        return work.finish((said,), clock() - started)
    work.recall()
    try:
        work.read(workers)
    finally:
        work.sync()
    warnings: tuple[str, ...] = ()
    stored = ledger.encoder(encoder.info.id)
    lacking = lacking_count(ledger, stored)
    if not lacking:
        with ledger.transaction():
            ledger.make_first(stored)
    elif not (stop is not None and stop.is_set()):
        warnings = (_not_yet(ledger, encoder, lacking),)
    return work.finish(warnings, clock() - started)


def _not_yet(ledger: Ledger, encoder: Encoder, lacking: int) -> str:
    away = [os.fsdecode(root.path) for root in ledger.roots() if not os.path.isdir(root.path)]
    why = f" (not there: {', '.join(away)})" if away else ""
    return (
        f"{counted(lacking, 'picture')} could not be read{why}, so the index goes on using the "
        f"encoder it used. Run this again when they can be read, or take them out with "
        f"embedsearch forget; or name the new one when you search: --encoder {encoder.info.id}"
    )
