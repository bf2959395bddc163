"""The stages of enriching that were asked for, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from embedsearch.encoders.base import Encoder
from embedsearch.enrichers import registry
from embedsearch.enrichers.base import Enricher
from embedsearch.enrichers.track import Tracking
from embedsearch.errors import EnricherError, MissingExtraError
from embedsearch.indexing.crops import Crop
from embedsearch.indexing.enrich import StageRun
from embedsearch.indexing.progress import Progress
from embedsearch.indexing.reading import ReadingRun
from embedsearch.indexing.tracks import TrackRun
from embedsearch.records import Stage, StageReport
from embedsearch.settings import Device
from embedsearch.store.findings import FOR_BOTH, FOR_VIDEOS, pictures_for
from embedsearch.store.ledger import Ledger

ALL = "all"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Wish:
    """A stage that is asked for."""

    stage: Stage
    spec: str | None = None
    """Who looks; None: the one in the box."""
    workers: int | None = None
    """Threads; None: as many as for everything else."""
    optional: bool = False
    """Whether it may be left out, with a warning, where an optional library is missing."""


def parse(text: str, specs: dict[Stage, str | None] | None = None) -> tuple[Wish, ...]:
    """What ``--enrich`` says: ``none``, ``all``, or stages parted by commas, each with the number
    of its threads after a colon where it has its own: ``ocr:1,detect``.

    ``specs`` names who looks. Raises :class:`~embedsearch.errors.EnricherError`.
    """
    specs = specs or {}
    asked = text.strip()
    if asked == ALL:
        return tuple(Wish(stage, specs.get(stage), optional=True) for stage in registry.DEFAULTS)
    wishes = []
    for part in [] if asked in (NONE, "") else asked.split(","):
        name, colon, threads = part.strip().partition(":")
        stage = next((one for one in registry.STAGES if one == name), None)
        if stage is None or (colon and not (threads.isdecimal() and int(threads))):
            raise EnricherError(
                f"--enrich {text}: {part.strip()!r} is not understood. Say none, all, or some of "
                f"{', '.join(registry.STAGES)}, parted by commas; with a number of threads where "
                "one has its own: ocr:1,detect"
            )
        wishes.append(Wish(stage, specs.get(stage), int(threads) if colon else None))
    return tuple(wishes)


def run_stages(
    ledger: Ledger,
    encoder: Encoder,
    index_folder: Path,
    wishes: Sequence[Wish],
    paths: Sequence[bytes] | None,
    *,
    version: str,
    crop: Crop,
    device: Device,
    workers: int,
    progress: Progress,
    stop: Event,
) -> tuple[tuple[StageReport, ...], tuple[str, ...]]:
    """Run stages over the pictures at or under ``paths``, or all of the index. Returns what each
    did, and warnings.

    Raises :class:`~embedsearch.errors.EnricherError` where one cannot be loaded, and
    :class:`~embedsearch.errors.MissingExtraError`, before any picture is looked at.
    """
    loaded = []
    warnings = []
    for wish in wishes:
        if wish.stage in FOR_VIDEOS and not pictures_for(ledger, wish.stage):
            continue
        try:
            loaded.append((wish, registry.load(wish.stage, wish.spec, device, encoder)))
        except MissingExtraError as error:
            if not wish.optional:
                raise
            warnings.append(f"--enrich {wish.stage} was left out: {error}")
    with ledger.transaction():
        run_id = ledger.start_run(version)
    reports: list[StageReport] = []
    for wish, enricher in loaded:
        if stop.is_set():
            break
        kind = _kind_of(enricher)
        stage = kind(
            ledger,
            encoder,
            index_folder,
            enricher,
            crop=crop,
            run_id=run_id,
            progress=progress,
            stop=stop,
        )
        reports.append(stage.run(wish.workers or workers, paths))
    counts = {
        f"{report.stage}_{name}": getattr(report, name)
        for report in reports
        for name in ("looked_at", "copied", "objects", "lines", "failed")
    }
    with ledger.transaction():
        ledger.finish_run(run_id, {**counts, "interrupted": stop.is_set()})
    return tuple(reports), tuple(warnings)


def _kind_of(enricher: Enricher) -> type[StageRun]:
    if isinstance(enricher, Tracking):
        return TrackRun
    return ReadingRun if enricher.info.stage in FOR_BOTH else StageRun


def check(wishes: Sequence[Wish]) -> None:
    """Raises :class:`~embedsearch.errors.EnricherError` for a stage that nobody does here."""
    for wish in wishes:
        if wish.spec is None and wish.stage not in registry.DEFAULTS:
            raise EnricherError(f"There is nothing for --enrich {wish.stage} in this version.")
