"""The vector index file as a cold query reads it, without FAISS; and what is no such file."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nearest import LARGEST, Rows, nearest, some_rows, whole_query

from embedsearch.errors import IndexFormatError
from embedsearch.store import vector_file, vector_writer
from embedsearch.store.vector_file import (
    TRAILER,
    Trailer,
    VectorFile,
    best,
    open_vector_file,
    vector_path,
)

REVISION = "0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return vector_path(tmp_path, "colour-0123456789ab")


@pytest.fixture
def rows() -> Rows:
    rng = np.random.default_rng(0)
    return Rows(np.arange(10, 0, -1), rng.normal(size=(10, 6)).astype(np.float32))


def write(path: Path, rows: Rows) -> None:
    vector_writer.write(path, dim=rows.dim, revision=REVISION, added=[(rows.ids, rows.vectors)])


def opened(path: Path) -> VectorFile:
    file = open_vector_file(path)
    assert file is not None
    return file


def test_the_file_of_an_encoder_lies_under_its_id(tmp_path: Path) -> None:
    assert vector_path(tmp_path, "mini-012") == tmp_path / "vectors" / "mini-012.faiss"


@given(rows=some_rows(), seed=st.integers(0, 99), data=st.data())
def test_the_best_are_those_that_sorting_everything_puts_first(
    rows: Rows, seed: int, data: st.DataObject
) -> None:
    query = whole_query(rows.dim, seed)
    k = data.draw(st.integers(1, len(rows.ids) + 2))
    ids, scores = best(rows.ids, rows.vectors @ query, k)
    assert (ids.tolist(), scores.tolist()) == nearest(rows, query, k, None, None)


def test_every_chunk_of_the_rows_is_scored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    count = 2 * vector_file.SCAN_ROWS + 17
    rows = Rows(np.arange(1, count + 1), rng.normal(size=(count, 5)).astype(np.float32))
    write(path, rows)
    query = rng.normal(size=5).astype(np.float32)
    with closing(opened(path)) as file:
        np.testing.assert_allclose(file.scores(query), rows.vectors @ query, atol=1e-5)
        assert np.array_equal(file.ids(), rows.ids)


def test_a_row_has_the_same_score_wherever_it_stands(path: Path) -> None:
    """Copies of a picture are equally good; a matrix product would tell them apart."""
    rng = np.random.default_rng(0)
    ids = np.arange(1, 4100)
    vector = rng.normal(size=(1, 256)).astype(np.float32)
    write(path, Rows(ids, np.repeat(vector, len(ids), 0)))
    with closing(opened(path)) as file:
        assert len(set(file.scores(rng.normal(size=256).astype(np.float32)).tolist())) == 1


def test_ids_of_any_size_come_back(path: Path) -> None:
    ids = np.array([1, LARGEST, 2**53 + 1])
    write(path, Rows(ids, np.ones((3, 2), np.float32)))
    with closing(opened(path)) as file:
        assert file.ids().tolist() == [1, LARGEST, 2**53 + 1]


def test_reading_a_file_needs_no_faiss(path: Path, rows: Rows) -> None:
    write(path, rows)
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from embedsearch.store.vector_file import open_vector_file\n"
        "file = open_vector_file(Path(sys.argv[1]))\n"
        "print(len(file.scores(np.ones(6, np.float32))), 'faiss' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert told.stdout == b"10 False\n"


# What is no vector index


def test_a_file_that_is_not_there_is_none(path: Path) -> None:
    assert open_vector_file(path) is None


@pytest.mark.parametrize("size", [0, 1, TRAILER.size - 1, TRAILER.size])
def test_a_file_of_a_few_bytes_is_none(path: Path, size: int) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x" * size)
    assert open_vector_file(path) is None


def test_a_file_cut_short_anywhere_is_none(path: Path, rows: Rows) -> None:
    write(path, rows)
    content = path.read_bytes()
    for length in range(len(content)):
        os.truncate(path, length)
        assert open_vector_file(path) is None, length
        path.write_bytes(content)


def test_a_trailer_after_less_than_it_promises_is_none(path: Path, rows: Rows) -> None:
    write(path, rows)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[-TRAILER.size :])
    assert open_vector_file(path) is None


def test_an_index_that_faiss_alone_wrote_is_none(path: Path, rows: Rows) -> None:
    path.parent.mkdir()
    index = faiss.IndexIDMap(faiss.IndexFlatIP(6))
    index.add_with_ids(rows.vectors, rows.ids)
    faiss.write_index(index, os.fspath(path))
    assert open_vector_file(path) is None


@pytest.mark.parametrize(
    "trailer",
    [
        Trailer(REVISION, -1, 10, 0, 0),
        Trailer(REVISION, 0, 10, 0, 0),
        Trailer(REVISION, 6, -1, 0, 0),
        Trailer(REVISION, 6, 10, -240, 0),
        Trailer(REVISION, 6, 10, 0, -80),
        Trailer(REVISION, 6, 10, 0, 10**15),
        Trailer(REVISION, 2**40, 2**20, 0, 0),
    ],
)
def test_a_trailer_with_impossible_numbers_is_none(
    path: Path, rows: Rows, trailer: Trailer
) -> None:
    write(path, rows)
    content = path.read_bytes()
    path.write_bytes(content[: -TRAILER.size] + trailer.pack())
    assert open_vector_file(path) is None


def test_a_revision_that_is_no_text_is_a_revision_that_nobody_has(path: Path, rows: Rows) -> None:
    write(path, rows)
    content = path.read_bytes()
    path.write_bytes(content.replace(REVISION.encode(), b"\xff" * 16))
    with closing(opened(path)) as file:
        assert file.trailer.revision != REVISION
        assert file.ids().tolist() == rows.ids.tolist()


def test_a_file_that_shrinks_under_its_reader_is_a_named_error(path: Path, rows: Rows) -> None:
    write(path, rows)
    with closing(opened(path)) as file:
        os.truncate(path, 40)
        with pytest.raises(IndexFormatError, match=r"faiss ended early.*verify --repair"):
            file.scores(np.ones(6, np.float32))
