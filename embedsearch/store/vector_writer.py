"""Writing the vector index file in a stream: no more than one chunk of rows is held in memory.

The bytes are those of ``faiss.write_index`` for an ``IndexIDMap`` over an ``IndexFlatIP`` (a test
compares them), so FAISS reads the file as its own. Through FAISS all rows would have to be in
memory at once, and importing faiss-gpu alone takes up to 300 MB.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embedsearch.errors import OutputError
from embedsearch.store.vector_file import Ids, Matrix, Trailer, VectorFile, open_vector_file

# faiss/impl/index_write.cpp, write_index_header: d, ntotal, two unused numbers, is_trained,
# metric_type (0: inner product); all little-endian.
_HEADER = struct.Struct("<4siqqqBi")
_SIZE = struct.Struct("<Q")
_UNUSED = 1 << 20
ROWS_OFFSET = 2 * _HEADER.size + _SIZE.size


def write(
    path: Path,
    *,
    dim: int,
    revision: str,
    added: Iterable[tuple[Ids, Matrix]],
    removed: Ids | None = None,
) -> None:
    """Write the vector index: the rows it has, without ``removed``, and with ``added``.

    The file is written beside, fsynced and renamed: a reader sees the old one or the new one. The
    caller holds the index lock. Raises :class:`OutputError` where it cannot be written.
    """
    # The writer is alone: what a killed one left under this name is overwritten.
    beside = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            _write_all(stream, _chunks(path, dim, added, removed), dim, revision)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise OutputError(
            f"The vector index {path} cannot be written ({error.strerror or error}). Nothing is "
            "lost: make room, then run embedsearch verify --repair"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def _chunks(
    path: Path, dim: int, added: Iterable[tuple[Ids, Matrix]], removed: Ids | None
) -> Iterator[tuple[Ids, Matrix]]:
    if (file := open_vector_file(path)) is not None:
        try:
            if file.trailer.dim == dim:
                yield from _kept(file, removed)
        finally:
            file.close()
    yield from added


def _kept(file: VectorFile, removed: Ids | None) -> Iterator[tuple[Ids, Matrix]]:
    for ids, rows in file.chunks():
        if removed is None or not len(removed):
            yield ids, rows
        else:
            keep = ~np.isin(ids, removed)
            yield ids[keep], rows[keep]


def _write_all(
    stream: BinaryIO, chunks: Iterable[tuple[Ids, Matrix]], dim: int, revision: str
) -> None:
    stream.seek(ROWS_OFFSET)
    all_ids = [np.empty(0, np.int64)]
    for ids, rows in chunks:
        stream.write(np.ascontiguousarray(rows, "<f4").data)
        all_ids.append(ids)
    ids = np.concatenate(all_ids)
    stream.write(_SIZE.pack(len(ids)))
    ids_offset = stream.tell()
    stream.write(ids.astype("<i8").data)
    stream.write(Trailer(revision, dim, len(ids), ROWS_OFFSET, ids_offset).pack())
    stream.seek(0)
    stream.write(_HEADER.pack(b"IxMp", dim, len(ids), _UNUSED, _UNUSED, 1, 0))
    stream.write(_HEADER.pack(b"IxFI", dim, len(ids), _UNUSED, _UNUSED, 1, 0))
    stream.write(_SIZE.pack(len(ids) * dim))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
