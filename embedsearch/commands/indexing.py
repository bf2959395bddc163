"""``index``, ``forget``, ``verify``: the commands that write."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedsearch.commands import options
from embedsearch.commands.output import html_file, print_json, say_newer, show_gallery
from embedsearch.errors import EmbedSearchError

if TYPE_CHECKING:
    from embedsearch.index import Index

INTERRUPTED = 130
SHOWN = 2000
"""Pictures on the page of those to be forgotten; a browser shows these within seconds."""


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
            metavar="none|all|ocr,detect,segment",
            help="What to find in the pictures beside their embedding.",
        ),
    ] = "none",
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
    cannot be used are named at the end and by: embedsearch info.

    \b
    Examples:
      embedsearch index ~/Pictures
      embedsearch index photos/ --index indexes/photos --exclude "*.gif"
      find /data -name "*.jpg" -print0 | embedsearch index -0
      embedsearch index ~/Pictures --encoder "mini?dim=64"
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
    if not given and given_folder is None and not re_encode:
        raise typer.BadParameter("Name at least one picture or folder, or give paths with -0.")
    if enrich != "none":
        raise EmbedSearchError(
            f"--enrich {enrich}: this version has no detector, segmenter or OCR yet; "
            "leave the option out, or say --enrich none."
        )
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
        else:
            report = opened.add(*given, exclude=exclude or (), force=force, **shared)
    if as_json:
        print_json(asdict(report))
    else:
        from embedsearch.render.table import index_summary, show

        show(index_summary(report))
    if not report.interrupted and not re_encode:
        with Index(folder) as opened:
            say_newer(opened, encoder)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


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


def forget(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Pictures and folders to remove; without any, pictures that vanished.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them.")] = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="SPEC",
            help="Instead of pictures, remove this encoder (its id is best) and its embeddings.",
        ),
    ] = None,
    folder: options.IndexFolder = None,
    wait: options.Wait = 0.0,
    as_json: options.Json = False,
    html: options.Html = None,
    open_html: options.OpenHtml = False,
) -> None:
    """Remove pictures from the index (never from the disk), or an encoder and its embeddings.

    Says what it would remove; --yes removes it. With --html you can look at pictures before.

    \b
    Examples:
      embedsearch forget
      embedsearch forget --yes
      embedsearch forget ~/Pictures/old --html old.html
      embedsearch forget ~/Pictures/old --yes
      embedsearch forget --encoder mini-5b2f0c9d1e7a
    """
    html_file(html, open_html)
    from embedsearch.index import Index

    if encoder is not None:
        if paths or html is not None:
            raise typer.BadParameter("--encoder removes no pictures: no PATH, no --html.")
        _forget_encoder(folder, encoder, yes, wait, as_json)
        return

    with Index(folder) as opened:
        if html is not None:
            _write_gallery(opened, opened.forget(*(paths or []), dry_run=True), html)
        found = opened.forget(*(paths or []), dry_run=not yes, wait_seconds=wait)
    if html is not None:
        show_gallery(html, open_html)
    if as_json:
        print_json({"removed": yes, "pictures": found})
        return
    from embedsearch.render.table import plain_table, show
    from embedsearch.render.wording import counted

    if found:
        show(plain_table(["removed" if yes else "would be removed"], [[path] for path in found]))
    done = "Removed" if yes else "Would remove"
    hint = "" if yes or not found else " To remove: add --yes"
    print(f"{done} {counted(len(found), 'picture')} from the index.{hint}", file=sys.stderr)


def _forget_encoder(
    folder: Path | None, encoder: str, yes: bool, wait: float, as_json: bool
) -> None:
    from embedsearch.index import Index
    from embedsearch.render.wording import counted

    with Index(folder) as opened:
        told = opened.forget_encoder(encoder, dry_run=not yes, wait_seconds=wait)
    if as_json:
        print_json({"removed": yes, **asdict(told)})
        return
    what = f"{told.encoder} and its {counted(told.embeddings, 'embedding')}"
    if told.clusters:
        what += ", and the clusters made of them,"
    if told.last_of:
        print(
            f"No other encoder has embeddings of {counted(told.last_of, 'picture')}: they are not "
            "found until embedsearch index has read them again.",
            file=sys.stderr,
        )
    hint = "" if yes else " To remove: add --yes"
    print(f"{'Removed' if yes else 'Would remove'} {what} from the index.{hint}", file=sys.stderr)


def _write_gallery(index: Index, found: list[str], out: Path) -> None:
    """Pictures to be removed; of those that are gone, what was kept of them."""
    from embedsearch.render.gallery import Card, write_gallery
    from embedsearch.render.wording import counted

    shown = found[:SHOWN]
    looks, sizes = index.last_looks(shown), index.sizes(shown)
    unknown = (0, 0)
    cards = [
        Card(
            path=path,
            rank=rank,
            thumbnail=looks[path],
            width=sizes.get(path, unknown)[0],
            height=sizes.get(path, unknown)[1],
        )
        for rank, path in enumerate(shown, 1)
    ]
    said = f"{counted(len(found), 'picture')} of the index; the files are left alone"
    if len(found) > SHOWN:
        said += f"; the first {SHOWN:,} are shown"
    write_gallery(out, cards, title="To be forgotten", query_summary=f"{said}.")


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
