"""Opening the catalogue's SQLite file: to write, to read, from media that cannot be written.

Writers use a write-ahead log on local disks and a rollback journal on network file systems, where
the log's shared memory does not work. Readers never write.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from embedsearch.errors import IndexFormatError, IndexNotFoundError

CATALOGUE = "catalogue.db"
SCHEMA_VERSION = 1
"""Number of steps in :mod:`embedsearch.store.migrations`, known here without importing them."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "lustre"}
    | {"fuse.sshfs", "fuse.rclone", "fuse.davfs2", "fuse.s3fs", "fuse.glusterfs", "davfs"}
)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open (and create, and bring up to date) the catalogue. The caller holds the index lock.

    Raises :class:`IndexFormatError` where the file is no catalogue or comes from a newer version.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        mode = "delete" if is_on_network(path) else "wal"
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute("pragma synchronous = normal")
        connection.execute("pragma foreign_keys = on")
        version = _version(connection, path)
        if version < SCHEMA_VERSION:
            _migrate(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _damaged(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the catalogue read-only; from read-only media too.

    Raises :class:`IndexNotFoundError` and :class:`IndexFormatError`.
    """
    if not path.exists():
        raise IndexNotFoundError(
            f"There is no index at {path.parent}. Make one: embedsearch index FOLDER "
            f'--index "{path.parent}"'
        )
    uri = "file:" + quote(os.fsencode(path))
    connection = sqlite3.connect(
        uri + "?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        try:
            version = _version(connection, path)
        except sqlite3.OperationalError:
            # The write-ahead log's shared memory cannot be made on read-only media.
            connection.close()
            connection = sqlite3.connect(
                uri + "?mode=ro&immutable=1",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            version = _version(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _damaged(path, error) from error
    except IndexFormatError:
        connection.close()
        raise
    if version < SCHEMA_VERSION:
        connection.close()
        raise IndexFormatError(
            f"{path} was written by an older version (format {version}, this one reads "
            f"{SCHEMA_VERSION}). Bring it up to date: embedsearch index FOLDER"
        )
    return connection


def is_on_network(path: Path) -> bool:
    """Whether ``path`` lies on a file system that is shared over a network (Linux; else False)."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return False
    folder = os.fsencode(path.resolve().parent)
    best, kind = b"", ""
    for line in mounts.read_bytes().splitlines():
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


def _damaged(path: Path, error: Exception) -> IndexFormatError:
    return IndexFormatError(
        f"{path} cannot be read as a catalogue ({error}). If the disk is sound, move the index "
        f"folder away and index the pictures again."
    )
