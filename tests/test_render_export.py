"""Every format gives back what went in: paths of any bytes, boxes, embeddings, in order."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from embedsearch.errors import MissingExtraError, OutputError
from embedsearch.records import ExportRow
from embedsearch.render.export import Format, write_export

DIM = 4
HOSTILE = os.fsdecode(b'/p/\xff a,"b"\r\nc.jpg')
FORMATS: list[Format] = ["csv", "jsonl", "npy", "parquet"]


def row(path: str, *, number: int = 0) -> ExportRow:
    return ExportRow(
        path=path,
        kind="image",
        box=(0.0, 0.0, 640.0, 480.5),
        label=None,
        cluster=None,
        width=640,
        height=481,
        taken_at=None,
        embedding=np.full(DIM, number / 8, np.float32),
    )


ROWS = [
    row("/p/a.jpg", number=1),
    row(HOSTILE, number=2),
    ExportRow(
        path="/p/写真.jpg",
        kind="object",
        box=(1.5, 2.0, 3.0, 4.0),
        label="dog",
        cluster=7,
        width=10,
        height=20,
        taken_at="2024-05-01T10:00:00",
        start=1.25,
        until=4.0,
        at=2.5,
        embedding=np.array([0.1, -0.2, 0.3, 1e-7], np.float32),
    ),
]
DOG = {
    "path": "/p/写真.jpg",
    "kind": "object",
    "box": [1.5, 2, 3, 4],
    "label": "dog",
    "cluster": 7,
    "width": 10,
    "height": 20,
    "taken_at": "2024-05-01T10:00:00",
    "start": 1.25,
    "until": 4.0,
    "at": 2.5,
}


def read_csv(raw: bytes) -> list[dict[str, str]]:
    text = io.StringIO(raw.decode("utf-8", "surrogateescape"), newline="")
    return list(csv.DictReader(text))


def test_csv_holds_every_column_and_the_very_bytes_of_a_path(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert write_export(ROWS, "csv", out, DIM) == 3
    rows = read_csv(out.read_bytes())
    assert [os.fsencode(read["path"]) for read in rows] == [os.fsencode(r.path) for r in ROWS]
    assert rows[0] == {
        "path": "/p/a.jpg",
        "kind": "image",
        "box": "0,0,640,480.5",
        "label": "",
        "cluster": "",
        "width": "640",
        "height": "481",
        "taken_at": "",
        "start": "",
        "until": "",
        "at": "",
    }
    assert rows[2]["box"] == "1.5,2,3,4"
    assert (rows[2]["label"], rows[2]["cluster"]) == ("dog", "7")


def test_json_lines_are_ascii_and_give_the_path_and_the_embedding_back(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert write_export(ROWS, "jsonl", out, DIM) == 3
    raw = out.read_bytes()
    assert raw.isascii()
    rows = [json.loads(line) for line in raw.splitlines()]
    assert [os.fsencode(read["path"]) for read in rows] == [os.fsencode(r.path) for r in ROWS]
    embedding = rows[2].pop("embedding")
    assert rows[2] == DOG
    np.testing.assert_array_equal(np.array(embedding, np.float32), ROWS[2].embedding)


def test_npy_is_one_matrix_with_its_rows_named_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "rows.npy"
    assert write_export(ROWS, "npy", out, DIM) == 3
    matrix = np.load(out)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.stack([r.embedding for r in ROWS]))
    lines = (tmp_path / "rows.npy.paths.jsonl").read_bytes().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [os.fsencode(read["path"]) for read in rows] == [os.fsencode(r.path) for r in ROWS]
    assert rows[2] == DOG
    assert sorted(os.listdir(tmp_path)) == ["rows.npy", "rows.npy.paths.jsonl"]


@pytest.mark.parametrize("count", [0, 9, 10, 12_345])
def test_an_npy_header_grows_in_place_with_the_number_of_rows(tmp_path: Path, count: int) -> None:
    rows = (row("/a.jpg", number=number) for number in range(count))
    write_export(rows, "npy", tmp_path / "rows.npy", DIM)
    matrix = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert matrix.shape == (count, DIM)
    np.testing.assert_array_equal(matrix[:, 0], np.arange(count, dtype=np.float32) / 8)


def test_parquet_has_a_readable_path_the_raw_bytes_and_a_vector_column(tmp_path: Path) -> None:
    out = tmp_path / "rows.parquet"
    assert write_export(ROWS, "parquet", out, DIM) == 3
    table = pq.read_table(out)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), DIM)
    assert table["path"].to_pylist()[1] == '/p/\\xff a,"b"\\r\\nc.jpg'
    assert table["path_bytes"].to_pylist() == [os.fsencode(r.path) for r in ROWS]
    dog = table.to_pylist()[2]
    assert {name: dog[name] for name in DOG} == DOG
    for position, embedding in enumerate(table["embedding"].to_pylist()):
        np.testing.assert_array_equal(np.float32(embedding), ROWS[position].embedding)


def test_parquet_rows_keep_their_order_over_several_batches(tmp_path: Path) -> None:
    rows = (row(f"/{number}.jpg", number=number) for number in range(9000))
    assert write_export(rows, "parquet", tmp_path / "rows.parquet", DIM) == 9000
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table["path"].to_pylist() == [f"/{number}.jpg" for number in range(9000)]
    assert table["embedding"].combine_chunks().flatten().to_numpy()[DIM * 8999] == 8999 / 8


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5))
def test_any_path_survives_json_lines_and_csv(names: list[bytes]) -> None:
    raw_paths = [b"/" + name.replace(b"\0", b"") for name in names]
    rows = [row(os.fsdecode(raw)) for raw in raw_paths]
    lines, table = io.BytesIO(), io.BytesIO()
    write_export(rows, "jsonl", lines, DIM)
    write_export(rows, "csv", table, DIM)
    parsed = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [os.fsencode(read["path"]) for read in parsed] == raw_paths
    assert [os.fsencode(read["path"]) for read in read_csv(table.getvalue())] == raw_paths


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_a_stream_is_left_open_to_its_owner_and_gets_what_a_file_gets(
    tmp_path: Path, fmt: Format
) -> None:
    stream = io.BytesIO()
    write_export(ROWS, fmt, stream, DIM)
    write_export(ROWS, fmt, tmp_path / "file", DIM)
    assert stream.getvalue() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("fmt", FORMATS)
def test_rows_that_break_off_leave_no_file(tmp_path: Path, fmt: Format) -> None:
    def breaking() -> Iterator[ExportRow]:
        yield ROWS[0]
        raise RuntimeError("the catalogue broke off")

    with pytest.raises(RuntimeError):
        write_export(breaking(), fmt, tmp_path / "rows", DIM)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fmt", FORMATS)
def test_an_export_of_nothing_is_a_valid_file(tmp_path: Path, fmt: Format) -> None:
    out = tmp_path / "rows"
    assert write_export([], fmt, out, DIM) == 0
    if fmt == "parquet":
        assert pq.read_table(out).num_rows == 0
    elif fmt == "npy":
        assert np.load(out).shape == (0, DIM)
    else:
        assert out.read_bytes().count(b"\n") == (1 if fmt == "csv" else 0)


@pytest.mark.parametrize("fmt", ["jsonl", "npy", "parquet"])
@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((1, DIM)), np.full(DIM, np.nan), None])
def test_an_embedding_that_is_not_dim_finite_numbers_is_refused(
    tmp_path: Path, fmt: Format, bad: object
) -> None:
    rows = [ROWS[0], replace(ROWS[1], embedding=bad)]
    with pytest.raises(ValueError, match="4 finite numbers are needed"):
        write_export(rows, fmt, tmp_path / "rows", DIM)
    assert os.listdir(tmp_path) == []


@settings(deadline=None)
@given(arrays(np.float32, DIM, elements=st.floats(-1, 1, width=32)))
def test_json_lines_give_every_float32_back_exactly(embedding: NDArray[np.float32]) -> None:
    lines = io.BytesIO()
    write_export([replace(ROWS[0], embedding=embedding)], "jsonl", lines, DIM)
    read = np.array(json.loads(lines.getvalue())["embedding"], np.float32)
    np.testing.assert_array_equal(read, embedding)


def test_npy_to_a_stream_is_a_named_failure() -> None:
    with pytest.raises(OutputError, match=r"--out FILE\.npy"):
        write_export(ROWS, "npy", io.BytesIO(), DIM)


def test_parquet_without_pyarrow_names_the_extra_and_writes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r'pip install "embedsearch\[parquet\]"'):
        write_export(ROWS, "parquet", tmp_path / "rows.parquet", DIM)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fmt", FORMATS)
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, fmt: Format) -> None:
    """A row of 512 floats is 2 kB; 4 MB of them at most are held at once, twice while stacked."""
    embedding = np.zeros(512, np.float32)
    base = row("/a.jpg")
    rows = (
        ExportRow("/a.jpg", "image", base.box, None, None, 1, 1, None, embedding.copy())
        for _ in range(1_000 if fmt == "jsonl" else 10_000)
    )
    tracemalloc.start()
    try:
        write_export(rows, fmt, tmp_path / "rows", 512)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (16e6 if fmt == "parquet" else 1e6)
