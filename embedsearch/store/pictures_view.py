"""``--where``: an SQL expression over the view ``pictures``, and nothing else.

SQLite itself parses it, on a connection of its own that is read-only, may touch only that view
and has a time limit.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from embedsearch.errors import QueryError
from embedsearch.store import database

SECONDS = 5.0
"""An expression may take this long over all pictures."""
MAX_BYTES = 10_000_000
"""No value that an expression makes may be longer."""
REFUSED_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})


def columns(catalogue: Path) -> list[str]:
    """Names of the columns that an expression may use."""
    connection = database.open_reader(catalogue)
    try:
        return [row[1] for row in connection.execute("pragma table_info(pictures)")]
    finally:
        connection.close()


def matching_images(catalogue: Path, expression: str) -> list[int]:
    """Ids of the pictures for which ``expression`` is true.

    Raises :class:`QueryError` where it is not one SQL expression over the view's columns, or takes
    too long.
    """
    known = columns(catalogue)
    connection = database.open_reader(catalogue)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
        # A first statement loads the schema, which the authorizer would refuse.
        connection.execute("select id from pictures limit 0")
        connection.set_authorizer(_authorize)
        deadline = time.monotonic() + SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        # On a line of its own, so that a comment cannot swallow the closing parenthesis.
        rows = connection.execute(f"select id from pictures where (\n{expression}\n)").fetchall()
    except (sqlite3.Error, sqlite3.Warning) as error:
        said = str(error)
        if said == "interrupted":
            said = f"it takes longer than {SECONDS:.0f} seconds"
        raise QueryError(
            f"--where {expression!r} is no expression that can be used here: {said}. "
            f"Columns: {', '.join(known)}. Example: --where \"width >= 1000 and name like '%.png'\""
        ) from error
    finally:
        connection.close()
    return [row[0] for row in rows]


def _authorize(
    action: int, first: str | None, second: str | None, _: str | None, source: str | None
) -> int:
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and "pictures" in (first, source):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second not in REFUSED_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
