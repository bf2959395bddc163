"""The catalogue as its one writer sees it: transactions, runs, encoders, roots."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from embedsearch.records import EncoderInfo
from embedsearch.store import database
from embedsearch.store.catalogue import (
    Ids,
    Matrix,
    Root,
    StoredEncoder,
    encoder_json,
    is_inside,
)
from embedsearch.store.picture_rows import printable
from embedsearch.store.picture_writer import PictureWriter


class Ledger(PictureWriter):
    """Writes one ``catalogue.db``. The caller holds the index lock."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for writing; made, or brought up to date, where it has to be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(database.open_writer(path), path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, also across ``kill -9``. Encoders whose embeddings changed get a new
        revision with it."""
        self.connection.execute("begin immediate")
        try:
            yield
            for key in self._touched:
                self.connection.execute(
                    "update encoders set revision = ? where id = ?", (os.urandom(8).hex(), key)
                )
            self.connection.execute("commit")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("rollback")
            raise
        finally:
            self._touched.clear()

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the database, so that the folder can be copied."""
        self.connection.execute("pragma wal_checkpoint(truncate)")

    # Runs, encoders, roots

    def start_run(self, version: str) -> int:
        cursor = self.connection.execute(
            "insert into runs (started_at, version) values (?, ?)", (now(), version)
        )
        return int(cursor.lastrowid or 0)

    def finish_run(self, run_id: int, counts: dict[str, Any]) -> None:
        self.connection.execute(
            "update runs set finished_at = ?, counts = ? where id = ?",
            (now(), json.dumps(counts), run_id),
        )

    def add_encoder(self, info: EncoderInfo) -> StoredEncoder:
        """The encoder's row, made where the index has not met it yet."""
        self.connection.execute(
            "insert into encoders (encoder_id, info, revision) values (?, ?, ?) "
            "on conflict (encoder_id) do nothing",
            (info.id, encoder_json(info), os.urandom(8).hex()),
        )
        return self.encoder(info.id)

    def make_first(self, encoder: StoredEncoder) -> None:
        """From now on this encoder is used where none is named."""
        self.connection.execute("update encoders set first = (id = ?)", (encoder.key,))

    def drop_encoder(self, encoder: StoredEncoder) -> None:
        """Take an encoder out, with its embeddings and the maps made of them."""
        for table in ("projections", "embeddings"):
            self.connection.execute(f"delete from {table} where encoder = ?", (encoder.key,))
        self.connection.execute("delete from encoders where id = ?", (encoder.key,))
        self._touched.discard(encoder.key)

    def is_current(
        self, root: Root, path: bytes, size: int, mtime_ns: int, encoder: StoredEncoder
    ) -> bool:
        """Whether the picture at (root, relative path) is known just as it is on the disk, with an
        embedding of ``encoder``."""
        row = self.connection.execute(
            "select 1 from images join regions on image_id = images.id and kind = 'image' "
            "join embeddings on region_id = regions.id and encoder = ? where root_id = ? "
            "and images.path = ? and size = ? and mtime_ns = ? and status = 'ok'",
            (encoder.key, root.id, path, size, mtime_ns),
        ).fetchone()
        return row is not None

    def embed_regions(self, ids: Ids, rows: Matrix, encoder: StoredEncoder) -> None:
        """Give regions an embedding of ``encoder``, float32 (len(ids), dim); those that have one
        keep it."""
        self.connection.executemany(
            "insert or ignore into embeddings (region_id, encoder, vector) values (?, ?, ?)",
            (
                (id_, encoder.key, row.tobytes())
                for id_, row in zip(ids.tolist(), rows.astype(np.float16), strict=True)
            ),
        )
        self._touched.add(encoder.key)

    def add_root(self, path: bytes, device: int) -> tuple[Root, bytes]:
        """The root that holds the absolute folder ``path``, and the path below it.

        A folder inside a known root belongs to that root; known roots inside the folder fold into
        it: their pictures keep their rows.
        """
        roots = self.roots()
        for root in roots:
            if path == root.path:
                return root, b""
            if is_inside(path, root.path):
                return root, root.relative(path)
        cursor = self.connection.execute(
            "insert into roots (path, name, device) values (?, ?, ?)",
            (path, printable(path), device),
        )
        new = Root(int(cursor.lastrowid or 0), path, device)
        for root in roots:
            if is_inside(root.path, path):
                self._fold(root, new)
        return new, b""

    def _fold(self, inner: Root, outer: Root) -> None:
        below = outer.relative(inner.path) + b"/"
        # A blob concatenated by SQLite becomes text; the cast makes it bytes again.
        self.connection.execute(
            "update images set root_id = ?, path = cast(? || path as blob), name = ? || name "
            "where root_id = ?",
            (outer.id, below, printable(below), inner.id),
        )
        self.connection.execute("delete from roots where id = ?", (inner.id,))

    def set_device(self, root: Root, device: int) -> None:
        """Remember the device that the root now lies on."""
        self.connection.execute("update roots set device = ? where id = ?", (device, root.id))

    def drop_empty_roots(self) -> None:
        """Roots that hold nothing any more are no longer indexed."""
        self.connection.execute(
            "delete from roots where not exists (select 1 from images where root_id = roots.id)"
        )


def now() -> str:
    """The local time with its offset from UTC, ISO 8601, as the catalogue keeps times."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
