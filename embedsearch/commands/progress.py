"""The progress bar of ``index``, on stderr."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from embedsearch.indexing.progress import Progress, Silent


def bar() -> AbstractContextManager[Progress]:
    """A bar where stderr is a terminal, else nothing (and rich is not even imported)."""
    return _Bar() if sys.stderr.isatty() else nullcontext(Silent())


class _Bar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("scanning", total=None, rate="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def scanned(self, files: int) -> None:
        self._progress.update(self._task, description=f"scanning: {files:,} pictures")

    def begin(self, total: int) -> None:
        self._progress.reset(self._task, total=total, description="indexing", rate="")

    def advance(self, done: int, failed: int) -> None:
        speed = self._progress.tasks[0].speed
        said = f"{speed:,.0f}/s" if speed else ""
        said += f", {failed:,} failed" if failed else ""
        self._progress.update(self._task, completed=done, rate=said)

    def writing(self) -> None:
        self._progress.update(self._task, description="writing the vector index")
