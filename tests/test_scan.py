from __future__ import annotations

import os
import socket
import sys
import tracemalloc
from pathlib import Path

import pictures
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedsearch.errors import DataError
from embedsearch.images.scan import EXTENSIONS, ScannedFile, scan


def touch(path: Path | str, content: bytes = b"x") -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class Scanned:
    """What a scan gave: the files, and the failures by relative path."""

    def __init__(self, root: Path, **options: object) -> None:
        failures: list[tuple[bytes, str]] = []
        self.files = list(
            scan(
                os.fsencode(root),
                on_failure=lambda path, reason: failures.append((path, reason)),
                **options,  # type: ignore[arg-type]
            )
        )
        self.paths = [os.fsdecode(file.path) for file in self.files]
        self.failures = {os.path.relpath(os.fsdecode(path), root): why for path, why in failures}


def test_picture_files_are_found_at_any_depth_with_their_size_and_time(tmp_path: Path) -> None:
    touch(tmp_path / "b.PNG", b"12345")
    touch(tmp_path / "a.jpg")
    touch(tmp_path / "notes.txt")
    touch(tmp_path / "jpg")
    touch(tmp_path / "deep" / "er" / "c.Heic")
    os.utime(tmp_path / "a.jpg", ns=(7, 1_234_567_890_123_456_789))
    found = Scanned(tmp_path)
    assert found.paths == ["a.jpg", "b.PNG", "deep/er/c.Heic"]
    assert found.files[0] == ScannedFile(b"a.jpg", 1, 1_234_567_890_123_456_789)
    assert found.files[1].size == 5
    assert found.failures == {}


def test_every_extension_is_found_in_any_case(tmp_path: Path) -> None:
    for extension in EXTENSIONS:
        touch(tmp_path / f"a.{extension.decode()}")
        touch(tmp_path / f"b.{extension.decode().upper()}")
    assert len(Scanned(tmp_path).paths) == 2 * len(EXTENSIONS)
    named = b"jpg jpeg jpe jfif png webp gif bmp dib tif tiff avif heic heif hif mpo"
    assert set(named.split()) <= EXTENSIONS


def test_the_order_is_the_same_every_time_and_sorted_within_a_folder(tmp_path: Path) -> None:
    for name in ("z.jpg", "a.jpg", "m/2.jpg", "m/10.jpg", "b/x.jpg", "m/a/y.jpg"):
        touch(tmp_path / name)
    expected = ["a.jpg", "z.jpg", "b/x.jpg", "m/10.jpg", "m/2.jpg", "m/a/y.jpg"]
    assert Scanned(tmp_path).paths == expected
    assert Scanned(tmp_path).paths == expected


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / ".hidden.jpg")
    touch(tmp_path / "._resource fork.jpg")
    touch(tmp_path / ".thumbnails" / "a.jpg")
    touch(tmp_path / "seen.jpg")
    assert Scanned(tmp_path).paths == ["seen.jpg"]


def test_a_hidden_folder_that_is_named_itself_is_scanned(tmp_path: Path) -> None:
    touch(tmp_path / ".photos" / "a.jpg")
    assert Scanned(tmp_path / ".photos").paths == ["a.jpg"]


