"""The vector index file through FAISS: what is written is found, changed, and never half there."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nearest import Rows, nearest, some_of, some_rows, whole_query

from embedsearch.errors import IndexFormatError, OutputError
from embedsearch.store import vector_writer, vectors
from embedsearch.store.vector_file import TRAILER, Ids, Matrix, VectorFile, open_vector_file
from embedsearch.store.vectors import FaissSearcher

REVISION = "0123456789abcdef"
NONE = np.empty(0, np.int64)


def write(path: Path, rows: Rows, *, removed: Ids = NONE, revision: str = REVISION) -> None:
    chunks = [(rows.ids[:100], rows.vectors[:100]), (rows.ids[100:], rows.vectors[100:])]
    vector_writer.write(path, dim=rows.dim, revision=revision, added=chunks, removed=removed)


def opened(path: Path) -> VectorFile:
    file = open_vector_file(path)
    assert file is not None
    return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors" / "colour-0123456789ab.faiss"


@pytest.fixture
def rows() -> Rows:
    return Rows(np.array([7, 3, 12]), np.eye(3, 4, dtype=np.float32))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), rows=some_rows(), seed=st.integers(0, 99))
def test_faiss_and_the_scan_find_what_comparing_every_row_finds(
    path: Path, data: st.DataObject, rows: Rows, seed: int
) -> None:
    path.unlink(missing_ok=True)
    write(path, rows)
    query = whole_query(rows.dim, seed)
    n = len(rows.ids)
    k = data.draw(st.one_of(st.integers(1, n + 3), st.just(10**6)), "k")
    allowed = data.draw(st.none() | some_of(rows.ids), "allowed")
    excluded = data.draw(st.none() | some_of(rows.ids), "excluded")
    wanted_ids, wanted_scores = nearest(rows, query, k, allowed, excluded)
    with closing(opened(path)) as file:
        ids, scores = FaissSearcher(file).search(query, k, allowed=allowed, excluded=excluded)
        assert ids.tolist() == wanted_ids
        assert scores.tolist() == wanted_scores
        assert (ids.dtype.name, scores.dtype.name) == ("int64", "float32")
        assert file.ids().tolist() == rows.ids.tolist()
        assert file.scores(query).tolist() == (rows.vectors @ query).tolist()


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), rows=some_rows())
def test_a_file_that_was_changed_holds_what_a_fresh_one_holds(
    path: Path, data: st.DataObject, rows: Rows
) -> None:
    path.unlink(missing_ok=True)
    cut = data.draw(st.integers(0, len(rows.ids)), "rows written first")
    write(path, Rows(rows.ids[:cut], rows.vectors[:cut]))
    removed = np.intersect1d(data.draw(some_of(rows.ids[:cut]), "removed"), rows.ids[:cut])
    write(path, Rows(rows.ids[cut:], rows.vectors[cut:]), removed=removed, revision="f" * 16)
    left = ~np.isin(rows.ids, removed)
    with closing(opened(path)) as file:
        ids, found = vectors.read_rows(file)
        assert file.trailer.revision == "f" * 16
    assert ids.tolist() == rows.ids[left].tolist()
    assert np.array_equal(found, rows.vectors[left])


@pytest.mark.parametrize("flags", [0, faiss.IO_FLAG_MMAP_IFC])
def test_faiss_itself_reads_our_files(path: Path, rows: Rows, flags: int) -> None:
    write(path, rows)
    index = faiss.read_index(os.fspath(path), flags)
    assert (index.ntotal, index.d, index.metric_type) == (3, 4, faiss.METRIC_INNER_PRODUCT)
    scores, ids = index.search(rows.vectors[1:2], 1)
    assert (ids.tolist(), scores.tolist()) == ([[3]], [[1.0]])


def test_an_index_without_rows_can_be_written_and_searched(path: Path) -> None:
    write(path, Rows(NONE, np.empty((0, 4), np.float32)))
    with closing(opened(path)) as file:
        assert (file.trailer.count, file.trailer.dim) == (0, 4)
        ids, scores = FaissSearcher(file).search(np.ones(4, np.float32), 5)
        assert (len(ids), len(scores)) == (0, 0)
        assert vectors.read_rows(file)[1].shape == (0, 4)


def test_of_a_thousand_copies_the_lowest_ids_are_chosen(path: Path) -> None:
    """As many equal scores as FAISS never keeps in order: by default it takes any."""
    ids = np.random.default_rng(0).permutation(np.arange(1, 1001))
    vector = np.random.default_rng(1).normal(size=256).astype(np.float32)
    write(path, Rows(ids, np.repeat(vector[None], 1000, 0)))
    with closing(opened(path)) as file:
        for k in (1, 5, 150, 999):
            found, scores = FaissSearcher(file).search(vector, k)
            assert found.tolist() == list(range(1, k + 1))
            assert len(set(scores.tolist())) == 1
        assert len(set(file.scores(vector).tolist())) == 1, "and for the scan they are equal too"


def test_another_dimension_makes_the_file_anew(path: Path, rows: Rows) -> None:
    write(path, rows)
    write(path, Rows(np.array([99]), np.ones((1, 6), np.float32)))
    with closing(opened(path)) as file:
        assert (file.trailer.dim, file.ids().tolist()) == (6, [99])


def test_a_reader_keeps_the_file_that_it_opened(path: Path, rows: Rows) -> None:
    write(path, rows)
    with closing(opened(path)) as file:
        write(path, Rows(np.array([50]), np.ones((1, 4), np.float32)), removed=rows.ids)
        assert FaissSearcher(file).search(rows.vectors[0], 9)[0].tolist() == [7, 3, 12]
        assert file.ids().tolist() == [7, 3, 12]
    with closing(opened(path)) as file:
        assert file.ids().tolist() == [50]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Within, no file of this process can grow over ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_when_there_is_no_room_the_old_file_stays_and_no_piece_of_the_new_one(
    path: Path, rows: Rows
) -> None:
    write(path, rows)
    before = path.read_bytes()
    many = Rows(np.arange(100, 5000), np.ones((4900, 4), np.float32))
    with room_for(20_000), pytest.raises(OutputError, match=r"cannot be written .*make room"):
        write(path, many)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_error_while_rows_are_fetched_leaves_the_old_file(path: Path, rows: Rows) -> None:
    write(path, rows)
    before = path.read_bytes()

    def broken() -> Iterator[tuple[Ids, Matrix]]:
        yield np.array([20]), np.ones((1, 4), np.float32)
        raise IndexFormatError("the catalogue is damaged")

    with pytest.raises(IndexFormatError, match="the catalogue is damaged"):
        vector_writer.write(path, dim=4, revision=REVISION, added=broken())
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_what_a_killed_writer_left_is_overwritten(path: Path, rows: Rows) -> None:
    path.parent.mkdir()
    path.with_name(path.name + ".partial").write_bytes(b"half a file" * 1000)
    write(path, rows)
    assert os.listdir(path.parent) == [path.name]
    with closing(opened(path)) as file:
        assert vectors.read_rows(file)[0].tolist() == [7, 3, 12]


def test_a_file_whose_index_is_damaged_is_a_named_error(path: Path, rows: Rows) -> None:
    """The trailer is sound, what FAISS reads is not."""
    write(path, rows)
    content = path.read_bytes()
    path.write_bytes(b"\0" * 60 + content[60:])
    with (
        closing(opened(path)) as file,
        pytest.raises(IndexFormatError, match="verify --deep --repair"),
    ):
        vectors.read_rows(file)
    write(path, Rows(np.array([1]), np.ones((1, 4), np.float32)))
    with closing(opened(path)) as file:
        assert vectors.read_rows(file)[0].tolist() == [7, 3, 12, 1]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_bytes_are_those_that_faiss_would_write(path: Path, tmp_path: Path, count: int) -> None:
    vectors_ = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    ids = np.arange(5, 5 + 2 * count, 2)
    vector_writer.write(path, dim=8, revision=REVISION, added=[(ids, vectors_)])
    index = faiss.IndexIDMap(faiss.IndexFlatIP(8))
    index.add_with_ids(vectors_, ids)
    faiss.write_index(index, str(tmp_path / "theirs"))
    assert path.read_bytes()[: -TRAILER.size] == (tmp_path / "theirs").read_bytes()


def test_the_trailer_says_where_rows_and_ids_lie(path: Path, rows: Rows) -> None:
    write(path, rows)
    content = path.read_bytes()
    _, revision, dim, count, rows_at, ids_at = TRAILER.unpack(content[-TRAILER.size :])
    assert (revision.decode(), dim, count) == (REVISION, 4, 3)
    assert np.array_equal(np.frombuffer(content, "<f4", 12, rows_at).reshape(3, 4), rows.vectors)
    assert np.frombuffer(content, "<i8", 3, ids_at).tolist() == [7, 3, 12]
