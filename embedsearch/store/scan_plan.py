"""What a scan found, set against the catalogue: which pictures are to be looked at, which vanished.

Both lists live in temporary tables, so that memory does not grow with the size of the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from embedsearch.store.catalogue import UNDER, Root, StoredEncoder, under_arguments
from embedsearch.store.coverage import LACKING
from embedsearch.store.ledger import Ledger
from embedsearch.store.picture_writer import IsGone

PAGE = 512


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that must be read. ``anew``: replace its embedding even where its content is known."""

    root: Root
    path: bytes
    """Relative to the root."""
    anew: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What one PATH of the command line covers: all of a root, or what is under ``below``."""

    root: Root
    below: bytes
    trusted: bool
    """Whether a file not seen there is really gone (the root is there, not empty, and on the
    device where it was)."""
    single_file: bool = False


class ScanPlan:
    """Collects the scan of one run, then tells what to do. Owns temporary tables of ``ledger``."""

    def __init__(self, ledger: Ledger) -> None:
        self.unchanged = 0
        """Pictures that :meth:`conclude` found just as the catalogue knows them."""
        self._ledger = ledger
        self._db = ledger.connection
        self._db.execute("pragma temp_store = file")
        for table in ("seen", "pending", "gone"):
            self._db.execute(f"drop table if exists temp.{table}")
        self._db.execute(
            "create temp table seen (root_id integer, path blob, size integer, mtime_ns integer, "
            "primary key (root_id, path)) without rowid"
        )
        self._db.execute(
            "create temp table pending (seq integer primary key, root_id integer, path blob, "
            "anew integer, unique (root_id, path))"
        )
        self._db.execute("create temp table gone (image_id integer primary key)")

    def see(self, root: Root, files: Iterable[tuple[bytes, int, int]]) -> None:
        """Record files that are there: (path relative to the root, size, mtime_ns)."""
        self._db.executemany(
            "insert or ignore into seen values (?, ?, ?, ?)",
            ((root.id, path, size, mtime_ns) for path, size, mtime_ns in files),
        )

    def see_unreadable(self, root: Root, folder: bytes) -> None:
        """A folder that could not be read: what the catalogue knows under it is taken as there."""
        condition = UNDER.replace("path", "images.path")
        self._db.execute(
            "insert or ignore into seen select root_id, path, size, mtime_ns from images "
            f"where root_id = :root and status <> 'vanished' and {condition}",
            {"root": root.id, **under_arguments(folder)},
        )

    def conclude(self, scopes: Iterable[Scope], encoder: StoredEncoder, *, force: bool) -> None:
        """Mark what vanished and what came back, and list what is to be read."""
        self._db.execute(
            "update images set status = 'ok' where status = 'vanished' and exists (select 1 "
            "from seen where seen.root_id = images.root_id and seen.path = images.path "
            "and seen.size = images.size and seen.mtime_ns = images.mtime_ns)"
        )
        encoded = (
            "1"
            if not self._some_unencoded(encoder)
            else (
                "exists (select 1 from regions join embeddings on region_id = regions.id "
                "and encoder = :encoder where image_id = images.id and kind = 'image')"
            )
        )
        self._db.execute(
            "insert into pending (root_id, path, anew) "
            "select seen.root_id, seen.path, :force and images.id is not null from seen "
            "left join images on images.root_id = seen.root_id and images.path = seen.path "
            "where images.id is null or :force or images.size <> seen.size "
            "or images.mtime_ns <> seen.mtime_ns "
            f"or (images.status = 'ok' and not {encoded}) order by seen.root_id, seen.path",
            {"force": int(force), "encoder": encoder.key},
        )
        for scope in scopes:
            if scope.trusted and not scope.single_file and not self._all_there(scope):
                self._mark_vanished(scope)
        self.unchanged = self.seen_count() - self.pending_count() - self._failed_before()

    def recall(self, encoder: StoredEncoder, is_gone: IsGone) -> None:
        """Instead of a scan: list the known pictures that lack an embedding of ``encoder``. Those
        whose file is certainly gone are marked as vanished."""
        roots = {root.id: root for root in self._ledger.roots()}
        lacking = self._db.execute(
            f"select images.id, root_id, path from images where {LACKING} order by root_id, path",
            {"encoder": encoder.key},
        )
        for image_id, root_id, path in lacking:
            if is_gone(roots[root_id], path):
                self._db.execute("insert into gone values (?)", (image_id,))
            else:
                self._db.execute("insert into pending values (null, ?, ?, 0)", (root_id, path))
        self._db.execute(
            "update images set status = 'vanished' where id in (select image_id from gone)"
        )

    def _all_there(self, scope: Scope) -> bool:
        """Whether it is plain that nothing vanished: a whole root of which as many files were seen
        as are known, all of them known. A look at two indexes instead of one at every picture."""
        if scope.below or self.pending_count():
            return False
        seen, known, vanished = self._db.execute(
            "select (select count(*) from seen where root_id = :root), "
            "(select count(*) from images where root_id = :root), "
            "(select count(*) from images where status = 'vanished')",
            {"root": scope.root.id},
        ).fetchone()
        return bool(seen == known and not vanished)

    def recognises(self, root: Root) -> bool:
        """Whether at least one file was seen under ``root`` just as the catalogue knows it."""
        row = self._db.execute(
            "select 1 from seen join images on images.root_id = seen.root_id and images.path = "
            "seen.path and images.size = seen.size and images.mtime_ns = seen.mtime_ns "
            "where seen.root_id = ? limit 1",
            (root.id,),
        ).fetchone()
        return row is not None

    def _some_unencoded(self, encoder: StoredEncoder) -> bool:
        row = self._db.execute(
            "select 1 from regions where kind = 'image' and not exists (select 1 from embeddings "
            "where region_id = regions.id and encoder = ?) limit 1",
            (encoder.key,),
        ).fetchone()
        return row is not None

    def _mark_vanished(self, scope: Scope) -> None:
        inside = "" if not scope.below else "and " + UNDER.replace("path", "images.path")
        unseen = (
            f"images.root_id = :root {inside} and not exists (select 1 from seen "
            "where seen.root_id = images.root_id and seen.path = images.path)"
        )
        arguments = {"root": scope.root.id, **under_arguments(scope.below)}
        # Bytes that never were a picture leave nothing to keep.
        self._db.execute(
            "delete from failures where path in (select cast(rtrim(cast(roots.path as text), '/') "
            "|| '/' || cast(images.path as text) as blob) from images join roots on roots.id = "
            f"root_id where status = 'failed' and {unseen})",
            arguments,
        )
        self._db.execute(f"delete from images where status = 'failed' and {unseen}", arguments)
        self._db.execute(
            f"insert or ignore into gone select id from images where status = 'ok' and {unseen}",
            arguments,
        )
        self._db.execute(
            "update images set status = 'vanished' where id in (select image_id from gone)"
        )

    def clear_passing_failures(self, folder: bytes) -> None:
        """Drop failures at or under the absolute ``folder`` that this run will meet again if they
        are still there; bytes that are no picture are not read again, so theirs stay."""
        self._db.execute(
            f"delete from failures where stage in ('scan', 'read', 'encode') and {UNDER}",
            under_arguments(folder),
        )

    def pending_count(self) -> int:
        return int(self._db.execute("select count(*) from pending").fetchone()[0])

    def seen_count(self) -> int:
        return int(self._db.execute("select count(*) from seen").fetchone()[0])

    def _failed_before(self) -> int:
        """Files seen that failed in an earlier run and will not be read again."""
        row = self._db.execute(
            "select count(*) from images join seen on seen.root_id = images.root_id "
            "and seen.path = images.path where status = 'failed' and not exists (select 1 "
            "from pending where pending.root_id = seen.root_id and pending.path = seen.path)"
        ).fetchone()
        return int(row[0])

    def vanished_count(self) -> int:
        """Pictures found missing by this scan that did not turn up elsewhere since."""
        row = self._db.execute(
            "select count(*) from gone join images on id = image_id where status = 'vanished'"
        ).fetchone()
        return int(row[0])

    def pending(self) -> Iterator[Pending]:
        """The files to read, by folder, a page at a time."""
        roots = {root.id: root for root in self._ledger.roots()}
        last = 0
        while True:
            rows = self._db.execute(
                "select seq, root_id, path, anew from pending where seq > ? order by seq limit ?",
                (last, PAGE),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for _, root_id, path, anew in rows:
                yield Pending(roots[root_id], path, bool(anew))
