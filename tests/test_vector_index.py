"""Search over one encoder's embeddings: file and catalogue together, however they differ."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from album import Album
from colour_encoder import DIM, ColourEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest import Rows, nearest, some_of, some_rows, whole_query

from embedsearch.store import vector_index, vector_writer
from embedsearch.store.catalogue import Catalogue, StoredEncoder
from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger
from embedsearch.store.vector_file import vector_path
from embedsearch.store.vector_index import VectorIndex


@pytest.fixture
def album(ledger: Ledger, encoder: ColourEncoder) -> Album:
    return Album(ledger, encoder)


@pytest.fixture
def path(index_folder: Path, encoder: ColourEncoder) -> Path:
    return vector_path(index_folder, encoder.info.id)


OTHER = [(np.array([1, 2]), np.ones((2, DIM + 1), np.float32))]


def sync(album: Album, path: Path) -> None:
    """Write the file as the catalogue is now."""
    path.unlink(missing_ok=True)
    stored = album.ledger.encoder(album.encoder.info.id)
    added = album.ledger.embeddings(stored, album.ledger.region_ids(stored))
    vector_writer.write(path, dim=DIM, revision=stored.revision, added=added)


@contextmanager
def opened(album: Album, path: Path) -> Iterator[VectorIndex]:
    with album.ledger.snapshot():
        index = VectorIndex(album.ledger, album.ledger.encoder(album.encoder.info.id), path)
        with closing(index):
            yield index


@contextmanager
def catalogue_of(rows: Rows, empty_catalogue: Path) -> Iterator[tuple[Ledger, StoredEncoder]]:
    """A catalogue that knows just these embeddings, under these region ids."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(empty_catalogue, Path(folder) / CATALOGUE))
        with Ledger.open(path) as ledger:
            with ledger.transaction():
                info = replace(ColourEncoder().info, dim=rows.dim)
                key = ledger.add_encoder(info).key
                db = ledger.connection
                root, _ = ledger.add_root(b"/", 1)
                db.execute(
                    "insert into images (id, root_id, path, name, size, mtime_ns, hash, width, "
                    "height, format, status) values (1, ?, 'a', 'a', 1, 1, '', 1, 1, '', 'ok')",
                    (root.id,),
                )
                db.executemany(
                    "insert into regions (id, image_id, kind, x, y, w, h) "
                    "values (?, 1, 'object', 0, 0, 1, 1)",
                    ((id_,) for id_ in rows.ids.tolist()),
                )
                db.executemany(
                    "insert into embeddings values (?, ?, ?)",
                    (
                        (id_, key, vector.astype(np.float16).tobytes())
                        for id_, vector in zip(rows.ids.tolist(), rows.vectors, strict=True)
                    ),
                )
            yield ledger, ledger.encoder()


@settings(deadline=None, max_examples=50)
@given(data=st.data(), rows=some_rows(120), seed=st.integers(0, 99))
def test_whatever_the_file_lacks_or_has_too_many_the_answer_is_the_catalogues(
    empty_catalogue: Path, data: st.DataObject, rows: Rows, seed: int
) -> None:
    """Of all rows the catalogue knows some and the file holds some, in any order."""
    n = len(rows.ids)
    known = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n), "known"), bool)
    held = np.array(data.draw(st.lists(st.integers(0, max(0, n - 1)), unique=True), "held"), int)
    held = held[held < n]
    truth = Rows(rows.ids[known], rows.vectors[known])
    k = data.draw(st.one_of(st.integers(1, n + 2), st.just(10**6)), "k")
    allowed = data.draw(st.none() | some_of(rows.ids), "allowed")
    excluded = data.draw(st.none() | some_of(rows.ids), "excluded")
    query = whole_query(rows.dim, seed)
    expected = nearest(truth, query, k, allowed, excluded)
    with catalogue_of(truth, empty_catalogue) as (ledger, stored):
        path = vector_path(ledger.path.parent, stored.info.id)
        added = [(rows.ids[held], rows.vectors[held])]
        vector_writer.write(path, dim=rows.dim, revision="behind..........", added=added)
        with closing(VectorIndex(ledger, stored, path)) as index:
            for way in ("scan", "FAISS"):
                ids, scores = index.search(query, k, allowed=allowed, excluded=excluded)
                assert (ids.tolist(), scores.tolist()) == expected, way
            assert index.lag == len(set(truth.ids.tolist()) ^ set(rows.ids[held].tolist()))


@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(0, 300), dim=st.integers(1, 64), k=st.integers(1, 310), seed=st.integers(0, 9)
)
def test_cosines_of_real_embeddings_agree_with_numpy(
    empty_catalogue: Path, count: int, dim: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(count, dim))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rows = Rows(np.arange(1, count + 1), unit.astype(np.float32))
    query = rng.normal(size=dim).astype(np.float32)
    query /= np.linalg.norm(query)
    exact = rows.vectors.astype(np.float16).astype(np.float64) @ query.astype(np.float64)
    with catalogue_of(rows, empty_catalogue) as (ledger, stored):
        path = vector_path(ledger.path.parent, stored.info.id)
        added = ledger.embeddings(stored, rows.ids)
        vector_writer.write(path, dim=dim, revision=stored.revision, added=added)
        with closing(VectorIndex(ledger, stored, path)) as index:
            scanned, by_faiss = index.search(query, k), index.search(query, k)
    for ids, scores in (scanned, by_faiss):
        np.testing.assert_allclose(scores, np.sort(exact)[::-1][:k], atol=1e-5)
        np.testing.assert_allclose(scores, exact[ids - 1], atol=1e-5)
        assert len(set(ids.tolist())) == min(k, count)


