"""``index`` and ``verify``: the commands that bring an index up to date and keep it sound."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedsearch.commands import options
from embedsearch.commands.output import print_json, say_newer
from embedsearch.records import IndexReport, Stage

if TYPE_CHECKING:
    from embedsearch.index import Index

INTERRUPTED = 130


class CropChoice(StrEnum):
    box = "box"
    masked = "masked"


def index(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Pictures, and folders of them.")
    ] = None,
    stdin: Annotated[
        bool, typer.Option("-0", help="Read the paths from stdin, each ended by a NUL byte.")
    ] = False,
    folder: options.IndexFolder = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="SPEC",
            help="The encoder. Default: the one this index was made with, else mini.",
        ),
    ] = None,
    enrich: Annotated[
        str,
        typer.Option(
            "--enrich",
            metavar="none|all|ocr,detect,segment,track",
            help="What to find in the pictures, once they are embedded: words, objects, outlines, "
            "things that move through videos. A number after a stage is that of its threads: "
            "ocr:1,detect. Without PATH: in all pictures of the index.",
        ),
    ] = "none",
    ocr: Annotated[
        str | None, typer.Option("--ocr", metavar="SPEC", help="Who reads words.")
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="SPEC",
            help="Who finds objects, in pictures and to be followed through videos.",
        ),
    ] = None,
    segmenter: Annotated[
        str | None, typer.Option("--segmenter", metavar="SPEC", help="Who finds outlines.")
    ] = None,
    crop: Annotated[
        CropChoice,
        typer.Option("--crop", help="Embed all in the box of an object, or its own pixels."),
    ] = CropChoice.box,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="GLOB", help="Leave out what matches; may be repeated."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Read and encode every picture anew.")
    ] = False,
    re_encode: Annotated[
        bool,
        typer.Option(
            "--re-encode",
            help="Encode what is in the index with what the spec of its encoder names now (a newer "
            "mini), or with --encoder; queries use that from then on. No PATH.",
        ),
    ] = False,
    device: Annotated[
        options.DeviceChoice, typer.Option("--device", help="Where the encoder runs.")
    ] = options.DeviceChoice.auto,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Threads. Default: one a core."),
    ] = None,
    given_folder: Annotated[
        Path | None,
        typer.Option(
            "--from-clip-retrieval",
            metavar="FOLDER",
            help="Take pictures and embeddings from img_emb/ and metadata/ in this folder; "
            "--encoder names what made them.",
        ),
    ] = None,
    wait: options.Wait = 0.0,
    as_json: options.Json = False,
) -> None:
    """Index pictures, so that they can be found.

    Run it again whenever pictures were added, changed, moved or deleted: only what changed is
    read. Stopping it (Ctrl-C) keeps what is done; the next run goes on from there. Pictures that
    cannot be used are named at the end and by: embedsearch info. What --enrich finds is added after
    the embeddings, so that search works meanwhile; it is looked for once in each picture.

    \b
    Examples:
      embedsearch index ~/Pictures
      embedsearch index photos/ --index indexes/photos --exclude "*.gif"
      find /data -name "*.jpg" -print0 | embedsearch index -0
      embedsearch index ~/Pictures --encoder "mini?dim=64"
      embedsearch index ~/Pictures --enrich all
      embedsearch index --enrich ocr,detect
      embedsearch index --re-encode
      embedsearch index --from-clip-retrieval embeddings/ --encoder openclip:ViT-B-32/openai
    """
    given: list[str | bytes | os.PathLike[str]] = list(paths or [])
    if stdin:
        given += [path for path in sys.stdin.buffer.read().split(b"\0") if path]
    if given_folder is not None and (given or stdin or exclude or force):
        raise typer.BadParameter(
            "--from-clip-retrieval names the pictures itself: no PATH, -0, --exclude or --force."
        )
    if re_encode and (given or stdin or exclude or force or given_folder is not None):
        raise typer.BadParameter(
            "--re-encode is about all pictures of the index: no PATH, -0, --exclude, --force or "
            "--from-clip-retrieval."
        )
    wanted = enrich.strip() not in ("none", "")
    if not given and given_folder is None and not re_encode and not wanted:
        raise typer.BadParameter("Name at least one picture or folder, or give paths with -0.")
    if wanted:  # before pictures are read for minutes
        from embedsearch.indexing import staging

        staging.check(staging.parse(enrich))
    from embedsearch.commands.progress import bar
    from embedsearch.index import Index

    with _stop_on_signal() as stop, bar() as shown, Index(folder) as opened:
        shared: dict[str, Any] = {
            "encoder": encoder,
            "device": device.value,
            "workers": workers,
            "wait_seconds": wait,
            "progress": shown,
            "stop": stop,
        }
        if given_folder is not None:
            report = opened.add_embeddings(given_folder, **shared)
        elif re_encode:
            report = opened.re_encode(**shared)
        elif given:
            report = opened.add(*given, exclude=exclude or (), force=force, **shared)
        else:
            report = IndexReport()
        if wanted and not report.interrupted:
            specs: dict[Stage, str | None] = {
                "ocr": ocr,
                "detect": detector,
                "segment": segmenter,
                "track": None if detector is None else f"botsort?detector={detector}",
            }
            enriched = opened.enrich(enrich, *given, specs=specs, crop=crop.value, **shared)
            report = _joined(report, enriched)
    if as_json:
        print_json(asdict(report))
    else:
        from embedsearch.render.table import index_summary, show

        show(index_summary(report))
    if not report.interrupted:
        with Index(folder) as opened:
            if not re_encode:
                say_newer(opened, encoder)
            elif not report.warnings:
                _say_used(opened)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _joined(report: IndexReport, enriched: IndexReport) -> IndexReport:
    """What a run did to embeddings, and then found in the pictures."""
    failures = (*report.failures, *enriched.failures)
    known = {(one.path, one.stage): one for one in failures}
    return replace(
        report,
        failures=tuple(known.values()),
        failed=len({path for path, _ in known}),
        warnings=(*report.warnings, *enriched.warnings),
        stages=enriched.stages,
        interrupted=enriched.interrupted,
    )


def _say_used(index: Index) -> None:
    """Say which encoder queries use now, and how to let go of older weights of it."""
    used, *others = index.info().encoders
    print(f"Queries use {used.id} from now on.", file=sys.stderr)
    for older in others:
        if older.spec == used.spec:
            hint = f"embedsearch forget --encoder {older.id}"
            print(f"What {older.id} made is kept. To let it go: {hint}", file=sys.stderr)


@contextmanager
def _stop_on_signal() -> Iterator[Event]:
    """The first Ctrl-C (or SIGTERM) lets the batch under way finish; a second one does not."""
    stop = Event()

    def on_signal(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("\nStopping after the pictures under way. Again: stop at once.", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file and compare every vector too.")
    ] = False,
    folder: options.IndexFolder = None,
    wait: options.Wait = 0.0,
    as_json: options.Json = False,
) -> None:
    """Check files, catalogue, vector index and encoders against each other.

    Exits 1 where problems are left.

    \b
    Examples:
      embedsearch verify
      embedsearch verify --deep --repair
    """
    from embedsearch.index import Index

    with Index(folder) as opened:
        problems = opened.verify(repair=repair, deep=deep, wait_seconds=wait)
    if as_json:
        print_json({"problems": [asdict(problem) for problem in problems]})
    else:
        from embedsearch.render.table import problems_table, show

        show(problems_table(problems))
    if not all(problem.repaired for problem in problems):
        raise typer.Exit(1)