def test_indexes_and_folders_to_skip_are_never_entered(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    touch(tmp_path / "someone's index" / "catalogue.db")
    touch(tmp_path / "someone's index" / "index.lock")
    touch(tmp_path / "someone's index" / "cover.jpg")
    touch(tmp_path / "someone's index" / "thumbnails" / "t.jpg")
    touch(tmp_path / "half an index" / "catalogue.db")
    touch(tmp_path / "half an index" / "b.jpg")
    touch(tmp_path / "my index" / "thumbnails" / "t.jpg")
    (tmp_path / "link to my index").symlink_to("my index")
    skip = {os.fsencode(tmp_path / "my index"), b"/there/is/no/such/folder"}
    assert Scanned(tmp_path, skip=skip).paths == ["a.jpg", "half an index/b.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        b"new\nline.jpg",
        b"quotes ' \" `.jpg",
        "emoji \N{DOG FACE} é.jpg".encode(),
        b"not utf-8 \xff\xfe.jpg",
        b"back\\slash.jpg",
        b" .jpg",
        b"-rf.jpg",
        b"%s %d.jpg",
    ],
)
def test_strange_names_come_back_byte_for_byte(name: bytes, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/folder of " + name
    os.mkdir(folder)
    touch(os.fsdecode(folder + b"/" + name), b"123")
    (found,) = Scanned(tmp_path).files
    assert found.path == b"folder of " + name + b"/" + name
    assert os.stat(os.fsencode(tmp_path) + b"/" + found.path).st_size == found.size == 3


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sets(
        st.lists(
            st.binary(min_size=1, max_size=12).filter(
                lambda name: not {0, ord("/")} & set(name) and not name.startswith(b".")
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
        max_size=12,
    )
)
def test_any_tree_of_any_names_is_found_whole(
    tmp_path_factory: pytest.TempPathFactory, tree: set[tuple[bytes, ...]]
) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("tree"))
    expected = set()
    for parts in tree:
        folder = b"/".join((root, *(part + b"_" for part in parts[:-1])))
        path = folder + b"/" + parts[-1] + b".jpg"
        touch(os.fsdecode(path))
        expected.add(path[len(root) + 1 :])
    found = Scanned(Path(os.fsdecode(root)))
    assert len(found.files) == len(expected)
    assert {file.path for file in found.files} == expected
    assert found.failures == {}


# Links


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "outside" / "real.jpg", b"12345")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.jpg").symlink_to("../outside/real.jpg")
    (found,) = Scanned(tmp_path / "in").files
    assert (found.path, found.size) == (b"link.jpg", 5)


def test_links_that_lead_nowhere_or_in_a_circle_are_reported_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "good.jpg")
    (tmp_path / "broken.jpg").symlink_to("gone.jpg")
    (tmp_path / "broken folder").symlink_to("/there/is/no/such/folder")
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    found = Scanned(tmp_path)
    assert found.paths == ["good.jpg"]
    assert found.failures == {
        "broken.jpg": "the link leads nowhere: what it names is not there",
        "broken folder": "the link leads nowhere: what it names is not there",
        "a.jpg": "the link leads in a circle",
        "b.jpg": "the link leads in a circle",
    }


def test_loops_of_folders_end_and_nothing_is_found_twice(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg")
    touch(tmp_path / "a" / "b" / "2.jpg")
    (tmp_path / "a" / "b" / "to root").symlink_to(tmp_path)
    (tmp_path / "a" / "b" / "to itself").symlink_to(".")
    (tmp_path / "a" / "b" / "loop.jpg").symlink_to("..")
    (tmp_path / "0 to a").symlink_to("a")
    found = Scanned(tmp_path)
    assert found.paths == ["a/1.jpg", "a/b/2.jpg"]
    assert found.failures == {}


def test_a_folder_reached_by_two_links_is_found_once(tmp_path: Path) -> None:
    touch(tmp_path / "outside" / "deep" / "1.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").symlink_to("../outside")
    (tmp_path / "in" / "y").symlink_to("../outside")
    (tmp_path / "in" / "z").symlink_to("../outside/deep")
    assert Scanned(tmp_path / "in").paths == ["x/deep/1.jpg"]


def test_a_link_as_root_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "1.jpg")
    (tmp_path / "link").symlink_to("real")
    assert Scanned(tmp_path / "link").paths == ["1.jpg"]


# What cannot be seen


def test_a_folder_that_may_not_be_read_is_reported_and_the_walk_goes_on() -> None:
    with pictures.folder_of_nobody() as folder:
        touch(folder / "a" / "1.jpg")
        touch(folder / "locked" / "2.jpg")
        touch(folder / "z" / "3.jpg")
        (folder / "locked").chmod(0)
        found = Scanned(folder)
    assert found.paths == ["a/1.jpg", "z/3.jpg"]
    assert found.failures == {"locked": "permission denied"}