def test_a_file_as_the_catalogue_is_now_lags_by_nothing(album: Album, path: Path) -> None:
    album.put(b"a.png", "red")
    sync(album, path)
    with opened(album, path) as index:
        assert index.lag == 0
    album.put(b"b.png", "green")
    with opened(album, path) as index:
        assert index.lag == 1


def test_without_a_file_everything_is_searched_from_memory(album: Album, path: Path) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "blue")
    with opened(album, path) as index:
        assert index.lag == 2
        ids, scores = index.search(album.encoder.encode_texts(["blue"])[0], 1)
    assert ids.tolist() == [album.region_id(b"b.png")]
    assert scores[0] == pytest.approx(1, abs=1e-3)
    assert not path.exists(), "readers never write"


def test_an_empty_index_answers_nothing(album: Album, path: Path) -> None:
    query = album.encoder.encode_texts(["red"])[0]
    for _ in range(2):
        with opened(album, path) as index:
            for _ in range(2):
                ids, scores = index.search(query, 10)
                assert (ids.tolist(), scores.tolist()) == ([], [])
        sync(album, path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"garbage" * 1000),
        lambda path: faiss.write_index(faiss.IndexFlatIP(DIM), os.fspath(path)),
        lambda path: vector_writer.write(
            path, dim=DIM + 1, revision="other dimension.", added=OTHER
        ),
    ],
    ids=["cut short", "empty", "garbage", "FAISS without our trailer", "another dimension"],
)
def test_a_file_that_is_not_ours_or_not_whole_counts_as_none(
    album: Album, path: Path, spoil: object
) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "blue")
    sync(album, path)
    spoil(path)  # type: ignore[operator]
    with opened(album, path) as index:
        assert index.lag == 2
        for _ in range(2):
            ids, _ = index.search(album.encoder.encode_texts(["blue"])[0], 5)
            assert ids.tolist() == [album.region_id(b"b.png"), album.region_id(b"a.png")]


def test_copies_come_in_the_order_of_their_ids_wherever_the_cut_falls(
    album: Album, path: Path
) -> None:
    for number in range(6):
        album.put(b"%d.png" % number, "red", vector=number == 0)
    ids = album.ledger.region_ids(album.stored).tolist()
    query = album.encoder.encode_texts(["orange"])[0]
    for written in (False, True):  # all from memory, then all from the file
        if written:
            sync(album, path)
        with opened(album, path) as index:
            for k in (1, 4, 6, 20):
                for _ in range(2):
                    assert index.search(query, k)[0].tolist() == ids[:k]


def test_a_vector_index_opened_in_a_snapshot_answers_for_it_whatever_lies_in_its_place(
    album: Album, index_folder: Path, path: Path
) -> None:
    """The catalogue's state is read first, then the file: a writer may replace it in between."""
    album.put(b"stays.png", "red")
    album.put(b"changes.png", "green")
    album.put(b"goes.png", "blue")
    old = {name: album.region_id(name) for name in (b"stays.png", b"changes.png", b"goes.png")}
    query = album.encoder.encode_texts(["blue"])[0]
    with Catalogue.open(index_folder / CATALOGUE) as reader, reader.snapshot():
        stored = reader.encoder()
        album.put(b"changes.png", "white")
        album.put(b"comes.png", "blue", vector=False)
        with album.ledger.transaction():
            album.ledger.drop(b"/photos/goes.png")
        sync(album, path)
        with closing(VectorIndex(reader, stored, path)) as index:
            assert index.lag == 4
            for _ in range(2):
                found, scores = index.search(query, 10)
                assert found[0] == old[b"goes.png"]
                assert sorted(found.tolist()) == sorted(old.values())
                assert scores[0] > 0.999


def test_an_open_vector_index_keeps_answering_when_its_file_is_replaced(
    album: Album, path: Path
) -> None:
    album.put(b"a.png", "red")
    sync(album, path)
    region = album.region_id(b"a.png")
    with opened(album, path) as index:
        vector_writer.write(path, dim=DIM, revision="x" * 16, added=[], removed=np.array([region]))
        for _ in range(2):
            assert index.search(album.encoder.encode_texts(["red"])[0], 5)[0].tolist() == [region]


def test_the_first_search_of_a_large_index_goes_through_faiss_too(
    album: Album, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album.put(b"a.png", "red")
    sync(album, path)
    monkeypatch.setattr(vector_index, "SCAN_LIMIT", DIM - 1)
    query = album.encoder.encode_texts(["red"])[0]
    with opened(album, path) as index:
        monkeypatch.delattr("embedsearch.store.vector_file.VectorFile.scores")
        assert index.search(query, 1)[0].tolist() == [album.region_id(b"a.png")]


def test_a_first_search_imports_no_faiss_and_a_second_one_does(album: Album, path: Path) -> None:
    album.put(b"a.png", "red")
    sync(album, path)
    code = """
import sys
from pathlib import Path
import numpy as np
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.vector_index import VectorIndex
catalogue = Catalogue.open(Path(sys.argv[1]))
stored = catalogue.encoder()
index = VectorIndex(catalogue, stored, Path(sys.argv[2]))
for _ in range(2):
    ids, _ = index.search(np.ones(stored.info.dim, np.float32), 3)
    print(ids.tolist(), "faiss" in sys.modules, "sqlite_utils" in sys.modules)
"""
    arguments = [sys.executable, "-c", code, str(album.ledger.path), str(path)]
    told = subprocess.run(arguments, capture_output=True, check=True, text=True)
    assert told.stdout == "[1] False False\n[1] True False\n"
