"""What an index run writes: outcomes, region ids, revisions, roots, failures, transactions."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from album import DEVICE, Album
from colour_encoder import ColourEncoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedsearch.errors import PictureError
from embedsearch.store import soundness
from embedsearch.store.catalogue import Catalogue, Root
from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger
from embedsearch.store.picture_rows import printable
from embedsearch.store.picture_writer import TWINS

READ = PictureError("read", "permission denied")
DECODE = PictureError("decode", "it is no picture")


@pytest.fixture
def album(ledger: Ledger, encoder: ColourEncoder) -> Album:
    return Album(ledger, encoder)


@pytest.fixture
def second(ledger: Ledger, album: Album) -> Album:
    """The same root, seen with another encoder."""
    return Album(ledger, ColourEncoder(seed=1))


def fail(album: Album, path: bytes, error: PictureError, read_as: tuple[int, int] | None) -> None:
    with album.ledger.transaction():
        album.ledger.fail(album.root, path, error, read_as, run_id=1)


def reasons(ledger: Ledger) -> dict[str, str]:
    return {failure.path: f"{failure.stage}: {failure.reason}" for failure in ledger.failures()}


# One picture


def test_a_new_picture_is_stored_with_all_that_was_read(album: Album) -> None:
    content = album.content("red", mtime=77)
    assert album.put(b"a.png", "red", mtime=77) == "new"
    image = album.image(b"a.png")
    assert image is not None
    assert (image.path, image.status) == ("/photos/a.png", "ok")
    assert (image.size, image.mtime_ns, image.hash) == (content.size, 77, content.hash)
    assert (image.width, image.height, image.taken_at) == (40, 30, "2024-05-06T07:08:09")
    region = album.ledger.regions([album.region_id(b"a.png")])[album.region_id(b"a.png")]
    assert (region.path, region.kind, region.box) == ("/photos/a.png", "image", (0, 0, 40, 30))
    assert content.vector is not None
    stored = album.vector(b"a.png")
    assert stored.dtype == np.float32
    assert np.array_equal(stored, content.vector.astype(np.float16).astype(np.float32))


def test_a_touched_picture_keeps_everything_but_its_time(album: Album) -> None:
    album.put(b"a.png", "red", mtime=1)
    before, region, revision = album.image(b"a.png"), album.region_id(b"a.png"), album.revision()
    assert album.put(b"a.png", "red", mtime=2, vector=False) == "unchanged"
    after = album.image(b"a.png")
    assert before is not None and after is not None
    assert (after.id, after.mtime_ns) == (before.id, 2)
    assert album.region_id(b"a.png") == region
    assert album.revision() == revision


def test_a_changed_picture_gets_a_new_region_with_a_larger_id(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    image, old = album.image(b"a.png"), album.region_id(b"a.png")
    assert album.put(b"a.png", "blue", mtime=2) == "changed"
    changed = album.image(b"a.png")
    assert image is not None and changed is not None
    assert changed.id == image.id
    assert changed.hash == album.content("blue").hash
    assert album.region_id(b"a.png") > album.region_id(b"b.png") > old
    assert album.ledger.region_ids(album.stored).tolist() == sorted(
        [album.region_id(b"a.png"), album.region_id(b"b.png")]
    )
    assert album.encoder.encode_texts(["blue"])[0] @ album.vector(b"a.png") > 0.999


def test_a_region_id_is_never_used_again(
    album: Album, encoder: ColourEncoder, index_folder: Path
) -> None:
    """Not even the largest, which SQLite would hand out again without AUTOINCREMENT."""
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    largest = album.region_id(b"b.png")
    with album.ledger.transaction():
        album.ledger.drop(b"/photos/b.png")
    album.ledger.close()
    with Ledger.open(index_folder / CATALOGUE) as ledger:
        again = Album(ledger, encoder)
        assert again.put(b"c.png", "blue") == "new"
        assert again.region_id(b"c.png") > largest


def test_content_that_nobody_knows_must_come_with_a_vector(album: Album) -> None:
    album.put(b"a.png", "red")
    revision = album.revision()
    assert album.put(b"b.png", "green", vector=False) is None
    assert album.put(b"a.png", "green", vector=False) is None
    assert album.image(b"b.png") is None
    image = album.image(b"a.png")
    assert image is not None
    assert image.hash == album.content("red").hash
    assert album.revision() == revision


def test_the_same_hash_at_another_size_is_other_content(album: Album) -> None:
    album.put(b"a.png", "red")
    content = album.content("red", vector=False)
    assert album.ledger.content_known(content.size, content.hash, album.stored)
    assert not album.ledger.content_known(content.size + 1, content.hash, album.stored)
    assert not album.ledger.content_known(content.size, "0" * 32, album.stored)


def test_a_picture_that_lost_its_region_gets_a_new_one(album: Album) -> None:
    """Nothing we write leads there; a damaged catalogue may."""
    album.put(b"a.png", "red")
    album.ledger.connection.execute("delete from regions")
    assert album.put(b"a.png", "red", vector=False) is None
    assert album.put(b"a.png", "red") == "unchanged"
    region = album.ledger.regions([album.region_id(b"a.png")])
    assert [one.box for one in region.values()] == [(0, 0, 40, 30)]
    assert album.vector(b"a.png") is not None


# Copies and moves


@pytest.mark.parametrize("vector", [False, True])
def test_a_copy_has_a_row_of_its_own_and_the_same_embedding(album: Album, vector: bool) -> None:
    album.put(b"a.png", "red", mtime=1)
    assert album.put(b"sub/b.png", "red", mtime=9, vector=vector) == "copies"
    first, copy = album.image(b"a.png"), album.image(b"sub/b.png")
    assert first is not None and copy is not None
    assert copy.id != first.id
    assert (copy.mtime_ns, copy.width, copy.height, copy.taken_at) == (9, 40, 30, first.taken_at)
    assert album.region_id(b"sub/b.png") > album.region_id(b"a.png")
    assert np.array_equal(album.vector(b"a.png"), album.vector(b"sub/b.png"))
    exifs = album.ledger.connection.execute("select distinct exif from images").fetchall()
    assert exifs == [('{"Model": "red"}',)]


def test_a_copy_takes_every_region_along(album: Album) -> None:
    album.put(b"a.png", "red")
    image = album.image(b"a.png")
    assert image is not None
    connection = album.ledger.connection
    object_id = connection.execute(
        "insert into regions (image_id, kind, x, y, w, h, label, score) "
        "values (?, 'object', 1, 2, 3, 4, 'dog', 0.5)",
        (image.id,),
    ).lastrowid
    connection.execute(
        "insert into embeddings select ?, encoder, vector from embeddings", (object_id,)
    )
    album.put(b"b.png", "red", vector=False)
    copied = album.ledger.regions(album.region_ids(b"b.png"))
    assert [(one.kind, one.label, one.box) for _, one in sorted(copied.items())] == [
        ("image", None, (0, 0, 40, 30)),
        ("object", "dog", (1, 2, 3, 4)),
    ]
    assert album.ledger.embedding_counts() == {album.encoder.info.id: 4}


def test_a_moved_picture_keeps_its_row_and_its_regions(album: Album) -> None:
    album.put(b"a.png", "red")
    before, region, revision = album.image(b"a.png"), album.region_id(b"a.png"), album.revision()
    assert album.put(b"b/c.png", "red", mtime=5, vector=False, gone=[b"a.png"]) == "moved"
    assert album.image(b"a.png") is None
    after = album.image(b"b/c.png")
    assert before is not None and after is not None
    assert (after.id, after.mtime_ns, after.status) == (before.id, 5, "ok")
    assert album.region_id(b"b/c.png") == region
    assert album.revision() == revision, "the vector index need not be written"
    name = album.ledger.connection.execute("select name from images").fetchone()
    assert name == ("b/c.png",)


def test_a_picture_that_vanished_and_turns_up_elsewhere_was_moved(album: Album) -> None:
    album.put(b"a.png", "red")
    region = album.region_id(b"a.png")
    with album.ledger.transaction():
        album.ledger.mark_vanished([b"/photos/a.png"])
    assert album.put(b"b.png", "red", vector=False, gone=[b"a.png"]) == "moved"
    assert album.region_id(b"b.png") == region
    assert album.ledger.picture_counts() == {"ok": 1, "failed": 0, "vanished": 0}


def test_a_vanished_picture_whose_file_may_still_exist_is_copied(album: Album) -> None:
    """It was marked while a disk was not mounted, say."""
    album.put(b"a.png", "red")
    with album.ledger.transaction():
        album.ledger.mark_vanished([b"/photos/a.png"])
    assert album.put(b"b.png", "red", vector=False, gone=[]) == "copies"
    assert album.ledger.picture_counts() == {"ok": 1, "failed": 0, "vanished": 1}


def test_of_several_copies_the_one_that_is_gone_was_moved(album: Album) -> None:
    for name in (b"1.png", b"2.png", b"3.png"):
        album.put(name, "red")
    region = album.region_id(b"2.png")
    assert album.put(b"new.png", "red", vector=False, gone=[b"2.png"]) == "moved"
    assert album.region_id(b"new.png") == region
    assert album.image(b"1.png") is not None
    assert album.image(b"3.png") is not None


def test_one_file_that_is_gone_moves_only_once(album: Album) -> None:
    album.put(b"a.png", "red")
    assert album.put(b"b.png", "red", vector=False, gone=[b"a.png"]) == "moved"
    assert album.put(b"c.png", "red", vector=False, gone=[b"a.png"]) == "copies"
    assert len(album.ledger.region_ids(album.stored)) == 2


def test_a_picture_moved_over_another_leaves_nothing_of_that_one(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    moved, overwritten = album.region_id(b"a.png"), album.region_id(b"b.png")
    assert album.put(b"b.png", "red", vector=False, gone=[b"a.png"]) == "moved"
    assert album.region_id(b"b.png") == moved
    assert album.ledger.region_ids(album.stored).tolist() == [moved]
    assert album.ledger.regions([overwritten]) == {}


def test_a_picture_copied_over_another_is_a_change(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    overwritten = album.region_id(b"b.png")
    assert album.put(b"b.png", "red", vector=False) == "changed"
    assert album.region_id(b"b.png") > overwritten
    assert np.array_equal(album.vector(b"a.png"), album.vector(b"b.png"))
    assert len(album.ledger.region_ids(album.stored)) == 2


def test_thousands_of_copies_are_not_all_asked_whether_they_moved(album: Album) -> None:
    with album.ledger.transaction():
        for number in range(300):
            path, content = b"%d.png" % number, album.content("red", vector=number == 0)
            album.ledger.store(
                album.root, path, content, album.stored, anew=False, is_gone=lambda *_: False
            )
    asked: list[bytes] = []

    def is_gone(root: Root, path: bytes) -> bool:
        asked.append(path)
        return False

    with album.ledger.transaction():
        content = album.content("red", vector=False)
        outcome = album.ledger.store(
            album.root, b"last.png", content, album.stored, anew=False, is_gone=is_gone
        )
    assert outcome == "copies"
    assert len(asked) == TWINS


# Looking anew


def test_looking_anew_replaces_the_embedding_of_the_same_content(album: Album) -> None:
    album.put(b"a.png", "red")
    image, region, revision = album.image(b"a.png"), album.region_id(b"a.png"), album.revision()
    assert album.put(b"a.png", "red", anew=True) == "changed"
    assert album.image(b"a.png") == image
    assert album.region_id(b"a.png") > region
    assert album.revision() != revision


def test_looking_anew_needs_a_new_embedding(album: Album) -> None:
    album.put(b"a.png", "red")
    assert album.put(b"a.png", "red", anew=True, vector=False) is None


def test_looking_anew_makes_no_move_and_no_copy(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "red")
    assert album.put(b"b.png", "red", anew=True, gone=[b"a.png"]) == "changed"
    assert album.image(b"a.png") is not None


def test_looking_anew_keeps_what_other_encoders_made_of_the_same_content(
    album: Album, second: Album
) -> None:
    album.put(b"a.png", "red")
    second.put(b"a.png", "red")
    kept = second.vector(b"a.png")
    assert album.put(b"a.png", "red", anew=True) == "changed"
    assert np.array_equal(second.vector(b"a.png"), kept)
    assert album.ledger.region_ids(album.stored).tolist() == [album.region_id(b"a.png")]
    assert album.ledger.region_ids(second.stored).tolist() == [album.region_id(b"a.png")]


def test_new_content_drops_what_every_encoder_made_of_the_old(album: Album, second: Album) -> None:
    album.put(b"a.png", "red")
    second.put(b"a.png", "red")
    album.put(b"a.png", "green", anew=True)
    assert second.vector(b"a.png") is None
    assert album.vector(b"a.png") is not None


# Several encoders


def test_two_encoders_embed_the_same_region_side_by_side(album: Album, second: Album) -> None:
    album.put(b"a.png", "red")
    region = album.region_id(b"a.png")
    assert second.vector(b"a.png") is None
    assert second.put(b"a.png", "red") == "unchanged"
    assert album.region_id(b"a.png") == region
    assert album.ledger.embedding_counts() == {album.encoder.info.id: 1, second.encoder.info.id: 1}
    red, other_red = album.encoder.encode_texts(["red"])[0], second.encoder.encode_texts(["red"])[0]
    assert album.vector(b"a.png") @ red > 0.999
    assert second.vector(b"a.png") @ other_red > 0.999
    assert [one.info for one in album.ledger.encoders()] == [
        album.encoder.info,
        second.encoder.info,
    ]


def test_what_one_encoder_knows_is_no_embedding_for_another(album: Album, second: Album) -> None:
    album.put(b"a.png", "red")
    content = album.content("red", vector=False)
    assert not second.ledger.content_known(content.size, content.hash, second.stored)
    assert second.put(b"a.png", "red", vector=False) is None
    assert second.put(b"b.png", "red", vector=False) is None


def test_a_second_encoder_too_embeds_copies_once(album: Album, second: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "red", vector=False)
    assert second.put(b"a.png", "red") == "unchanged"
    assert second.put(b"b.png", "red", vector=False) == "unchanged"
    assert np.array_equal(second.vector(b"a.png"), second.vector(b"b.png"))


def test_a_new_copy_brings_its_twin_up_to_the_second_encoder(album: Album, second: Album) -> None:
    album.put(b"a.png", "red")
    assert second.put(b"b.png", "red") == "copies"
    for seen_by in (album, second):
        assert seen_by.vector(b"a.png") is not None
        assert np.array_equal(seen_by.vector(b"a.png"), seen_by.vector(b"b.png"))


def test_adding_an_encoder_that_is_there_changes_nothing(album: Album) -> None:
    album.put(b"a.png", "red")
    with album.ledger.transaction():
        assert album.ledger.add_encoder(album.encoder.info) == album.ledger.encoder()
    assert len(album.ledger.encoders()) == 1


# Revisions


def put(path: bytes, colour: str, **how: object) -> Callable[[Album], object]:
    return lambda album: album.put(path, colour, **how)  # type: ignore[arg-type]


def within(change: Callable[[Album], object]) -> Callable[[Album], object]:
    def changed(album: Album) -> None:
        with album.ledger.transaction():
            change(album)

    return changed


@pytest.mark.parametrize(
    ("change", "first_changes", "second_changes"),
    [
        # a.png is known to both encoders, b.png to the first alone.
        (put(b"c.png", "blue"), True, False),
        (put(b"a.png", "blue"), True, True),
        (put(b"b.png", "blue"), True, False),
        (put(b"c.png", "red", vector=False), True, True),
        (put(b"c.png", "green", vector=False), True, False),
        (put(b"a.png", "red", anew=True), True, True),
        (put(b"b.png", "green", anew=True), True, False),
        (put(b"b.png", "red", vector=False), True, True),
        (put(b"c.png", "red", vector=False, gone=[b"a.png"]), False, False),
        (put(b"b.png", "red", vector=False, gone=[b"a.png"]), True, False),
        (put(b"a.png", "red", mtime=5, vector=False), False, False),
        (put(b"c.png", "blue", vector=False), False, False),
        (lambda album: fail(album, b"a.png", DECODE, (1, 1)), True, True),
        (lambda album: fail(album, b"b.png", DECODE, (1, 1)), True, False),
        (lambda album: fail(album, b"a.png", READ, None), False, False),
        (lambda album: fail(album, b"new.png", DECODE, (1, 1)), False, False),
        (within(lambda album: album.ledger.drop(b"/photos/a.png")), True, True),
        (within(lambda album: album.ledger.drop(b"/photos/b.png")), True, False),
        (within(lambda album: album.ledger.drop(b"/photos/no.png")), False, False),
        (within(lambda album: album.ledger.mark_vanished([b"/photos/a.png"])), False, False),
        (within(lambda album: album.ledger.add_root(b"/", 1)), False, False),
        (within(lambda album: None), False, False),
    ],
)
def test_a_revision_changes_exactly_when_that_encoders_embeddings_do(
    album: Album,
    second: Album,
    change: Callable[[Album], object],
    first_changes: bool,
    second_changes: bool,
) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    second.put(b"a.png", "red")
    revisions = album.revision(), second.revision()
    ids = [album.ledger.region_ids(one.stored).tolist() for one in (album, second)]
    change(album)
    assert (album.revision() != revisions[0], second.revision() != revisions[1]) == (
        first_changes,
        second_changes,
    )
    now = [album.ledger.region_ids(one.stored).tolist() for one in (album, second)]
    assert (now[0] != ids[0], now[1] != ids[1]) == (first_changes, second_changes)


def test_a_revision_is_one_that_never_was_before(album: Album) -> None:
    seen = {album.revision()}
    for number in range(50):
        album.put(b"%d.png" % number, "red")
        assert album.revision() not in seen
        seen.add(album.revision())


# Failures


def test_a_file_that_cannot_be_read_keeps_what_is_known_of_it(album: Album) -> None:
    album.put(b"a.png", "red")
    before, region = album.image(b"a.png"), album.region_id(b"a.png")
    fail(album, b"a.png", READ, None)
    assert album.image(b"a.png") == before
    assert album.region_id(b"a.png") == region
    assert reasons(album.ledger) == {"/photos/a.png": "read: permission denied"}


def test_a_large_file_that_could_not_be_read_to_its_end_keeps_what_is_known(album: Album) -> None:
    album.put(b"a.png", "red")
    fail(album, b"a.png", READ, (500, 5))
    image = album.image(b"a.png")
    assert image is not None
    assert (image.status, image.size) == ("ok", album.content("red").size)


def test_bytes_that_are_no_picture_any_more_lose_the_old_embedding(album: Album) -> None:
    album.put(b"a.png", "red")
    fail(album, b"a.png", DECODE, (500, 5))
    image = album.image(b"a.png")
    assert image is not None
    assert (image.status, image.size, image.mtime_ns, image.hash) == ("failed", 500, 5, "")
    assert album.ledger.region_ids(album.stored).tolist() == []
    assert album.ledger.region_count() == 0
    assert reasons(album.ledger) == {"/photos/a.png": "decode: it is no picture"}


def test_a_picture_that_is_mended_is_no_failure_any_more(album: Album) -> None:
    fail(album, b"a.png", DECODE, (500, 5))
    assert album.ledger.picture_counts() == {"ok": 0, "failed": 1, "vanished": 0}
    assert album.put(b"a.png", "red", mtime=6) == "changed"
    assert album.ledger.picture_counts() == {"ok": 1, "failed": 0, "vanished": 0}
    assert reasons(album.ledger) == {}


def test_files_that_failed_are_no_copies_of_each_other(album: Album) -> None:
    fail(album, b"a.png", DECODE, (500, 5))
    fail(album, b"b.png", DECODE, (500, 5))
    assert album.ledger.picture_counts()["failed"] == 2
    assert not album.ledger.content_known(500, "", album.stored)


def test_the_last_reason_counts(album: Album) -> None:
    fail(album, b"a.png", READ, None)
    fail(album, b"a.png", DECODE, (500, 5))
    assert reasons(album.ledger) == {"/photos/a.png": "decode: it is no picture"}


def test_failures_of_a_folder_are_those_at_or_under_it(album: Album) -> None:
    for name in (b"a", b"a.png", b"a/b.png", b"a/c/d.png", b"a0", b"ab/c.png"):
        fail(album, name, READ, None)
    under = [failure.path for failure in album.ledger.failures(b"/photos/a")]
    assert under == ["/photos/a", "/photos/a/b.png", "/photos/a/c/d.png"]
    with album.ledger.transaction():
        album.ledger.clear_failures(b"/photos/a")
    assert sorted(reasons(album.ledger)) == ["/photos/a.png", "/photos/a0", "/photos/ab/c.png"]
    with album.ledger.transaction():
        album.ledger.clear_failures(b"/")
    assert reasons(album.ledger) == {}


# Roots


def test_a_folder_inside_a_root_belongs_to_it(album: Album) -> None:
    with album.ledger.transaction():
        assert album.ledger.add_root(b"/photos", 1) == (album.root, b"")
        assert album.ledger.add_root(b"/photos/2024/may", 1) == (album.root, b"2024/may")
    assert album.ledger.roots() == [album.root]
    assert album.root.device == DEVICE


def test_a_folder_whose_name_only_begins_the_same_is_a_root_of_its_own(album: Album) -> None:
    with album.ledger.transaction():
        other, below = album.ledger.add_root(b"/photos2", 7)
    assert (other.path, other.device, below) == (b"/photos2", 7, b"")
    assert other.id != album.root.id


def test_roots_inside_a_new_one_fold_into_it_and_their_pictures_keep_their_rows(
    ledger: Ledger, encoder: ColourEncoder
) -> None:
    first, second = Album(ledger, encoder, b"/p/2023"), Album(ledger, encoder, b"/p/2024")
    beside = Album(ledger, encoder, b"/p2")
    first.put(b"a.png", "red")
    second.put(b"deep/b.png", "green")
    second.put(b"\xff'\n.png", "blue")
    beside.put(b"c.png", "white")
    before = {image.id: image.path for image in ledger.images()}
    regions = ledger.region_ids(first.stored).tolist()
    with ledger.transaction():
        outer, below = ledger.add_root(b"/p", 9)
    assert (outer.path, below) == (b"/p", b"")
    assert [root.path for root in ledger.roots()] == [b"/p", b"/p2"]
    assert {image.id: image.path for image in ledger.images()} == before
    assert ledger.region_ids(first.stored).tolist() == regions
    stored = dict(
        ledger.connection.execute("select path, name from images where root_id = ?", (outer.id,))
    )
    assert stored == {
        b"2023/a.png": "2023/a.png",
        b"2024/deep/b.png": "2024/deep/b.png",
        b"2024/\xff'\n.png": "2024/\\xff'\n.png",
    }
    kinds = ledger.connection.execute("select distinct typeof(path) from images").fetchall()
    assert kinds == [("blob",)]
    image = ledger.image_at(b"/p/2024/\xff'\n.png")
    assert image is not None
    assert os.fsencode(image.path) == b"/p/2024/\xff'\n.png"


def test_everything_folds_into_the_root_of_the_file_system(
    ledger: Ledger, encoder: ColourEncoder
) -> None:
    album = Album(ledger, encoder, b"/photos")
    album.put(b"a.png", "red")
    with ledger.transaction():
        outer, below = ledger.add_root(b"/", 1)
        assert ledger.add_root(b"/photos/sub", 1) == (outer, b"photos/sub")
    assert below == b""
    assert ledger.roots() == [outer]
    image = ledger.image_at(b"/photos/a.png")
    assert image is not None
    assert image.path == "/photos/a.png"
    everything = Album(ledger, encoder, b"/")
    assert everything.put(b"top.png", "green") == "new"
    assert [image.path for image in ledger.images()] == ["/photos/a.png", "/top.png"]


def test_a_root_that_holds_nothing_any_more_is_dropped(album: Album) -> None:
    with album.ledger.transaction():
        album.ledger.add_root(b"/empty", 1)
    album.put(b"a.png", "red")
    with album.ledger.transaction():
        album.ledger.drop_empty_roots()
    assert [root.path for root in album.ledger.roots()] == [b"/photos"]
    with album.ledger.transaction():
        album.ledger.drop(b"/photos/a.png")
        album.ledger.drop_empty_roots()
    assert album.ledger.roots() == []


def test_the_device_of_a_root_can_change(album: Album) -> None:
    with album.ledger.transaction():
        album.ledger.set_device(album.root, 2**63 - 1)
    assert album.ledger.roots() == [Root(album.root.id, b"/photos", 2**63 - 1)]


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.binary(min_size=1).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_any_file_name_comes_back_byte_for_byte(ledger: Ledger, name: bytes) -> None:
    album = Album(ledger, ColourEncoder())
    path = b"sub/" + name
    fail(album, path, READ, None)
    album.put(path, "red")
    image = ledger.image_at(b"/photos/" + path)
    assert image is not None
    assert os.fsencode(image.path) == b"/photos/" + path
    assert [os.fsencode(found.path) for found in ledger.images()] == [b"/photos/" + path]
    assert reasons(ledger) == {}
    fail(album, path, DECODE, (1, 1))
    assert [os.fsencode(failure.path) for failure in ledger.failures()] == [b"/photos/" + path]
    with ledger.transaction():
        ledger.drop(b"/photos/" + path)
        ledger.clear_failures(b"/photos")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"plain.png", "plain.png"),
        ("na\u00efve \U0001f436.png".encode(), "na\u00efve \U0001f436.png"),
        (b"\xff\xfe.png", "\\xff\\xfe.png"),
        (b"new\nline", "new\nline"),
        (b"cut \xe2\x82", "cut \\xe2\\x82"),
    ],
)
def test_the_printable_name_is_text_whatever_the_bytes(path: bytes, name: str) -> None:
    assert printable(path) == name
    name.encode()


# Taking out


def test_a_vanished_picture_keeps_its_embedding_but_is_no_hit(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    region = album.region_id(b"a.png")
    with album.ledger.transaction():
        album.ledger.mark_vanished([b"/photos/a.png", b"/photos/unknown.png"])
    assert album.vector(b"a.png") is not None
    assert album.ledger.hidden_region_ids().tolist() == [region]
    assert album.ledger.regions([region]) == {}
    assert album.put(b"a.png", "red", mtime=3, vector=False) == "unchanged"
    assert album.ledger.hidden_region_ids().tolist() == []
    assert album.region_id(b"a.png") == region


def test_a_dropped_picture_leaves_no_row_behind(album: Album) -> None:
    album.put(b"a.png", "red")
    with album.ledger.transaction():
        album.ledger.drop(b"/photos/a.png")
    for table in ("images", "regions", "embeddings"):
        count = album.ledger.connection.execute(f"select count(*) from {table}").fetchone()
        assert count == (0,), table


# Runs


def test_a_run_that_was_killed_has_no_end(ledger: Ledger) -> None:
    assert ledger.last_run() is None
    with ledger.transaction():
        first = ledger.start_run("1.2.3")
        ledger.finish_run(first, {"new": 3, "interrupted": False})
    run = ledger.last_run()
    assert run is not None
    assert (run["version"], run["counts"]) == ("1.2.3", {"new": 3, "interrupted": False})
    assert run["started_at"] <= run["finished_at"]
    with ledger.transaction():
        assert ledger.start_run("1.2.4") > first
    run = ledger.last_run()
    assert run is not None
    assert (run["version"], run["finished_at"], run["counts"]) == ("1.2.4", None, None)


# Transactions


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_transaction_that_fails_leaves_nothing(album: Album, error: type[BaseException]) -> None:
    album.put(b"a.png", "red")
    revision, images = album.revision(), list(album.ledger.images())
    with pytest.raises(error), album.ledger.transaction():
        album.ledger.drop(b"/photos/a.png")
        album.ledger.add_root(b"/", 1)
        album.ledger.start_run("x")
        raise error
    assert (album.revision(), list(album.ledger.images())) == (revision, images)
    assert (album.ledger.roots(), album.ledger.last_run()) == ([album.root], None)
    with album.ledger.transaction():
        pass
    assert album.revision() == revision, "what was rolled back does not count as a change later"


def test_readers_see_a_transaction_when_it_is_complete(album: Album, index_folder: Path) -> None:
    album.put(b"a.png", "red")
    with Catalogue.open(index_folder / CATALOGUE) as reader:
        with album.ledger.transaction():
            album.ledger.drop(b"/photos/a.png")
            assert len(list(reader.images())) == 1
        assert list(reader.images()) == []


@pytest.mark.parametrize("dies_in_a_transaction", [False, True])
def test_a_process_that_is_killed_loses_its_open_transaction_and_nothing_else(
    index_folder: Path, encoder: ColourEncoder, dies_in_a_transaction: bool
) -> None:
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            album = Album(Ledger.open(index_folder / CATALOGUE), encoder)
            album.put(b"a.png", "red")
            album.put(b"b.png", "green")
            if dies_in_a_transaction:
                with album.ledger.transaction():
                    album.ledger.drop(b"/photos/a.png")
                    os.kill(os.getpid(), 9)
            os.kill(os.getpid(), 9)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 9
    with Ledger.open(index_folder / CATALOGUE) as ledger:
        assert [image.path for image in ledger.images()] == ["/photos/a.png", "/photos/b.png"]
        assert soundness.structural_faults(ledger) == []
        assert len(ledger.region_ids(ledger.encoder())) == 2


def test_after_a_checkpoint_the_file_alone_is_the_whole_catalogue(
    album: Album, index_folder: Path, tmp_path: Path
) -> None:
    album.put(b"a.png", "red")
    album.ledger.checkpoint()
    copy = tmp_path / "copy" / CATALOGUE
    copy.parent.mkdir()
    copy.write_bytes((index_folder / CATALOGUE).read_bytes())
    with Catalogue.open(copy) as catalogue:
        assert [image.path for image in catalogue.images()] == ["/photos/a.png"]
