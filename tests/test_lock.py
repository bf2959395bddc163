"""The writer's lock, held by real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedsearch.errors import IndexLockedError, OutputError
from embedsearch.store.lock import index_lock

HOLDER = """
import sys
from pathlib import Path
from embedsearch.store.lock import index_lock
with index_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
Holder = subprocess.Popen[bytes]


@pytest.fixture
def hold(index_folder: Path) -> Iterator[Callable[..., Holder]]:
    """``hold(*words)``: another process takes the lock and keeps it until its stdin is closed."""
    started: list[Holder] = []

    def start(*words: str | bytes) -> Holder:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, index_folder, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        return holder

    yield start
    for holder in started:
        with holder:  # closes its pipes
            holder.kill()


def test_a_second_writer_is_told_which_process_holds_the_lock(
    index_folder: Path, hold: Callable[..., Holder]
) -> None:
    holder = hold("a word")
    with pytest.raises(IndexLockedError) as caught, index_lock(index_folder):
        raise AssertionError("two writers")
    assert f"process {holder.pid} on {os.uname().nodename} since " in str(caught.value)
    assert "a word)" in str(caught.value)
    assert str(index_folder) in str(caught.value)
    assert "--wait" in str(caught.value)


def test_without_waiting_the_answer_comes_at_once(
    index_folder: Path, hold: Callable[..., Holder]
) -> None:
    hold()
    begun = time.monotonic()
    with pytest.raises(IndexLockedError), index_lock(index_folder):
        pass
    assert time.monotonic() - begun < 0.15


def test_waiting_takes_the_lock_when_it_is_released(
    index_folder: Path, hold: Callable[..., Holder]
) -> None:
    holder = hold()
    assert holder.stdin is not None
    release = threading.Timer(0.5, holder.stdin.close)
    begun = time.monotonic()
    release.start()
    with index_lock(index_folder, wait_seconds=30):
        waited = time.monotonic() - begun
        assert f"process {os.getpid()} " in (index_folder / "index.lock").read_text()
    release.join()
    assert 0.4 < waited < 20


def test_waiting_ends_with_the_same_error(index_folder: Path, hold: Callable[..., Holder]) -> None:
    holder = hold()
    begun = time.monotonic()
    with (
        pytest.raises(IndexLockedError, match=f"process {holder.pid}"),
        index_lock(index_folder, wait_seconds=0.4),
    ):
        pass
    assert 0.4 <= time.monotonic() - begun < 5


def test_the_lock_ends_with_its_holder_however_it_ends(
    index_folder: Path, hold: Callable[..., Holder]
) -> None:
    holder = hold()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with index_lock(index_folder):
        told = (index_folder / "index.lock").read_text()
    assert str(holder.pid) not in told.split(" on ")[0], "what the dead process wrote is gone"


def test_a_holder_with_a_hostile_command_line_is_named_all_the_same(
    index_folder: Path, hold: Callable[..., Holder]
) -> None:
    holder = hold(b"\xff\xfe", "new\nline", "x" * 5000)
    with pytest.raises(IndexLockedError, match=f"process {holder.pid}") as caught:
        index_lock(index_folder).__enter__()
    assert len(str(caught.value)) < 1000


def test_one_process_cannot_take_the_lock_twice(index_folder: Path) -> None:
    with (
        index_lock(index_folder),
        pytest.raises(IndexLockedError, match=f"process {os.getpid()} "),
        index_lock(index_folder),
    ):
        pass


def test_the_lock_is_free_again_after_an_error(index_folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), index_lock(index_folder):
        1 / 0  # noqa: B018
    with index_lock(index_folder):
        pass


def test_a_released_lock_names_nobody(index_folder: Path) -> None:
    with index_lock(index_folder):
        assert (index_folder / "index.lock").stat().st_size > 0
    assert (index_folder / "index.lock").read_bytes() == b""


def test_a_process_that_the_holder_starts_does_not_inherit_the_lock(index_folder: Path) -> None:
    with index_lock(index_folder):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with index_lock(index_folder):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"gone cannot be written to .*--index DIR"),
        index_lock(tmp_path / "gone"),
    ):
        pass
