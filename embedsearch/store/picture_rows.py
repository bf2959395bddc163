"""The rows of one picture in the catalogue: its regions, their embeddings, and all that is copied
and deleted with it. Inside transactions of the ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from embedsearch.store.catalogue import Catalogue, Root


class PictureRows(Catalogue):
    """Adds, copies and deletes the rows of pictures, and knows whose embeddings changed."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(connection, path)
        self._touched: set[int] = set()
        """Keys of the encoders whose embeddings changed in the transaction under way."""

    def _add_region(self, image_id: int) -> int:
        """The region of the whole picture."""
        cursor = self.connection.execute(
            "insert into regions (image_id, kind, x, y, w, h) "
            "select id, 'image', 0, 0, width, height from images where id = ?",
            (image_id,),
        )
        return int(cursor.lastrowid or 0)

    def _embed(self, region_id: int, encoder_key: int, vector: bytes) -> None:
        self.connection.execute(
            "insert into embeddings (region_id, encoder, vector) values (?, ?, ?)",
            (region_id, encoder_key, vector),
        )
        self._touched.add(encoder_key)

    def _copy(self, twin_id: int, root: Root, path: bytes, mtime_ns: int) -> None:
        """A row of its own with the regions, embeddings and found tags of a picture of the same
        content."""
        cursor = self.connection.execute(
            "insert into images (root_id, path, name, size, mtime_ns, hash, width, height, format, "
            "taken_at, exif, duration, status) select ?, ?, ?, size, ?, hash, width, height, "
            "format, taken_at, exif, duration, 'ok' from images where id = ?",
            (root.id, path, printable(path), mtime_ns, twin_id),
        )
        image_id = int(cursor.lastrowid or 0)
        regions = self.connection.execute(
            "select id from regions where image_id = ? order by id", (twin_id,)
        ).fetchall()
        for (region_id,) in regions:
            self.copy_region(region_id, image_id)
        self.connection.execute(
            "insert into tags (image_id, tag, score) "
            "select ?, tag, score from tags where image_id = ? and score is not null",
            (image_id, twin_id),
        )
        self.copy_lines(twin_id, image_id)
        self.connection.execute(
            "insert into enriched (image_id, stage, enricher) "
            "select ?, stage, enricher from enriched where image_id = ?",
            (image_id, twin_id),
        )
        self.touch_encoders_of(image_id)

    def copy_region(self, region_id: int, image_id: int) -> None:
        """Give a picture a region of another of the same content, with its embeddings. Inside a
        transaction."""
        cursor = self.connection.execute(
            "insert into regions (image_id, kind, x, y, w, h, label, score, mask, enricher, "
            "start, until, at) select ?, kind, x, y, w, h, label, score, mask, enricher, "
            "start, until, at from regions where id = ?",
            (image_id, region_id),
        )
        self.connection.execute(
            "insert into embeddings (region_id, encoder, vector) "
            "select ?, encoder, vector from embeddings where region_id = ?",
            (cursor.lastrowid, region_id),
        )
        self.touch_encoders_of(image_id)

    def copy_lines(self, source: int, image_id: int, enricher: int | None = None) -> None:
        """Give a picture the lines of text of another of the same content, or those that one
        enricher read. Inside a transaction."""
        self.connection.execute(
            "insert into text_lines (image_id, enricher, x, y, w, h, quad, text, confidence, at) "
            "select ?, enricher, x, y, w, h, quad, text, confidence, at from text_lines "
            "where image_id = ? and enricher = ifnull(?, enricher) order by id",
            (image_id, source, enricher),
        )

    def _delete_image(self, image_id: int) -> None:
        self._delete_regions(image_id)
        self.connection.execute("delete from images where id = ?", (image_id,))

    def _delete_regions(self, image_id: int, *, and_findings: bool = True) -> None:
        """All that was made of the content of a picture, or all but what enrichers found in it;
        tags that a person gave stay."""
        self.touch_encoders_of(image_id)
        of_none = "" if and_findings else " and enricher is null"
        self.connection.execute(f"delete from regions where image_id = ?{of_none}", (image_id,))
        self.connection.execute(
            "delete from tags where image_id = ? and score is not null", (image_id,)
        )
        for table in ("text_lines", "enriched") if and_findings else ():
            self.connection.execute(f"delete from {table} where image_id = ?", (image_id,))

    def touch_encoders_of(self, image_id: int) -> None:
        """The embeddings of a picture are about to change, or did, in this transaction."""
        rows = self.connection.execute(
            "select distinct encoder from embeddings join regions on regions.id = region_id "
            "where image_id = ?",
            (image_id,),
        )
        self._touched.update(key for (key,) in rows)


def printable(path: bytes) -> str:
    """``path`` as text for people and for SQL: bytes that are not UTF-8 as ``\\xNN``."""
    return path.decode("utf-8", "backslashreplace")
