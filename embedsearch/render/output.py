"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from embedsearch.errors import OutputError


@contextmanager
def written_whole(out: Path) -> Iterator[BinaryIO]:
    """A binary file to write ``out`` through: renamed onto it at the end, removed on any error.

    What was at ``out`` stays until then. A link is followed; a pipe or a device, such as
    ``/dev/stdout``, is written to directly. Raises :class:`~embedsearch.errors.OutputError` where
    the file cannot be written.
    """
    target = Path(os.path.realpath(out))
    try:
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise OutputError(f"{out} is a folder; name a file to write.")
            with target.open("wb") as stream:
                yield stream
            return
        yield from _renamed_into(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"Cannot write {out}: {reason}. Name a file in a folder that exists and is yours."
        ) from error


def _renamed_into(target: Path) -> Iterator[BinaryIO]:
    # A short name of its own: beside a name of 255 bytes there is no room for a suffix.
    partial = target.with_name(f".embedsearch-{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
