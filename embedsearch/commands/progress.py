"""Progress bars, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Self

from embedsearch.indexing.progress import Progress, Silent

STAGES = {
    "ocr": "reading words",
    "detect": "finding objects",
    "segment": "finding outlines",
    "track": "following objects",
    "objects": "encoding objects",
}
"""What the bar says of a stage."""


def bar() -> AbstractContextManager[Progress]:
    """A bar where stderr is a terminal, else nothing (and rich is not even imported)."""
    return _Bar() if sys.stderr.isatty() else nullcontext(Silent())


@contextmanager
def step_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for work in steps: call what it gives with what is under way, how much of it is done,
    and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with RichProgress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task("reading", total=None)
        under_way = ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal under_way
            # One step alone has no telling how far it is: the bar only moves.
            length = total if total > 1 else None
            if what != under_way:
                under_way = what
                progress.reset(task, total=length, description=what)
            progress.update(task, completed=done)

        yield tell


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

    def stage(self, name: str, total: int) -> None:
        self._progress.reset(self._task, total=total, description=STAGES.get(name, name), rate="")

    def advance(self, done: int, failed: int) -> None:
        speed = self._progress.tasks[0].speed
        said = f"{speed:,.0f}/s" if speed else ""
        said += f", {failed:,} failed" if failed else ""
        self._progress.update(self._task, completed=done, rate=said)

    def writing(self) -> None:
        self._progress.update(self._task, description="writing the vector index")
