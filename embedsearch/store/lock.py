"""One writer an index: an advisory lock that tells who holds it."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from embedsearch.errors import IndexLockedError, OutputError

POLL_SECONDS = 0.2


@contextmanager
def index_lock(folder: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold ``folder/index.lock`` exclusively; the lock ends with the process, however it ends.

    Waits up to ``wait_seconds`` for another writer, then raises :class:`IndexLockedError`, which
    names the process that holds it. Raises :class:`OutputError` where ``folder`` cannot be written.
    """
    path = folder / "index.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(
            f"The index at {folder} cannot be written to ({error.strerror}). Give yourself the "
            "right to, or name another place: --index DIR"
        ) from error
    try:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
                raise IndexLockedError(
                    f"{folder} is being written by {holder or 'another process'}. Wait for it to "
                    "finish, or let this command wait: --wait SECONDS"
                )
            time.sleep(POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _myself().encode(errors="replace"), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _myself() -> str:
    command = " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:]])[:200]
    started = datetime.now().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {started} ({command})"
