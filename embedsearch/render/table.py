"""Tables for a person at a terminal (rich). Import this module only where one is printed.

Every text that comes from a file name or a picture goes through
:func:`~embedsearch.render.names.printable`, so that no name can write to the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len, split_graphemes
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from embedsearch.records import (
    EnricherInfo,
    Failure,
    Hit,
    IndexInfo,
    IndexReport,
    Model,
    Problem,
    Signal,
    StageModel,
    StageReport,
    Trial,
)
from embedsearch.render.names import printable
from embedsearch.render.wording import clock, counted

FAILURES_SHOWN = 20
_ELLIPSIS = "…"
_SIGNAL_CELLS = 36
_PATH_CELLS = 16
"""A path column never gets narrower than this."""
_UNBOUNDED = 20_000
"""Wider than any path (4,096 bytes, each shown in at most four cells)."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the command to end as it ends without rich, which exits 1


class Shortened:
    """Text cut in its middle to the width that the table gives it; the folder part is dimmed."""

    def __init__(self, text: str) -> None:
        self.text = printable(text)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        cells = cell_len(self.text)
        return Measurement(min(cells, _PATH_CELLS), cells).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = Text(shorten_middle(self.text, options.max_width), no_wrap=True, overflow="crop")
        shown.stylize("dim", 0, shown.plain.rfind("/") + 1)
        yield shown


