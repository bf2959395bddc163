"""From a query vector to hits: which pictures, in which order, and with which reasons."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from album import Album
from colour_encoder import COLOURS, DIM, ColourEncoder

from embedsearch.errors import PictureError, QueryError
from embedsearch.records import Hit, Signal
from embedsearch.search.engine import Asked, Engine
from embedsearch.search.query import Query, embed
from embedsearch.store import vector_writer
from embedsearch.store.ledger import Ledger
from embedsearch.store.vector_file import vector_path

PngMaker = Callable[..., Path]


@pytest.fixture
def album(ledger: Ledger, encoder: ColourEncoder) -> Album:
    """One picture of every colour, and a vector index that holds most of them."""
    album = Album(ledger, encoder)
    for colour in list(COLOURS)[:8]:
        album.put(f"{colour}.png".encode(), colour)
    path = vector_path(ledger.path.parent, encoder.info.id)
    stored = ledger.encoder()
    added = ledger.embeddings(stored, ledger.region_ids(stored))
    vector_writer.write(path, dim=DIM, revision=stored.revision, added=added)
    for colour in list(COLOURS)[8:]:
        album.put(f"{colour}.png".encode(), colour)
    return album


@contextmanager
def engine_of(album: Album) -> Iterator[Engine]:
    stored = album.ledger.encoder(album.encoder.info.id)
    path = vector_path(album.ledger.path.parent, stored.info.id)
    with album.ledger.snapshot(), closing(Engine(album.ledger, stored, path)) as engine:
        yield engine


def names(hits: list[Hit]) -> list[str]:
    return [Path(hit.path).stem for hit in hits]


def ranking(album: Album, colour: str) -> list[str]:
    """All colours by their cosine with ``colour``, worked out without an index."""
    matrix = album.encoder.encode_texts(list(COLOURS))
    scores = matrix @ album.encoder.encode_texts([colour])[0]
    return [list(COLOURS)[place] for place in np.argsort(-scores, kind="stable")]


@pytest.mark.parametrize("colour", COLOURS)
def test_hits_are_the_nearest_pictures_best_first(album: Album, colour: str) -> None:
    query = embed(Query.of(f"something {colour}"), album.encoder)
    with engine_of(album) as engine:
        for k in (1, 3, 100):
            hits = engine.search(Asked(query), k)
            assert names(hits) == ranking(album, colour)[:k]
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
            assert hits[0].score == pytest.approx(1, abs=2e-3)
            scores = [hit.score for hit in hits]
            assert scores == sorted(scores, reverse=True)


def test_a_hit_says_where_it_is_and_why(album: Album) -> None:
    query = album.encoder.encode_texts(["blue"])[0]
    with engine_of(album) as engine:
        (hit,) = engine.search(Asked(query), 1)
    assert hit.path == "/photos/blue.png"
    assert hit.signals == (Signal("image", hit.score, (0, 0, 40, 30), None, None),)


def test_a_score_is_never_more_than_one(album: Album) -> None:
    """Rows come back from float16 a little longer or shorter than one."""
    for seed in range(20):
        colour = tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())
        picture = np.full((8, 8, 3), colour, np.uint8)
        query = album.encoder.encode_images([picture])[0]
        longer = query * 1.0005
        with engine_of(album) as engine:
            for asked in (longer, -longer):
                assert all(-1 <= hit.score <= 1 for hit in engine.search(Asked(asked), 100))
    with engine_of(album) as engine:
        red = album.vector(b"red.png")
        assert engine.search(Asked(red * np.float32(1.01)), 1)[0].score == 1


def test_a_where_expression_chooses_among_all_pictures_not_among_the_best(album: Album) -> None:
    query = album.encoder.encode_texts(["red"])[0]
    last = ranking(album, "red")[-2:]
    with engine_of(album) as engine:
        hits = engine.search(Asked(query, where=f"name in ('{last[0]}.png', '{last[1]}.png')"), 2)
        assert names(hits) == last
        assert engine.search(Asked(query, where="width > 1000"), 5) == []
        assert len(engine.search(Asked(query, where="width = 40"), 100)) == len(COLOURS)
        with pytest.raises(QueryError):
            engine.search(Asked(query, where="no such thing"), 5)


def test_hits_have_at_least_the_score_asked_for(album: Album) -> None:
    query = album.encoder.encode_texts(["red"])[0]
    with engine_of(album) as engine:
        everything = names(engine.search(Asked(query), 100))
        scores = [hit.score for hit in engine.search(Asked(query), 100)]
        between = (scores[3] + scores[4]) / 2
        assert names(engine.search(Asked(query), 100, min_score=between)) == everything[:4]
        assert names(engine.search(Asked(query), 2, min_score=between)) == everything[:2]
        assert names(engine.search(Asked(query), 100, min_score=-1)) == everything
        assert engine.search(Asked(query), 100, min_score=1.1) == []


def test_pictures_that_vanished_are_no_hits_and_leave_their_place_to_others(album: Album) -> None:
    best = ranking(album, "red")
    with album.ledger.transaction():
        album.ledger.mark_vanished([f"/photos/{name}.png".encode() for name in best[:3]])
    query = album.encoder.encode_texts(["red"])[0]
    with engine_of(album) as engine:
        assert names(engine.search(Asked(query), 4)) == best[3:7]
        assert names(engine.search(Asked(query), 100)) == best[3:]
        assert names(engine.search(Asked(query, where="1"), 4)) == best[3:7]


def test_pictures_that_came_back_are_hits_again(album: Album) -> None:
    with album.ledger.transaction():
        album.ledger.mark_vanished([b"/photos/red.png"])
    album.put(b"red.png", "red", mtime=2, vector=False)
    query = album.encoder.encode_texts(["red"])[0]
    with engine_of(album) as engine:
        assert names(engine.search(Asked(query), 1)) == ["red"]


def test_one_engine_sees_what_vanishes_while_it_is_open(album: Album) -> None:
    """Nothing about the embeddings changed, so the index keeps its engine."""
    stored = album.ledger.encoder()
    path = vector_path(album.ledger.path.parent, stored.info.id)
    query = album.encoder.encode_texts(["red"])[0]
    with closing(Engine(album.ledger, stored, path)) as engine:
        assert names(engine.search(Asked(query), 1)) == ["red"]
        with album.ledger.transaction():
            album.ledger.mark_vanished([b"/photos/red.png"])
        assert album.ledger.encoder() == stored
        assert names(engine.search(Asked(query), 2)) == ranking(album, "red")[1:3]


def test_pictures_that_became_unusable_are_no_hits(album: Album) -> None:
    with album.ledger.transaction():
        error = PictureError("decode", "no picture")
        album.ledger.fail(album.root, b"red.png", error, (1, 1), run_id=1)
    query = album.encoder.encode_texts(["red"])[0]
    with engine_of(album) as engine:
        assert names(engine.search(Asked(query), 3)) == ranking(album, "red")[1:4]


def test_one_picture_can_be_left_out_and_its_place_is_taken(album: Album) -> None:
    query = album.encoder.encode_texts(["red"])[0]
    best = ranking(album, "red")
    with engine_of(album) as engine:
        assert names(engine.search(Asked(query, without="/photos/red.png"), 3)) == best[1:4]
        assert names(engine.search(Asked(query, without="/elsewhere/red.png"), 3)) == best[:3]


def test_copies_of_the_picture_left_out_stay(album: Album) -> None:
    album.put(b"copy.png", "red", vector=False)
    with engine_of(album) as engine:
        query = album.encoder.encode_texts(["red"])[0]
        assert names(engine.search(Asked(query, without="/photos/red.png"), 1)) == ["copy"]


def test_each_encoder_finds_in_its_own_space(album: Album) -> None:
    second = Album(album.ledger, ColourEncoder(seed=1))
    for colour in ("red", "green", "blue"):
        second.put(f"{colour}.png".encode(), colour)
    for seen_by, count in ((album, len(COLOURS)), (second, 3)):
        with engine_of(seen_by) as engine:
            hits = engine.search(Asked(seen_by.encoder.encode_texts(["green"])[0]), 100)
        assert len(hits) == count
        assert names(hits)[0] == "green"
        assert hits[0].score == pytest.approx(1, abs=2e-3)


# The embedding of a picture that is indexed already


@pytest.fixture
def real(
    ledger: Ledger, encoder: ColourEncoder, png: PngMaker, tmp_path: Path
) -> tuple[Engine, str]:
    """A real file that was indexed as it is."""
    path = png(tmp_path / "photos" / "red.png", "red")
    album = Album(ledger, encoder, os.fsencode(path.parent))
    album.put(b"red.png", "red")
    status = path.stat()
    ledger.connection.execute(
        "update images set size = ?, mtime_ns = ?", (status.st_size, status.st_mtime_ns)
    )
    stored = ledger.encoder()
    return Engine(ledger, stored, vector_path(ledger.path.parent, stored.info.id)), str(path)


def test_a_picture_that_is_as_it_was_indexed_need_not_be_encoded_again(
    real: tuple[Engine, str], encoder: ColourEncoder
) -> None:
    engine, path = real
    vector = engine.embedding_of(path)
    assert vector is not None
    assert vector @ encoder.encode_texts(["red"])[0] > 0.999
    assert engine.embedding_of(path + "x") is None


def test_a_picture_that_changed_since_has_no_embedding_to_reuse(
    real: tuple[Engine, str], png: PngMaker
) -> None:
    engine, path = real
    os.utime(path, ns=(1, 1))
    assert engine.embedding_of(path) is None
    Path(path).unlink()
    assert engine.embedding_of(path) is None


def test_a_picture_known_to_another_encoder_only_has_no_embedding_to_reuse(
    real: tuple[Engine, str], ledger: Ledger
) -> None:
    _, path = real
    with ledger.transaction():
        other = ledger.add_encoder(ColourEncoder(seed=1).info)
    engine = Engine(ledger, other, vector_path(ledger.path.parent, other.info.id))
    assert engine.embedding_of(path) is None
