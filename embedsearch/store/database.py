"""Opening the catalogue's SQLite file: to write, to read, from media that cannot be written.

Writers use a write-ahead log on local disks and a rollback journal on network file systems, where
the log's shared memory does not work. Readers never write.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from embedsearch.errors import (
    EmbedSearchError,
    IndexFormatError,
    IndexLockedError,
    IndexNotFoundError,
)

CATALOGUE = "catalogue.db"
SCHEMA_VERSION = 4
"""Number of steps in :mod:`embedsearch.store.migrations`, known here without importing them."""
READABLE_VERSION = 2
"""Readers take an index from this version on as it is: they never write."""

BUSY_SECONDS = 5.0
"""How long to wait for another program that keeps the file locked."""
MOUNTS = Path("/proc/self/mounts")
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "lustre"}
    | {"fuse.sshfs", "fuse.rclone", "fuse.davfs2", "fuse.s3fs", "fuse.glusterfs", "davfs"}
)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open (and create, and bring up to date) the catalogue. The caller holds the index lock.

    Raises :class:`IndexFormatError` where the file is no catalogue or comes from a newer version,
    and :class:`IndexLockedError` where another program keeps it locked.
    """
    try:
        connection = _connect(path)
    except sqlite3.OperationalError as error:
        raise _explained(path, error) from error
    try:
        version = _version(connection, path)
        mode = "delete" if is_on_network(path) else "wal"
        connection.execute(f"pragma journal_mode = {mode}")
        # What is committed is on the disk before the vector index is: after a power failure a
        # region id must not come back with another meaning.
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")
        if version < SCHEMA_VERSION:
            _migrate(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _explained(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the catalogue read-only; from read-only media too.

    Raises :class:`IndexNotFoundError`, :class:`IndexFormatError` and :class:`IndexLockedError`.
    """
    if not path.exists():
        raise _not_found(path)
    uri = f"file:{quote(os.fsencode(path))}?mode=ro"
    try:
        try:
            connection, version = _open_uri(uri, path)
        except sqlite3.OperationalError as error:
            if _primary(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            # The write-ahead log's shared memory cannot be made on read-only media.
            _refuse_unfinished_log(path)
            connection, version = _open_uri(uri + "&immutable=1", path)
    except sqlite3.DatabaseError as error:
        raise _explained(path, error) from error
    if version >= READABLE_VERSION:
        return connection
    connection.close()
    if version == 0:  # its first writer was killed, or has only just begun
        raise _not_found(path)
    raise IndexFormatError(
        f"{path} was written by an older version (format {version}, this one reads "
        f"{READABLE_VERSION} to {SCHEMA_VERSION}). Bring it up to date: embedsearch index FOLDER"
    )


def _connect(file: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(
        file,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=isinstance(file, str),
    )


def _open_uri(uri: str, path: Path) -> tuple[sqlite3.Connection, int]:
    connection = _connect(uri)
    try:
        return connection, _version(connection, path)
    except BaseException:
        connection.close()
        raise


def _refuse_unfinished_log(path: Path) -> None:
    """An immutable database is read without its log: what is only there would be missing."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise IndexFormatError(
            f"{path} was not closed by its last writer, and cannot be completed where it lies. "
            "Copy the index folder to a place that you may write to, and use it there."
        )


def is_on_network(path: Path) -> bool:
    """Whether ``path`` lies on a file system that is shared over a network (Linux; else False)."""
    if not MOUNTS.exists():
        return False
    folder = os.fsencode(path.resolve().parent)
    best, kind = b"", ""
    for line in MOUNTS.read_bytes().splitlines():
        _, raw, name, *_ = line.split(b" ")
        mount = raw.replace(b"\\040", b" ").rstrip(b"/")
        if (folder == mount or folder.startswith(mount + b"/")) and len(mount) >= len(best):
            best, kind = mount, name.decode()
    return kind in NETWORK_FILE_SYSTEMS


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("pragma user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise IndexFormatError(
            f"{path} was written by a newer version (format {version}, this one reads "
            f"{SCHEMA_VERSION}). Update: pip install -U embedsearch"
        )
    return version


def _migrate(connection: sqlite3.Connection) -> None:
    import sqlite_utils

    from embedsearch.store import migrations

    migrations.apply(sqlite_utils.Database(connection))


def _primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the low byte of the extended one."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _not_found(path: Path) -> IndexNotFoundError:
    return IndexNotFoundError(
        f"There is no index at {path.parent}. Make one: embedsearch index FOLDER "
        f'--index "{path.parent}"'
    )


def _explained(path: Path, error: sqlite3.DatabaseError) -> EmbedSearchError:
    match _primary(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return IndexLockedError(
                f"{path} is locked by another program ({error}). Try again when that has finished."
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY:
            return IndexFormatError(
                f"{path} cannot be opened ({error}). See to it that you may use this file and the "
                "folder it lies in."
            )
        case _:
            return IndexFormatError(
                f"{path} cannot be read as a catalogue ({error}). If the disk is sound, move the "
                "index folder away and index the pictures again."
            )