def test_files_of_a_folder_that_may_only_be_listed_are_reported_one_by_one() -> None:
    with pictures.folder_of_nobody() as folder:
        touch(folder / "listed" / "1.jpg")
        touch(folder / "listed" / "2.jpg")
        (folder / "listed").chmod(0o400)
        found = Scanned(folder)
        (folder / "listed").chmod(0o700)
    assert found.paths == []
    assert found.failures == {
        "listed/1.jpg": "permission denied",
        "listed/2.jpg": "permission denied",
    }


def test_pipes_and_sockets_are_reported_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    here = Path.cwd()
    os.chdir(tmp_path)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.png")
            found = Scanned(tmp_path)
    finally:
        os.chdir(here)
    assert found.paths == []
    assert found.failures == {
        "pipe.jpg": "it is a named pipe, not a picture file",
        "socket.png": "it is a socket, not a picture file",
    }


def test_a_folder_with_the_name_of_a_picture_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "album.jpg" / "1.jpg")
    touch(tmp_path / "b.jpg")
    assert Scanned(tmp_path).paths == ["b.jpg", "album.jpg/1.jpg"]


def test_a_root_that_is_missing_is_reported_by_name(tmp_path: Path) -> None:
    found = Scanned(tmp_path / "gone")
    assert found.paths == []
    assert found.failures == {".": "it is not there (any more)"}


def test_what_vanishes_in_the_middle_of_a_scan_is_left_out(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg", "sub/4.jpg"):
        touch(tmp_path / name)
    failures: list[bytes] = []
    files = scan(os.fsencode(tmp_path), on_failure=lambda path, reason: failures.append(path))
    assert next(files).path == b"1.jpg"
    (tmp_path / "2.jpg").unlink()
    assert [file.path for file in files] == [b"3.jpg", b"sub/4.jpg"]
    assert failures == []


def test_descriptors_are_closed_when_a_scan_is_left_in_the_middle(tmp_path: Path) -> None:
    touch(tmp_path / "1.jpg")
    touch(tmp_path / "2.jpg")
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        files = scan(os.fsencode(tmp_path), on_failure=print)
        next(files)
        files.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/dev/fd")) == before


# A file as root


def test_a_file_that_is_named_itself_is_taken_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path / ".odd.name", b"12345")
    (found,) = Scanned(tmp_path / ".odd.name").files
    assert (found.path, found.size) == (b".odd.name", 5)


def test_a_pipe_that_is_named_itself_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = Scanned(tmp_path / "pipe")
    assert found.files == []
    assert found.failures == {".": "it is a named pipe, not a picture file"}


# Exclude


def test_excluded_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a.gif", "a.jpg", "raw/b.jpg", "2019/raw/c.jpg", "2019/d.jpg", "x/raw"):
        touch(tmp_path / name)
    os.symlink("raw", tmp_path / "link")
    exclude = ["*.gif", "raw/", "link"]
    assert Scanned(tmp_path, exclude=exclude).paths == ["a.jpg", "2019/d.jpg"]


def test_an_excluded_index_stays_an_index(tmp_path: Path) -> None:
    touch(tmp_path / "index" / "catalogue.db")
    touch(tmp_path / "index" / "index.lock")
    touch(tmp_path / "index" / "a.jpg")
    assert Scanned(tmp_path, exclude=["*.db", "*.lock"]).paths == []


def test_a_bad_pattern_is_told_before_anything_is_scanned(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        Scanned(tmp_path / "gone", exclude=["!x"])


# Scale


def test_a_folder_of_many_files_takes_little_memory(tmp_path: Path) -> None:
    for number in range(5_000):
        os.close(os.open(tmp_path / f"IMG_{number:06}.jpg", os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()
    count = sum(1 for _ in scan(os.fsencode(tmp_path), on_failure=print))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000
    assert peak / count < 120  # bytes a file: little more than its name


def test_a_very_deep_tree_is_walked_without_recursion(tmp_path: Path) -> None:
    depth = 400
    assert depth < sys.getrecursionlimit()
    here = tmp_path
    for _ in range(depth):
        here = here / "d"
    touch(here / "1.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        found = Scanned(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert found.paths == ["d/" * depth + "1.jpg"]
