from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pictures
import pytest
import xxhash
from PIL import Image

from embedsearch.errors import PictureError
from embedsearch.images.decode import decode
from embedsearch.images.files import LARGE_FILE, SAMPLE, content_hash, read


def test_a_file_is_read_whole_with_its_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"some bytes")
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    file = read(path)
    assert (file.data, file.size) == (b"some bytes", 10)
    assert file.mtime_ns == 1_600_000_000_123_456_789
    assert file.path == os.fsencode(path)
    assert file.open().read() == b"some bytes"


def test_the_hash_is_xxh3_of_the_content_and_of_nothing_else(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"some bytes")
        expected = xxhash.xxh3_128_hexdigest(b"some bytes")
        assert content_hash(read(tmp_path / name)) == expected
    assert len(expected) == 32


def large_file(path: Path, content: bytes = b"") -> Path:
    """A file that is too large to be held in memory; it takes no room on the disk."""
    path.write_bytes(content)
    os.truncate(path, LARGE_FILE + 1000)
    return path


@pytest.mark.parametrize("at", [0, SAMPLE - 1, LARGE_FILE // 2, LARGE_FILE + 999])
def test_a_large_file_is_hashed_by_size_and_three_samples(tmp_path: Path, at: int) -> None:
    path = large_file(tmp_path / "a.tif")
    before = read(path)
    assert before.data is None
    assert before.size == LARGE_FILE + 1000
    assert len(before.samples) == 3 * SAMPLE
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"x")
    assert content_hash(read(path)) != content_hash(before)
    os.truncate(path, LARGE_FILE + 1001)
    assert content_hash(read(path)) != content_hash(before)


def test_a_large_file_is_decoded_from_the_disk(tmp_path: Path) -> None:
    path = large_file(tmp_path / "a.bmp", pictures.encoded(pictures.quarters(), "BMP"))
    found = decode(read(path), 1000)
    assert np.array_equal(found.pixels, np.asarray(pictures.quarters()))


def test_a_large_file_that_is_gone_by_the_time_it_is_decoded_is_a_read_failure(
    tmp_path: Path,
) -> None:
    file = read(large_file(tmp_path / "a.bmp", pictures.encoded(pictures.quarters(), "BMP")))
    (tmp_path / "a.bmp").unlink()
    with pytest.raises(PictureError, match="not there") as refused:
        decode(file, 1000)
    assert refused.value.stage == "read"


def refusal(path: Path | bytes) -> str:
    with pytest.raises(PictureError) as refused:
        read(path)
    assert refused.value.stage == "read"
    return refused.value.reason


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "broken.jpg").symlink_to("gone.jpg")
    assert refusal(tmp_path / "empty.jpg") == "the file is empty (0 bytes)"
    assert refusal(tmp_path / "gone.jpg") == "it is not there (any more)"
    assert refusal(tmp_path / "broken.jpg") == "it is not there (any more)"
    assert refusal(tmp_path / "loop.jpg") == "the link leads in a circle"
    assert refusal(tmp_path) == "it is a folder, not a picture file"
    assert refusal(b"/dev/null") == "it is a device, not a picture file"
    assert refusal(tmp_path / ("x" * 300)) == "it cannot be read: file name too long"


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    started = time.monotonic()
    assert refusal(tmp_path / "pipe.jpg") == "it is a named pipe, not a picture file"
    assert time.monotonic() - started < 1


def test_a_file_that_may_not_be_read_is_refused() -> None:
    with pictures.folder_of_nobody() as folder:
        Image.new("RGB", (4, 4)).save(folder / "a.png")
        (folder / "a.png").chmod(0)
        assert refusal(folder / "a.png") == "permission denied"


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert read(tmp_path / "link.jpg").data == b"x"


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "growing.jpg"
    path.touch()
    os.truncate(path, 100_000_000)
    stop, changing = threading.Event(), threading.Event()

    def change() -> None:
        moment = 1
        while not stop.is_set():
            os.utime(path, ns=(moment, moment))
            moment += 1
            changing.set()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        assert changing.wait(10)
        assert "changed while it was being read" in refusal(path)
    finally:
        stop.set()
        thread.join()
