"""What readers see of an index: encoders, embeddings, pictures, and one state at a time."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from album import Album
from colour_encoder import DIM, ColourEncoder
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import (
    EncoderMismatchError,
    IndexFormatError,
    IndexNotFoundError,
    PictureError,
)
from embedsearch.records import EncoderInfo
from embedsearch.store import catalogue as catalogue_module
from embedsearch.store import soundness
from embedsearch.store.catalogue import (
    Catalogue,
    encoder_info,
    encoder_json,
    is_inside,
)
from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger


@pytest.fixture
def album(ledger: Ledger, encoder: ColourEncoder) -> Album:
    return Album(ledger, encoder)


# Opening


def test_there_is_no_index_where_there_is_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError, match=r"embedsearch index FOLDER --index"):
        Catalogue.open(tmp_path / "nowhere" / CATALOGUE)


# Encoders


def test_an_encoders_facts_come_back_as_they_were(encoder: ColourEncoder) -> None:
    info = replace(encoder.info, mean=(0.485, 0.456, 0.406), description="na\u00efve \u2713")
    assert encoder_info(encoder_json(info)) == info
    assert isinstance(encoder_info(encoder_json(info)), EncoderInfo)
    assert encoder_json(info).isascii()


def test_an_encoder_is_found_by_id_and_by_spec_and_the_first_by_default(
    album: Album, ledger: Ledger
) -> None:
    other = Album(ledger, ColourEncoder(seed=1)).stored
    assert ledger.encoder() == album.stored
    assert ledger.encoder("colour") == album.stored
    assert ledger.encoder(album.stored.info.id) == album.stored
    assert ledger.encoder("colour:1") == other
    assert ledger.encoder(other.info.id) == other


def test_an_encoder_that_the_index_lacks_is_a_mismatch_that_names_what_there_is(
    album: Album,
) -> None:
    with pytest.raises(EncoderMismatchError) as caught:
        album.ledger.encoder("colour:2")
    assert "colour:2" in str(caught.value)
    assert f"colour ({album.encoder.info.id})" in str(caught.value)
    assert "--encoder colour:2" in str(caught.value)


@pytest.mark.parametrize("named", [None, "colour"])
def test_an_index_without_pictures_has_no_encoder(ledger: Ledger, named: str | None) -> None:
    with pytest.raises(IndexNotFoundError, match="has no pictures yet"):
        ledger.encoder(named)


# Embeddings


def test_embeddings_come_in_chunks_by_id_and_unknown_ids_are_left_out(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "CHUNK", 2)
    colours = ["red", "green", "blue", "white", "black"]
    for colour in colours:
        album.put(f"{colour}.png".encode(), colour)
    known = album.ledger.region_ids(album.stored)
    assert known.tolist() == [album.region_id(f"{colour}.png".encode()) for colour in colours]
    wanted = np.concatenate([known[::-1], [999_999]])
    chunks = list(album.ledger.embeddings(album.stored, wanted))
    assert [len(ids) for ids, _ in chunks] == [2, 2, 1]
    found = {int(id_): row for ids, rows in chunks for id_, row in zip(ids, rows, strict=True)}
    assert sorted(found) == known.tolist()
    for colour, id_ in zip(colours, known.tolist(), strict=True):
        expected = album.encoder.encode_texts([colour])[0].astype(np.float16)
        assert found[id_].dtype == np.float32
        assert np.array_equal(found[id_], expected.astype(np.float32))


def test_without_ids_there_are_no_embeddings(album: Album) -> None:
    assert list(album.ledger.embeddings(album.stored, np.empty(0, np.int64))) == []
    assert album.ledger.region_ids(album.stored).tolist() == []


def test_an_embedding_of_the_wrong_size_is_a_named_error_and_verify_can_find_it(
    album: Album,
) -> None:
    album.put(b"good.png", "red")
    album.put(b"short.png", "green")
    album.put(b"odd.png", "blue")
    album.put(b"zero.png", "white")
    album.put(b"nan.png", "black")
    for name, blob in [
        (b"short.png", b"\0" * (2 * DIM - 2)),
        (b"odd.png", b"\0" * 7),
        (b"zero.png", b"\0" * 2 * DIM),
        (b"nan.png", np.full(DIM, np.nan, np.float16).tobytes()),
    ]:
        album.ledger.connection.execute(
            "update embeddings set vector = ? where region_id = ?", (blob, album.region_id(name))
        )
    assert dict(soundness.bad_embeddings(album.ledger, album.stored)) == {
        b"/photos/short.png": "embedding of 96 bytes, not 98",
        b"/photos/odd.png": "embedding of 7 bytes, not 98",
        b"/photos/zero.png": "embedding is not of unit length",
        b"/photos/nan.png": "embedding is not of unit length",
    }
    with pytest.raises(IndexFormatError, match="verify --repair"):
        list(album.ledger.embeddings(album.stored, album.ledger.region_ids(album.stored)))


def test_the_embedding_of_a_picture_is_that_of_the_encoder_asked_for(album: Album) -> None:
    other = Album(album.ledger, ColourEncoder(seed=1))
    album.put(b"a.png", "red")
    image = album.image(b"a.png")
    assert image is not None
    assert album.ledger.embedding_of(image, album.stored) is not None
    assert album.ledger.embedding_of(image, other.stored) is None


def test_an_encoder_without_embeddings_counts_none(album: Album) -> None:
    other = Album(album.ledger, ColourEncoder(seed=1))
    album.put(b"a.png", "red")
    assert album.ledger.embedding_counts() == {album.encoder.info.id: 1, other.encoder.info.id: 0}


# Pictures


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (b"/photos/a.png", True),
        (b"/photos/sub/b.png", True),
        (b"/photos", False),
        (b"/photos/", False),
        (b"/photos/sub", False),
        (b"/photos/A.png", False),
        (b"/photos2/a.png", False),
        (b"/a.png", False),
        (b"a.png", False),
        (b"", False),
    ],
)
def test_a_picture_is_found_by_its_absolute_path(album: Album, path: bytes, known: bool) -> None:
    album.put(b"a.png", "red")
    album.put(b"sub/b.png", "green")
    found = album.ledger.image_at(path)
    assert (found is not None and os.fsencode(found.path) == path) == known


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (b"/photos", True),
        (b"/photos/sub", True),
        (b"/photos/sub/b.png", True),
        (b"/photos/su", False),
        (b"/photos/sub/c.png", False),
        (b"/photos/sub0", False),
        (b"/photos2", False),
        (b"/", False),
    ],
)
def test_a_folder_is_known_when_it_is_a_root_or_holds_a_picture_of_one(
    album: Album, path: bytes, known: bool
) -> None:
    album.put(b"sub/b.png", "green")
    assert album.ledger.knows_under(path) == known


def test_pictures_are_walked_by_status_a_page_at_a_time(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "CHUNK", 3)
    names = [b"%d.png" % number for number in range(7)]
    for name in names:
        album.put(name, "red")
    with album.ledger.transaction():
        album.ledger.mark_vanished([b"/photos/1.png", b"/photos/5.png"])
        album.ledger.fail(album.root, b"3.png", PictureError("decode", "no"), (1, 1), run_id=1)
    assert [image.path[-5:-4] for image in album.ledger.images()] == list("0123456")
    assert [image.path[-5:-4] for image in album.ledger.images("ok")] == list("0246")
    assert [image.path[-5:-4] for image in album.ledger.images("vanished")] == list("15")
    assert [image.path[-5:-4] for image in album.ledger.images("failed")] == ["3"]
    assert album.ledger.picture_counts() == {"ok": 4, "failed": 1, "vanished": 2}


def test_regions_are_those_of_pictures_that_are_there(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    ids = album.ledger.region_ids(album.stored).tolist()
    with album.ledger.transaction():
        album.ledger.mark_vanished([b"/photos/b.png"])
    found = album.ledger.regions([*ids, 12345])
    assert {id_: region.path for id_, region in found.items()} == {ids[0]: "/photos/a.png"}
    assert album.ledger.regions([]) == {}
    assert album.ledger.region_count() == 2


def test_pictures_that_share_a_region_list_are_asked_for_together(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    images = [image.id for image in album.ledger.images()]
    ids = album.ledger.region_ids_of_images(images)
    assert ids.tolist() == [album.region_id(b"a.png"), album.region_id(b"b.png")]
    assert album.ledger.region_ids_of_images([]).tolist() == []


def test_rows_for_export_are_the_present_regions_with_their_embeddings(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "CHUNK", 2)
    for name, colour in [(b"a", "red"), (b"\xff", "green"), (b"gone", "blue"), (b"d", "white")]:
        album.put(name, colour)
    Album(album.ledger, ColourEncoder(seed=1)).put(b"a", "red")
    with album.ledger.transaction():
        album.ledger.mark_vanished([b"/photos/gone"])
    rows = list(album.ledger.export_rows(album.stored))
    assert [row.path for row in rows] == ["/photos/a", "/photos/\udcff", "/photos/d"]
    for row, colour in zip(rows, ["red", "green", "white"], strict=True):
        assert (row.kind, row.box, row.label, row.cluster) == ("image", (0, 0, 40, 30), None, None)
        assert (row.width, row.height, row.taken_at) == (40, 30, "2024-05-06T07:08:09")
        assert row.embedding @ album.encoder.encode_texts([colour])[0] > 0.999


# The whole


def test_a_sound_catalogue_has_no_faults(album: Album) -> None:
    album.put(b"a.png", "red")
    assert soundness.structural_faults(album.ledger) == []
    assert soundness.pictures_without_region(album.ledger) == []
    assert list(soundness.bad_embeddings(album.ledger, album.stored)) == []


def test_rows_that_point_nowhere_and_pictures_without_region_are_faults(
    album: Album, index_folder: Path
) -> None:
    album.put(b"a.png", "red")
    album.put(b"\xff.png", "green")
    region = album.region_id(b"\xff.png")
    album.ledger.close()
    with sqlite3.connect(index_folder / CATALOGUE) as careless:  # foreign keys are off here
        careless.execute("delete from regions where id = ?", (region,))
    careless.close()
    with Catalogue.open(index_folder / CATALOGUE) as catalogue:
        assert soundness.structural_faults(catalogue) == [
            "a row of embeddings points at a row of regions that is not there"
        ]
        assert soundness.pictures_without_region(catalogue) == [b"/photos/\xff.png"]


def test_a_damaged_page_is_a_fault(album: Album, index_folder: Path) -> None:
    for number in range(200):
        album.put(b"%d.png" % number, "red", vector=number == 0)
    album.ledger.close()
    path = index_folder / CATALOGUE
    content = bytearray(path.read_bytes())
    page = 4096
    last = len(content) // page - 1
    content[last * page : (last + 1) * page] = b"\xaa" * page
    path.write_bytes(content)
    with Catalogue.open(path) as catalogue:
        faults = soundness.structural_faults(catalogue)
    assert faults
    assert all(fault.startswith("SQLite: ") for fault in faults)


@given(
    path=st.binary(max_size=8).map(lambda tail: b"/a" + tail),
    folder=st.sampled_from([b"/", b"/a", b"/a/", b"/a/b", b"/ab"]),
)
def test_a_path_is_inside_a_folder_when_it_goes_on_after_its_slash(
    path: bytes, folder: bytes
) -> None:
    stem = folder.rstrip(b"/")
    expected = path[: len(stem) + 1] == stem + b"/" and path != folder
    assert is_inside(path, folder) == expected
    assert not is_inside(folder, folder)


# Snapshots


def test_a_snapshot_stays_as_it_was_while_a_writer_goes_on(
    album: Album, index_folder: Path
) -> None:
    album.put(b"a.png", "red")
    with Catalogue.open(index_folder / CATALOGUE) as reader:
        with reader.snapshot():
            before = list(reader.images())
            revision = reader.encoder().revision
            album.put(b"b.png", "green")
            album.put(b"a.png", "blue")
            assert list(reader.images()) == before
            assert reader.encoder().revision == revision
            assert len(reader.region_ids(reader.encoder())) == 1
        assert [image.path for image in reader.images()] == ["/photos/a.png", "/photos/b.png"]
        assert reader.encoder().revision != revision


def test_a_snapshot_ends_with_an_error_too(album: Album, index_folder: Path) -> None:
    album.put(b"a.png", "red")
    with Catalogue.open(index_folder / CATALOGUE) as reader:
        with pytest.raises(ZeroDivisionError), reader.snapshot():
            list(reader.images())
            1 / 0  # noqa: B018
        album.put(b"b.png", "green")
        assert len(list(reader.images())) == 2
