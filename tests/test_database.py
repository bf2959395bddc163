"""Opening the catalogue: new, from the future, damaged, locked, on read-only media."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
import sqlite_utils

from embedsearch.errors import IndexFormatError, IndexLockedError, IndexNotFoundError
from embedsearch.store import database, migrations
from embedsearch.store.database import CATALOGUE, SCHEMA_VERSION, open_reader, open_writer
from embedsearch.store.ledger import Ledger

NOBODY = 65534


@pytest.fixture
def path(index_folder: Path) -> Path:
    return index_folder / CATALOGUE


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user of this machine may look into; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def as_a_reader() -> Callable[[Path], AbstractContextManager[None]]:
    """``as_a_reader(folder)``: within, this process may read ``folder`` but not write to it."""

    @contextmanager
    def become(folder: Path) -> Iterator[None]:
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:  # whom permissions do not stop
            os.seteuid(NOBODY)
        try:
            assert not os.access(folder, os.W_OK, effective_ids=True)
            yield
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)

    return become


def journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("pragma journal_mode").fetchone()[0])


def make_catalogue(path: Path) -> None:
    """A catalogue with one run in it, closed."""
    path.parent.mkdir(exist_ok=True)
    with Ledger.open(path) as ledger, ledger.transaction():
        ledger.start_run("first")


def names(connection: sqlite3.Connection) -> set[str]:
    """Of all tables, indexes and views, but for the index that sqlite-utils makes for itself."""
    rows = connection.execute("select name from sqlite_master where name not like 'idx__sqlite%'")
    return {row[0] for row in rows}


# The schema


def test_the_schema_version_is_the_number_of_migrations(path: Path) -> None:
    with closing(open_writer(path)) as connection:
        applied = migrations.migrations.applied(sqlite_utils.Database(connection))
        assert len(applied) == SCHEMA_VERSION
        assert migrations.migrations.pending(sqlite_utils.Database(connection)) == []
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA_VERSION,)


def test_opening_for_writing_again_changes_nothing(path: Path) -> None:
    make_catalogue(path)
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("select sql from sqlite_master").fetchall()
    open_writer(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select sql from sqlite_master").fetchall() == before
        assert connection.execute("select version from runs").fetchall() == [("first",)]


def test_a_migration_that_was_interrupted_is_done_again_as_a_whole(path: Path) -> None:
    """The state after every single statement of the first opening, as ``kill -9`` leaves it."""
    states: list[Path] = []

    def keep(_: str) -> None:
        state = path.parent.parent / f"state{len(states)}"
        shutil.copytree(path.parent, state)
        states.append(state)

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.set_trace_callback(keep)
        migrations.apply(sqlite_utils.Database(connection))
        connection.set_trace_callback(None)
        wanted = names(connection)
    assert len(states) > 15
    for state in states:
        with closing(open_writer(state / CATALOGUE)) as connection:
            assert names(connection) == wanted
            assert connection.execute("pragma user_version").fetchone() == (SCHEMA_VERSION,)


def test_rows_must_point_at_rows_that_exist(path: Path) -> None:
    with (
        closing(open_writer(path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"),
    ):
        connection.execute(
            "insert into regions (image_id, kind, x, y, w, h) values (7,'image',0,0,1,1)"
        )


# What cannot be opened


@pytest.mark.parametrize("opener", [open_reader, open_writer])
def test_a_newer_format_is_refused_naming_both_numbers(
    path: Path, opener: Callable[[Path], sqlite3.Connection]
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 4711")
        connection.execute("create table future (x)")
    before = path.read_bytes()
    with pytest.raises(IndexFormatError, match=rf"format 4711, this one reads {SCHEMA_VERSION}\)"):
        opener(path)
    assert path.read_bytes() == before, "a newer catalogue is not touched"


@pytest.mark.parametrize("opener", [open_reader, open_writer])
@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_catalogue_is_a_format_error_and_is_left_alone(
    path: Path, opener: Callable[[Path], sqlite3.Connection], content: bytes
) -> None:
    path.write_bytes(content)
    with pytest.raises(IndexFormatError, match="cannot be read as a catalogue") as caught:
        opener(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_folder_without_a_catalogue_is_no_index(path: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="embedsearch index FOLDER"):
        open_reader(path)
    assert not path.exists()


def test_a_catalogue_that_its_first_writer_never_finished_is_no_index_yet(path: Path) -> None:
    path.touch()
    with pytest.raises(IndexNotFoundError):
        open_reader(path)
    open_writer(path).close()
    open_reader(path).close()


def test_a_folder_in_place_of_the_catalogue_is_a_format_error(path: Path) -> None:
    path.mkdir()
    for opener in (open_reader, open_writer):
        with pytest.raises(IndexFormatError, match=r"catalogue\.db cannot be"):
            opener(path)


def test_a_locked_catalogue_is_never_read_past_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback journal, as on network file systems, where a writer locks readers out."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    make_catalogue(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("pragma journal_mode = delete")
        other.execute("begin exclusive")
        with pytest.raises(IndexLockedError, match="locked by another program"):
            open_reader(path)
        other.execute("rollback")
    open_reader(path).close()


# Reading


def test_a_reader_cannot_write(path: Path) -> None:
    make_catalogue(path)
    with (
        closing(open_reader(path)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("delete from runs")


@pytest.mark.parametrize("name", ["100% ?mode=rw#x&y", "new\nline", "quo'te\"s", "bytes \udcff"])
def test_a_catalogue_is_found_under_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / CATALOGUE
    make_catalogue(path)
    with closing(open_reader(path)) as connection:
        assert connection.execute("select version from runs").fetchall() == [("first",)]


def test_a_finished_index_opens_on_media_that_cannot_be_written(
    shared_folder: Path, as_a_reader: Callable[[Path], AbstractContextManager[None]]
) -> None:
    path = shared_folder / CATALOGUE
    make_catalogue(path)
    assert journal_mode(path) == "wal"
    assert os.listdir(shared_folder) == [CATALOGUE]
    with as_a_reader(shared_folder), closing(open_reader(path)) as connection:
        assert connection.execute("select version from runs").fetchall() == [("first",)]
    assert os.listdir(shared_folder) == [CATALOGUE]


def test_an_index_being_written_opens_for_a_reader_who_may_not_write(
    shared_folder: Path, as_a_reader: Callable[[Path], AbstractContextManager[None]]
) -> None:
    path = shared_folder / CATALOGUE
    with Ledger.open(path) as ledger:
        with ledger.transaction():
            ledger.start_run("still only in the log")
        with as_a_reader(shared_folder), closing(open_reader(path)) as connection:
            rows = connection.execute("select version from runs").fetchall()
    assert rows == [("still only in the log",)]


def test_an_unfinished_log_on_read_only_media_is_refused_and_not_left_out(
    shared_folder: Path, as_a_reader: Callable[[Path], AbstractContextManager[None]]
) -> None:
    path = shared_folder / "killed" / CATALOGUE
    with Ledger.open(shared_folder / CATALOGUE) as ledger:
        with ledger.transaction():
            ledger.start_run("only in the log")
        path.parent.mkdir()
        for ending in ("", "-wal"):  # the log's shared memory does not survive a copy
            shutil.copy(f"{shared_folder / CATALOGUE}{ending}", f"{path}{ending}")
    with (
        as_a_reader(path.parent),
        pytest.raises(IndexFormatError, match="was not closed by its last writer"),
    ):
        open_reader(path)
    # Where it can be written it opens, and nothing is missing.
    with closing(open_reader(path)) as connection:
        assert connection.execute("select version from runs").fetchall() == [("only in the log",)]


# Journals


def test_what_is_committed_is_on_the_disk(path: Path) -> None:
    with closing(open_writer(path)) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma synchronous").fetchone() == (2,), "2 is FULL"


def test_on_a_network_file_system_there_is_no_write_ahead_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_catalogue(path)
    assert journal_mode(path) == "wal"
    monkeypatch.setattr(database, "is_on_network", lambda _: True)
    open_writer(path).close()
    assert journal_mode(path) == "delete"


def test_this_machines_own_disk_is_not_on_the_network(path: Path) -> None:
    assert not database.is_on_network(path)


def test_the_file_system_is_that_of_the_innermost_mount(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of mounts as Linux gives it, for folders of this test."""
    spaced = str(tmp_path / "disk" / "my photos").replace(" ", r"\040")
    table = tmp_path / "mounts"
    table.write_text(
        "overlay / overlay rw 0 0\n"
        f"nas:/all {tmp_path} nfs4 rw 0 0\n"
        f"/dev/sdb1 {tmp_path}/disk ext4 rw 0 0\n"
        f"nas:/p {spaced} cifs rw 0 0\n"
    )
    monkeypatch.setattr(database, "MOUNTS", table)
    assert database.is_on_network(tmp_path / "index" / CATALOGUE)
    assert database.is_on_network(tmp_path / "disk" / "my photos" / CATALOGUE)
    assert not database.is_on_network(tmp_path / "disk" / "index" / CATALOGUE)
    assert not database.is_on_network(Path("/elsewhere") / CATALOGUE)
    assert database.is_on_network(tmp_path / "disk2" / CATALOGUE), "a longer name is no folder"
