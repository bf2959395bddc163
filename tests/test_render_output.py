"""An output file appears whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from embedsearch.errors import OutputError
from embedsearch.render.output import written_whole


def test_a_file_is_not_there_before_it_is_whole_and_leaves_nothing_beside_it(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.bin"
    with written_whole(out) as stream:
        stream.write(b"all of it")
        assert not out.exists()
    assert out.read_bytes() == b"all of it"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "out.bin"
    out.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), written_whole(out) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert out.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with written_whole(tmp_path / "out.bin") as stream:
            stream.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out.bin").stat().st_mode) == 0o640


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    out = tmp_path / ("n" * 255)
    with written_whole(out) as stream:
        stream.write(b"x")
    assert out.read_bytes() == b"x"


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "target.bin").write_bytes(b"old")
    link = tmp_path / "link.bin"
    link.symlink_to("target.bin")
    with written_whole(link) as stream:
        stream.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "target.bin").read_bytes() == b"new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with written_whole(pipe) as stream:
            stream.write(b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_that_is_not_there_is_a_named_failure(tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "out.bin"
    message = r"Cannot write .*nowhere/out\.bin: No such file"
    with pytest.raises(OutputError, match=message), written_whole(out):
        pass


def test_a_folder_and_a_file_used_as_a_folder_are_named_failures(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file"), written_whole(tmp_path):
        pass
    (tmp_path / "file").write_bytes(b"")
    inside = tmp_path / "file" / "out.bin"
    with pytest.raises(OutputError, match="Not a directory"), written_whole(inside):
        pass
