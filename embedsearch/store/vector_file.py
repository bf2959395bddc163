"""The vector index file, and how one query is answered from it without importing FAISS.

The file is a FAISS index (``IndexIDMap`` over ``IndexFlatIP``) followed by a trailer that FAISS
does not read: which revision of the catalogue it holds, and where its rows and ids begin. A cold
query scans the rows with numpy: at 100,000 x 256 that takes 13 ms, while importing faiss-gpu takes
over 100 ms and 180 MB for CUDA libraries before the first comparison (benchmarks/cold_query.py).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Matrix = NDArray[np.float32]
Vector = NDArray[np.float32]

TRAILER = struct.Struct("<8s16sqqqq")
MAGIC = b"EMBSVEC1"
SCAN_ROWS = 4096
"""Rows read at a time: 4 MB at 256-d, so that the rows stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A vector index file and what its trailer says. Offsets are bytes from its beginning."""

    path: Path
    revision: str
    dim: int
    count: int
    rows_offset: int
    ids_offset: int

    def trailer(self) -> bytes:
        """The bytes that follow the FAISS index."""
        return TRAILER.pack(
            MAGIC,
            self.revision.encode(),
            self.dim,
            self.count,
            self.rows_offset,
            self.ids_offset,
        )

    def ids(self) -> Ids:
        """Region ids by row, int64 (count,)."""
        return np.fromfile(self.path, np.int64, self.count, offset=self.ids_offset)

    def scores(self, query: Vector) -> Vector:
        """Inner product of every row with ``query`` (dim,): float32 (count,). Holds one chunk of
        rows in memory at a time."""
        found = np.empty(self.count, np.float32)
        chunk = np.empty((min(SCAN_ROWS, max(1, self.count)), self.dim), np.float32)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.rows_offset)
            for start in range(0, self.count, len(chunk)):
                rows = chunk[: min(len(chunk), self.count - start)]
                _read_exactly(file.fileno(), memoryview(rows).cast("B"))
                np.dot(rows, query, out=found[start : start + len(rows)])
        return found


def open_vector_file(path: Path) -> VectorFile | None:
    """Read the trailer; None where there is no file, or not one that we finished writing."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < TRAILER.size:
                return None
            file.seek(size - TRAILER.size)
            magic, revision, dim, count, rows, ids = TRAILER.unpack(file.read(TRAILER.size))
    except FileNotFoundError:
        return None
    if magic != MAGIC or size - TRAILER.size < max(rows + 4 * dim * count, ids + 8 * count):
        return None
    return VectorFile(path, revision.decode(), dim, count, rows, ids)


def _read_exactly(descriptor: int, into: memoryview) -> None:
    while len(into):
        got = os.readv(descriptor, [into])
        if got == 0:
            raise OSError("the vector index ended early")
        into = into[got:]
