"""What a run tells while it is at work. The command line draws it; libraries may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the thread that runs the indexing."""

    def scanned(self, files: int) -> None:
        """So many picture files were found so far."""

    def begin(self, total: int) -> None:
        """So many pictures will be looked at."""

    def stage(self, name: str, total: int) -> None:
        """A stage of enriching begins, which will look at so many pictures."""

    def advance(self, done: int, failed: int) -> None:
        """So many of them are done by now, and so many of these cannot be used."""

    def writing(self) -> None:
        """The vector index is being written."""


class Silent:
    """Shows nothing."""

    def scanned(self, files: int) -> None: ...

    def begin(self, total: int) -> None: ...

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, done: int, failed: int) -> None: ...

    def writing(self) -> None: ...
