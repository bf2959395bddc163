"""``verify`` names what does not agree, and mends it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from embedsearch.index import Index
from embedsearch.records import Problem
from embedsearch.store.database import CATALOGUE


@pytest.fixture
def index(
    index_folder: Path, tmp_path: Path, png: Callable[..., Path], colour_package: Path
) -> Index:
    for name, colour in (("a.png", "red"), ("b.png", "green"), ("c.png", "blue")):
        png(tmp_path / "photos" / name, colour)
    with Index(index_folder) as index:
        index.add(tmp_path / "photos", encoder="colour")
        yield index


def vectors(index: Index) -> Path:
    (file,) = (index.folder / "vectors").iterdir()
    return file


def said(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.where, problem.what) for problem in problems]


def agrees_again(index: Index) -> None:
    assert index.verify(deep=True) == []
    assert {os.path.basename(hit.path) for hit in index.search("red", k=3)} == {
        "a.png", "b.png", "c.png",
    }  # fmt: skip


def test_a_sound_index_has_no_problems(index: Index) -> None:
    assert index.verify(deep=True) == []


def test_a_lost_vector_index_is_made_anew(index: Index) -> None:
    vectors(index).unlink()
    ((where, what),) = said(index.verify())
    assert where == "vectors"
    assert "is missing" in what
    assert all(problem.repaired for problem in index.verify(repair=True))
    agrees_again(index)


def test_a_vector_index_cut_short_is_made_anew(index: Index) -> None:
    file = vectors(index)
    file.write_bytes(file.read_bytes()[:-40])
    ((where, what),) = said(index.verify())
    assert (where, "is damaged" in what) == ("vectors", True)
    index.verify(repair=True)
    agrees_again(index)


def test_a_changed_row_is_found_by_a_deep_look_only(index: Index) -> None:
    file = vectors(index)
    data = bytearray(file.read_bytes())
    data[90:94] = b"\0\0\0\x40"
    file.write_bytes(bytes(data))
    assert index.verify() == []
    assert "1 rows that differ" in index.verify(deep=True)[0].what
    index.verify(deep=True, repair=True)
    agrees_again(index)


def test_files_that_went_or_changed_are_named_and_those_gone_marked(
    index: Index, tmp_path: Path, png: Callable[..., Path]
) -> None:
    (tmp_path / "photos/a.png").unlink()
    png(tmp_path / "photos/b.png", "white", (80, 80))
    problems = {os.path.basename(p.path or ""): p for p in index.verify(repair=True)}
    assert problems["a.png"].repaired
    assert not problems["b.png"].repaired
    assert "index again" in problems["b.png"].what
    assert "a.png" not in {os.path.basename(hit.path) for hit in index.search("red", k=3)}
    assert index.info().vanished == 1


def test_content_that_changed_behind_size_and_time_is_found_by_a_deep_look(
    index: Index, tmp_path: Path
) -> None:
    path = tmp_path / "photos/a.png"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 255
    path.write_bytes(bytes(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.verify() == []
    (problem,) = index.verify(deep=True)
    assert problem.path == str(path)
    assert "--force" in problem.what


def test_a_damaged_embedding_is_dropped_and_the_next_run_makes_it_anew(
    index: Index, tmp_path: Path
) -> None:
    index.close()
    database = sqlite3.connect(index.folder / CATALOGUE)
    database.execute("update embeddings set vector = zeroblob(98) where region_id = 2")
    database.commit()
    database.close()
    (problem,) = [p for p in index.verify(repair=True) if p.where == "catalogue"]
    assert os.path.basename(problem.path or "") == "b.png"
    assert problem.repaired
    report = index.add(tmp_path / "photos")
    assert (report.new, report.unchanged) == (1, 2)
    agrees_again(index)


def test_an_unplugged_folder_is_named_and_nothing_in_it_is_marked(
    index: Index, tmp_path: Path
) -> None:
    (tmp_path / "photos").rename(tmp_path / "unplugged")
    problems = index.verify(repair=True)
    assert [problem.what for problem in problems] == ["the indexed folder is not there"]
    assert index.info().vanished == 0


def test_a_run_makes_a_damaged_vector_index_anew(
    index: Index, tmp_path: Path, png: Callable[..., Path]
) -> None:
    file = vectors(index)
    data = bytearray(file.read_bytes())
    data[0:4] = b"what"
    file.write_bytes(bytes(data))
    png(tmp_path / "photos/d.png", "white")
    assert index.add(tmp_path / "photos").new == 1
    assert index.verify(deep=True) == []


def test_an_embedding_of_the_wrong_size_does_not_stop_a_deep_look(index: Index) -> None:
    index.close()
    database = sqlite3.connect(index.folder / CATALOGUE)
    database.execute("update embeddings set vector = x'00' where region_id = 1")
    database.commit()
    database.close()
    assert [problem.where for problem in index.verify(deep=True)] == ["catalogue"]


def test_an_unplugged_folder_is_not_taken_for_another_whose_name_it_begins_with(
    index: Index, tmp_path: Path, png: Callable[..., Path]
) -> None:
    png(tmp_path / "photos2/z.png", "white")
    index.add(tmp_path / "photos2")
    (tmp_path / "photos2").rename(tmp_path / "unplugged")
    problems = index.verify(repair=True)
    assert [problem.what for problem in problems] == ["the indexed folder is not there"]
    assert index.info().vanished == 0