def shorten_middle(text: str, width: int) -> str:
    """``text`` in at most ``width`` terminal cells, an ellipsis for what its middle loses.

    The file name, from the last slash on, is kept whole where it fits. Clusters of characters
    that draw one glyph are never torn apart.
    """
    if cell_len(text) <= width:
        return text
    if width < 1:
        return ""
    glyphs = [(text[start:end], cells) for start, end, cells in split_graphemes(text)[0]]
    room = width - 1
    name_cells = cell_len(text[max(text.rfind("/"), 0) :])
    tail = _fitting(reversed(glyphs), name_cells if name_cells <= room else room * 2 // 3)
    head = _fitting(glyphs, room - sum(cells for _, cells in tail))
    return _joined(head) + _ELLIPSIS + _joined(reversed(tail))


def show(*renderables: RenderableType, file: TextIO | None = None) -> None:
    """Print to ``file`` (stdout by default), fitted to the terminal; nothing is cut in a pipe."""
    file = sys.stdout if file is None else file
    fitted = file.isatty() or "COLUMNS" in os.environ
    console = _Console(
        file=file,
        width=None if fitted else _UNBOUNDED,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(*renderables, sep="\n")


def hits_table(hits: Iterable[Hit]) -> Table:
    """One line a hit: rank, score (cosine), path, and what made it a hit."""
    table = _table("#", "score", "picture", "signal", right=("#", "score"))
    for hit in hits:
        table.add_row(
            Text(str(hit.rank), "dim"),
            f"{hit.score:.3f}",
            Shortened(hit.path),
            Text(_signals(hit.signals)),
        )
    return table


def index_summary(report: IndexReport) -> Group:
    """The counts of one ``index`` run, the first failures with their reasons, the warnings."""
    counts = Table.grid(padding=(0, 2))
    counts.add_column(justify="right")
    counts.add_column()
    for name in ("new", "changed", "moved", "copies", "unchanged", "vanished", "failed"):
        count: int = getattr(report, name)
        style = "dim" if not count else "bold red" if name == "failed" else "bold"
        counts.add_row(Text(f"{count:,}", style), Text(name, "dim" if not count else ""))
    parts: list[RenderableType] = []
    if report != IndexReport(stages=report.stages) or not report.stages:
        parts += [counts, Text(_pace(report), "dim")]
    if report.stages:
        parts += [*([Text()] if parts else []), stages_table(report.stages)]
    if report.failures:
        parts += [Text(), *_failures(report.failures, max(report.failed, len(report.failures)))]
    parts += [Text(f"Warning: {printable(warning)}", "yellow") for warning in report.warnings]
    if report.interrupted:
        parts.append(
            Text("Interrupted: what is done is kept; the same command goes on from there.", "bold")
        )
    return Group(*parts)


def stages_table(reports: Sequence[StageReport]) -> Table:
    """What each stage of enriching did in a run."""
    columns = ("stage", "pictures", "copied", "objects", "lines", "failed", "seconds", "with")
    table = _table(*columns, right=columns[1:-1])
    for one in reports:
        numbers = (one.looked_at, one.copied, one.objects, one.lines, one.failed)
        counts = [f"{number:,}" for number in numbers]
        table.add_row(one.stage, *counts, f"{one.seconds:.1f}", printable(one.enricher))
    return table


def info_panel(info: IndexInfo) -> Group:
    """What is in an index: its size, roots, encoders, last run and failures."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("index", Shortened(info.path))
    vanished = f" ({info.vanished:,} vanished)" if info.vanished else ""
    facts.add_row("pictures", f"{info.pictures:,}{vanished}")
    facts.add_row("regions", f"{info.regions:,}")
    facts.add_row("on disk", _size(info.bytes_on_disk))
    for position, root in enumerate(info.roots):
        facts.add_row("" if position else "folders", Shortened(root))
    used = info.encoders[0].id if len(info.encoders) > 1 else None
    for position, (encoder, count) in enumerate(sorted(info.embeddings.items())):
        told = f"{printable(encoder)}: {count:,} embeddings"
        told += ", used where none is named" if encoder == used else ""
        facts.add_row("" if position else "encoders", Text(told))
    for old, newer in sorted(info.newer.items()):
        facts.add_row(
            "newer",
            Text(
                f"{printable(newer)} is newer than {printable(old)}: embedsearch index --re-encode",
                "yellow",
            ),
        )
    for position, stage in enumerate(info.stages):
        told = f"{stage.stage}: {stage.pictures:,} pictures, "
        told += f"{stage.lines:,} lines" if stage.stage == "ocr" else f"{stage.objects:,} objects"
        told += f", {stage.failed:,} failed" if stage.failed else ""
        told += f" ({printable(stage.enricher)})"
        facts.add_row("" if position else "found", Text(told))
    if info.last_run is not None:
        facts.add_row("last run", Text(printable(_last_run(info.last_run))))
    parts: list[RenderableType] = [facts]
    if info.failures:
        parts += [Text(), *_failures(info.failures, len(info.failures))]
    return Group(*parts)


def problems_table(problems: Sequence[Problem]) -> RenderableType:
    """What ``verify`` found, or one line that says that all agree."""
    if not problems:
        return Text("No problems: files, catalogue, vectors and encoders agree.")
    table = _table("where", "problem", "picture", "state")
    for problem in problems:
        table.add_row(
            problem.where,
            Text(printable(problem.what)),
            Shortened(problem.path or ""),
            Text("repaired", "green") if problem.repaired else Text("open", "red"),
        )
    return table


def models_table(models: Iterable[Model]) -> Table:
    """The encoders one can name, with what each can do and costs."""
    return plain_table(
        ("spec", "id", "dim", "texts", "weights", "runs on", "where and what"),
        (
            (
                one.info.spec,
                one.info.id,
                one.info.dim,
                "yes" if one.info.has_text else "no",
                None if one.weight_bytes is None else _size(one.weight_bytes),
                one.runs_on,
                f"{_place(one)}; {one.info.input_size} px; {one.info.licence}; "
                f"{one.info.description}",
            )
            for one in models
        ),
    )


def stage_models_table(stages: Iterable[StageModel]) -> Table:
    """What the stages of ``index --enrich`` use, and what may be named instead."""
    return plain_table(
        ("--enrich", "uses", "weights", "which is", "or"),
        (
            (
                one.stage,
                one.spec,
                None if one.weight_bytes is None else _size(one.weight_bytes),
                f"cannot be had: {one.error}" if one.info is None else _kind(one.info),
                ", ".join(one.others),
            )
            for one in stages
        ),
    )


def _kind(info: EnricherInfo) -> str:
    labels = f"; {len(info.labels)} labels" if info.labels else ""
    return f"{info.description}{labels}; {info.licence}"


def trials_table(models: Iterable[Model]) -> Table:
    """What each encoder made of one photo: time, memory, nearest words."""
    return plain_table(
        ("spec", "a photo", "first", "memory", "runs on", "nearest words"),
        (
            (one.info.spec, *_trial(one.trial, one.runs_on))
            for one in models
            if one.trial is not None
        ),
    )


def _trial(trial: Trial, runs_on: str) -> tuple[str, ...]:
    if trial.error is not None:
        return ("", "", "", "", f"cannot be tried: {trial.error}")
    if trial.words is None:
        nearest = "knows pictures only, no words"
    else:
        nearest = ", ".join(f"{word} {score:.2f}" for word, score in trial.words)
    return (
        f"{trial.milliseconds:.1f} ms",
        f"{trial.load_seconds:.1f} s",
        _size(trial.peak_bytes),
        trial.runs_on or runs_on,
        nearest,
    )


def _place(model: Model) -> str:
    if model.where == "named":
        return "named"
    held = f"{model.embeddings:,} pictures" if model.embeddings else ""
    return ", ".join(filter(None, ("the box" if model.where == "box" else "the index", held)))


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Any rows under ``columns``; numbers stand to the right, ``None`` is left empty."""
    filled = [tuple(row) for row in rows]
    numeric = [
        name
        for position, name in enumerate(columns)
        if filled and all(isinstance(row[position], int | float | None) for row in filled)
    ]
    table = _table(*columns, right=numeric)
    for column in table.columns[:-1]:  # only the last may wrap: the others are for copying
        column.no_wrap = True
    for row in filled:
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    return table


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for name in columns:
        to_the_right = name in right
        table.add_column(name, justify="right" if to_the_right else "left", no_wrap=to_the_right)
    return table


def _failures(failures: Sequence[Failure], total: int) -> list[RenderableType]:
    table = _table("failed", "stage", "reason")
    for failure in failures[:FAILURES_SHOWN]:
        table.add_row(Shortened(failure.path), failure.stage, Text(printable(failure.reason)))
    parts: list[RenderableType] = [table]
    if total > FAILURES_SHOWN:
        left = total - min(FAILURES_SHOWN, len(failures))
        parts.append(Text(f"and {left:,} more: embedsearch info --json", "dim"))
    return parts


def _signals(signals: Sequence[Signal]) -> str:
    shown = ", ".join(_signal(signal) for signal in signals)
    return shorten_middle(printable(shown), _SIGNAL_CELLS)


def _signal(signal: Signal) -> str:
    what = signal.label if signal.text is None else f"“{signal.text}”"
    said = signal.kind if what is None else f"{signal.kind}: {what}"
    return said if signal.time is None else f"{said} at {clock(signal.time)}"


def _pace(report: IndexReport) -> str:
    encoded = report.new + report.changed
    rate = f", {encoded / report.seconds:,.0f} pictures/s" if encoded and report.seconds else ""
    derived = (
        f", {counted(report.derived, 'embedding')} from those in the index"
        if report.derived
        else ""
    )
    again = report.encoded - encoded  # known pictures that an encoder had not seen
    encoded_again = f", {counted(again, 'known picture')} encoded" if again > 0 else ""
    taken = f", {counted(report.taken, 'embedding')} as given" if report.taken else ""
    return f"{report.seconds:.1f} s{rate}{encoded_again}{derived}{taken}"


def _last_run(run: dict[str, Any]) -> str:
    """``run`` as the catalogue tells it: started_at, finished_at or None, version, counts."""
    ended = run["finished_at"] or "cut short"
    counts = (run["counts"] or {}).items()
    done = ", ".join(
        f"{count:,} {name}" for name, count in counts if isinstance(count, int) and count
    )
    return f"{run['started_at']} to {ended}" + (f": {done}" if done else "")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _fitting(glyphs: Iterable[tuple[str, int]], room: int) -> list[tuple[str, int]]:
    taken: list[tuple[str, int]] = []
    for text, cells in glyphs:
        room -= cells
        if room < 0:
            break
        taken.append((text, cells))
    return taken


def _joined(glyphs: Iterable[tuple[str, int]]) -> str:
    return "".join(text for text, _ in glyphs)
