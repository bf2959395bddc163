"""``--where``: an SQL expression over the view ``pictures``, and nothing else.

SQLite itself parses it, on a connection of its own that is read-only, may read only what the view
is made of, and has a time limit.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from embedsearch.errors import QueryError
from embedsearch.store import database

SECONDS = 5.0
"""An expression may take this long over all pictures."""
MAX_BYTES = 1_000_000
"""No value that an expression makes may be longer."""
STEPS = 1_000
"""The clock is looked at every so many steps of SQLite's machine; a step on a value of MAX_BYTES
takes about a millisecond."""
REFUSED_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})


def matching_images(catalogue: Path, expression: str) -> list[int]:
    """Ids of the pictures for which ``expression`` is true.

    Raises :class:`QueryError` where it is not one SQL expression over the view's columns, or takes
    too long.
    """
    with closing(database.open_reader(catalogue)) as connection:
        columns = [row[1] for row in connection.execute("pragma table_info(pictures)")]
        _restrict(connection)
        try:
            return _evaluate(connection, expression)
        except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
            said = str(error)
            if said == "interrupted":
                said = f"it takes longer than {SECONDS:g} seconds"
            raise QueryError(
                f"--where {expression!r} is no expression that can be used here: {said}. "
                f"Columns: {', '.join(columns)}. "
                "Example: --where \"width >= 1000 and name like '%.png'\""
            ) from error


def _evaluate(connection: sqlite3.Connection, expression: str) -> list[int]:
    # On a line of its own, so that a comment cannot swallow the closing parenthesis. Text that
    # closes our parenthesis and goes on with another clause fits one pair or two, never both.
    connection.execute(f"select ((\n{expression}\n)) from pictures limit 0")
    rows = connection.execute(f"select id from pictures where (\n{expression}\n)")
    return [row[0] for row in rows]


def _restrict(connection: sqlite3.Connection) -> None:
    """From now on ``connection`` reads what the view reads, for at most SECONDS."""
    read: set[tuple[str | None, str | None]] = set()

    def record(
        action: int, table: str | None, column: str | None, _: str | None, source: str | None
    ) -> int:
        if action == sqlite3.SQLITE_READ:
            read.add((table, column))
        return sqlite3.SQLITE_OK

    connection.set_authorizer(record)
    connection.execute("select * from pictures limit 0")
    tables = {table for table, _ in read}

    def authorize(
        action: int, first: str | None, second: str | None, _: str | None, source: str | None
    ) -> int:
        match action:
            case sqlite3.SQLITE_SELECT:
                allowed = True
            case sqlite3.SQLITE_FUNCTION:
                allowed = second not in REFUSED_FUNCTIONS
            case sqlite3.SQLITE_READ if second == "":  # a table of which no column is used
                allowed = first in tables
            case sqlite3.SQLITE_READ:
                # An expression can name a subquery of its own "pictures" too, so what the view
                # does not read stays closed whatever the source.
                allowed = first == "pictures" or (source == "pictures" and (first, second) in read)
            case _:
                allowed = False
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
    deadline = time.monotonic() + SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
