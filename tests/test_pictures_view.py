"""``--where``: what an expression can say, and what it cannot do."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from album import Album
from colour_encoder import ColourEncoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedsearch.errors import IndexNotFoundError, PictureError, QueryError
from embedsearch.store import pictures_view
from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger
from embedsearch.store.pictures_view import matching_images

YEAR_2024 = 1_704_067_200
"""The first second of 2024, UTC."""


@dataclass(frozen=True)
class Shelf:
    """Four pictures that are there, one that vanished, one that is none."""

    album: Album
    path: Path

    def matching(self, expression: str) -> list[str]:
        """Paths of the pictures that match, by path."""
        ids = set(matching_images(self.path, expression))
        images = {image.id: image.path for image in self.album.ledger.images()}
        assert ids <= images.keys()
        return sorted(images[id_] for id_ in ids)


@pytest.fixture
def shelf(ledger: Ledger, encoder: ColourEncoder, index_folder: Path) -> Shelf:
    album = Album(ledger, encoder)
    pictures: list[tuple[bytes, str, dict[str, Any]]] = [
        (b"a.png", "red", {"width": 100, "taken_at": "2023-01-02T03:04:05"}),
        (b"sub/b.jpg", "green", {"width": 200, "height": 400, "format": "JPEG"}),
        (b"sub/deep/100%_c'\n.png", "blue", {"width": 300, "taken_at": None, "exif": None}),
        (b"\xff.png", "white", {"mtime_ns": YEAR_2024 * 10**9 + 999_999_999}),
        (b"gone.png", "black", {}),
    ]
    for path, colour, changes in pictures:
        content = replace(album.content(colour), **changes)
        with ledger.transaction():
            ledger.store(
                album.root, path, content, album.stored, anew=False, is_gone=lambda *_: False
            )
    with ledger.transaction():
        ledger.mark_vanished([b"/photos/gone.png"])
        ledger.fail(album.root, b"bad.png", PictureError("decode", "no picture"), (1, 1), run_id=1)
    return Shelf(album, index_folder / CATALOGUE)


A, B, C, D = (
    "/photos/a.png",
    "/photos/sub/b.jpg",
    "/photos/sub/deep/100%_c'\n.png",
    "/photos/\udcff.png",
)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("width >= 200", [B, C]),
        ("width between 100 and 200 and height < 100", [A]),
        ("width < height", [B]),
        ("name like '%.png'", [A, C, D]),
        ("name = 'a.png'", [A]),
        ("name = 'b.jpg' and folder = '/photos/sub'", [B]),
        ("folder = '/photos'", [A, D]),
        ("folder glob '/photos/sub*'", [B, C]),
        ("path = '/photos/a.png'", [A]),
        (r"name like '100\%\_%' escape '\'", [C]),
        ("name like '%c''\n.png'", [C]),
        (r"name = '\xff.png'", [D]),
        ("exif ->> 'Model' = 'green'", [B]),
        ("json_extract(exif, '$.Model') in ('red', 'green')", [A, B]),
        ("exif is null", [C]),
        ("taken_at < '2024'", [A]),
        ("taken_at is null", [C]),
        ("strftime('%m', taken_at) = '05'", [B, D]),
        ("format = 'JPEG'", [B]),
        ("modified_at = '2024-01-01 00:00:00'", [D]),
        ("size > 0", [A, B, C, D]),
        ("0", []),
        ("null", []),
        ("width > 150 or name = 'a.png'", [A, B, C]),
        ("width = (select max(width) from pictures)", [C]),
        ("id in (select id from pictures where width > 150)", [B, C]),
        ("exists (select 1 from pictures as other where other.width > pictures.width * 2)", [A, D]),
        ("width > 150 -- a comment swallows nothing", [B, C]),
        ("width > 150 /* nor does this */", [B, C]),
        ("case when width > 250 then 1 else 0 end", [C]),
        ("(select count(*) from pictures) = 4", [A, B, C, D]),
    ],
)
def test_an_expression_finds_the_pictures_for_which_it_is_true(
    shelf: Shelf, expression: str, found: list[str]
) -> None:
    assert shelf.matching(expression) == sorted(found)


def test_the_columns_are_those_that_the_error_names(shelf: Shelf) -> None:
    with pytest.raises(QueryError) as caught:
        shelf.matching("widht > 100")
    said = str(caught.value)
    assert "no such column: widht" in said
    named = said.partition("Columns: ")[2].partition(".")[0].split(", ")
    assert named == [
        *("id", "path", "folder", "name", "size", "width", "height", "format"),
        *("taken_at", "modified_at", "exif", "cluster", "cluster_name", "tags"),
        *("objects", "words", "duration"),
    ]
    for column in named:
        shelf.matching(f"{column} is not null")


HOSTILE = {
    "another clause": "1) union select id from pictures where (1",
    "another clause, then a comment": "1) union select id from pictures -- ",
    "values of its own": "0) union select 4711 where (1",
    "values that are no ids": "0) union select x'00' where (1",
    "an order": "1) order by (width",
    "a limit": "1) limit (1",
    "a group": "1) group by (width",
    "two parentheses too many": "1)) union select id from pictures where ((1",
    "a second statement": "1; delete from images",
    "a second statement after a closing parenthesis": "1); delete from images; --",
    "another table": "id in (select id from images)",
    "another table, no column of it": "exists (select vector from embeddings)",
    "the schema": "(select count(sql) from sqlite_master) > 0",
    "the schema's other name": "(select sql from sqlite_schema limit 1) is not null",
    "a hidden column": "hash is not null",
    "a column of another table": "images.hash is not null",
    "a subquery that takes the view's name":
        "exists (with pictures as (select vector as v from embeddings) select v from pictures)",
    "a column of the view's own table under the view's name":
        "exists (with pictures as (select hash as v from images) select v from pictures)",
    "a pragma": "pragma user_version",
    "a pragma as a table": "exists (select 1 from pragma_table_info('images'))",
    "a table-valued function": "exists (select 1 from json_each('[1]'))",
    "endless recursion":
        "exists (with recursive c(x) as (select 1 union all select x + 1 from c) select x from c)",
    "an extension": "load_extension('evil.so')",
    "a file": "readfile('/etc/passwd') is not null",
    "a huge value": "length(randomblob(1000000000)) > 0",
    "a huge value step by step": "length(hex(hex(hex(zeroblob(2000000))))) > 0",
    "an assignment": "update images set width = 1",
    "an attachment": "attach 'x.db' as x",
    "an aggregate": "count(*) > 1",
    "a parameter": "width > ?",
    "a named parameter": "width > :width",
    "nothing": "",
    "spaces": "  ",
    "only a comment": "-- nothing",
    "an open comment": "1 /*",
    "an open quote": "name = 'a",
    "several values": "1, 2",
    "a zero byte": "1\0",
    "a lone surrogate": "name = '\udcff'",
    "no SQL at all": "))))",
}  # fmt: skip


@pytest.mark.parametrize("expression", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_expression_over_the_view_is_refused_and_changes_nothing(
    shelf: Shelf, expression: str
) -> None:
    before = list(shelf.album.ledger.images())
    with pytest.raises(QueryError, match=r"is no expression that can be used here") as caught:
        shelf.matching(expression)
    assert repr(expression) in str(caught.value)
    assert "Example: --where" in str(caught.value)
    assert list(shelf.album.ledger.images()) == before


@pytest.mark.parametrize(
    "endless",
    [
        "(select count(*) from pictures a, pictures b, pictures c, pictures d, pictures e, "
        "pictures f, pictures g, pictures h, pictures i, pictures j, pictures k) > 0",
        # Few steps, each of them long.
        "(select sum(length(hex(zeroblob(499000 + h.id)))) from pictures a, pictures b, "
        "pictures c, pictures d, pictures e, pictures f, pictures g, pictures h) > 0",
    ],
)
def test_an_expression_without_end_is_cut_off(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, endless: str
) -> None:
    monkeypatch.setattr(pictures_view, "SECONDS", 0.3)
    begun = time.monotonic()
    with pytest.raises(QueryError, match=r"it takes longer than 0\.3 seconds"):
        shelf.matching(endless)
    assert time.monotonic() - begun < 3


PIECES = [
    "1",
    "0",
    "width",
    "(",
    ")",
    "((",
    "))",
    ",",
    ";",
    "--",
    "/*",
    "*/",
    "\n",
    "'",
    '"',
    "x''",
]
PIECES += ["and", "or", "not", "union", "all", "select", "from", "where", "pictures", "images"]
PIECES += ["hash", "order by", "limit", "group by", "having", "values", "with", "as", "in", "is"]
PIECES += ["exists", "null", "+", "-", "=", "<", "like", "case", "when", "then", "end", "4711"]


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(st.sampled_from(PIECES), max_size=12))
def test_whatever_is_said_the_answer_is_pictures_that_are_there_or_a_refusal(
    shelf: Shelf, words: list[str]
) -> None:
    try:
        found = shelf.matching(" ".join(words))
    except QueryError:
        return
    assert set(found) <= {A, B, C, D}
    assert len(found) == len(set(found))


def test_under_the_root_of_the_file_system_paths_begin_with_one_slash(
    ledger: Ledger, encoder: ColourEncoder, index_folder: Path
) -> None:
    album = Album(ledger, encoder, b"/")
    album.put(b"top.png", "red")
    album.put(b"sub/b.png", "green")
    shelf = Shelf(album, index_folder / CATALOGUE)
    assert shelf.matching("path = '/top.png' and folder = '/' and name = 'top.png'") == ["/top.png"]
    assert shelf.matching("folder = '/sub'") == ["/sub/b.png"]


def test_a_name_that_repeats_its_folder_is_told_apart_from_it(
    ledger: Ledger, encoder: ColourEncoder, index_folder: Path
) -> None:
    album = Album(ledger, encoder, b"/a")
    album.put(b"a/a", "red")
    shelf = Shelf(album, index_folder / CATALOGUE)
    assert shelf.matching("folder = '/a/a' and name = 'a'") == ["/a/a/a"]


def test_where_there_is_no_index_there_is_nothing_to_ask(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        matching_images(tmp_path / CATALOGUE, "1")
