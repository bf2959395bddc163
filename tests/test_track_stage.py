"""The stage ``track`` over an index: one region an object that passes through a video."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event
from typing import Any

import clips
import numpy as np
import pytest
from colour_detector import ColourDetector
from colour_encoder import COLOURS, ColourEncoder
from PIL import Image

from embedsearch.enrichers.base import Enricher, Findings, Pixels
from embedsearch.enrichers.track import Tracking
from embedsearch.indexing import pipeline
from embedsearch.indexing.crops import embed_objects
from embedsearch.indexing.enrich import StageRun
from embedsearch.indexing.progress import Silent
from embedsearch.indexing.reading import ReadingRun
from embedsearch.indexing.tracks import TrackRun
from embedsearch.records import StageReport
from embedsearch.store.findings import coverage
from embedsearch.store.ledger import Ledger

Thing = tuple[str, int, int]
"""Colour, x, y of a rectangle of 20 x 30 pixels."""


def frame(*things: Thing, size: tuple[int, int] = (160, 90)) -> Pixels:
    picture = Image.new("RGB", size, "white")
    for colour, x, y in things:
        picture.paste(COLOURS[colour], (x, y, x + 20, y + 30))
    return np.array(picture)


def walks() -> list[Pixels]:
    """Red walks to the right and leaves, then blue comes; after a cut green stands."""
    frames = [frame(("red", 4 * n, 20)) for n in range(20)]
    frames += [frame()] * 3 + [frame(("blue", 140 - 4 * n, 40)) for n in range(20)]
    ground = np.full((90, 160, 3), 70, np.uint8)
    ground[20:50, 60:80] = COLOURS["green"]
    return [*frames, *[ground] * 15]


class Indexed:
    def __init__(self, ledger: Ledger, films: Path, folder: Path) -> None:
        self.ledger, self.films, self.folder = ledger, films, folder
        self.encoder = ColourEncoder()

    def index(self) -> None:
        pipeline.run(
            self.ledger, self.encoder, self.folder, [os.fsencode(self.films)], version="test"
        )

    def track(self, detector: Any = None, stop: Event | None = None, every: int = 1) -> StageReport:
        return self._run(TrackRun, Tracking(detector or ColourDetector(), every=every), stop)

    def read(self, reader: ColourDetector, stop: Event | None = None) -> StageReport:
        return self._run(ReadingRun, reader, stop)

    def _run(self, kind: type[StageRun], enricher: Enricher, stop: Event | None) -> StageReport:
        with self.ledger.transaction():
            run_id = self.ledger.start_run("test")
        run = kind(
            self.ledger,
            self.encoder,
            self.folder,
            enricher,
            crop="box",
            run_id=run_id,
            progress=Silent(),
            stop=stop or Event(),
        )
        return run.run(2)

    def tracks(self, path: Path) -> dict[str, Any]:
        """What was followed in a video, by label."""
        image = self.ledger.image_at(bytes(path))
        assert image is not None
        ids = self.ledger.region_ids_of_images([image.id])
        found = self.ledger.regions(ids.tolist()).values()
        return {one.label: one for one in found if one.label is not None}

    def vector(self, region_id: int) -> Any:
        stored = self.ledger.encoder(self.encoder.info.id)
        ((_, rows),) = self.ledger.embeddings(stored, np.array([region_id]))
        return rows[0]


@pytest.fixture
def indexed(ledger: Ledger, index_folder: Path, tmp_path: Path) -> Indexed:
    films = tmp_path / "films"
    clips.write_frames(films / "walks", walks())
    Image.new("RGB", (160, 90), COLOURS["red"]).save(films / "photo.png")
    made = Indexed(ledger, films, index_folder)
    made.index()
    return made


def test_each_object_is_a_region_with_its_best_box_its_times_and_its_look(indexed: Indexed) -> None:
    report = indexed.track()
    assert (report.looked_at, report.objects, report.failed) == (1, 3, 0)
    tracks = indexed.tracks(indexed.films / "walks")
    assert set(tracks) == {"red", "blue", "green"}
    times = {label: (one.start, one.until) for label, one in tracks.items()}
    assert times["red"] == pytest.approx((0.0, 2.0))
    assert times["blue"] == pytest.approx((2.4, 4.3), abs=0.11)
    assert times["green"] == pytest.approx((4.4, 5.8), abs=0.11)
    for label, one in tracks.items():
        assert one.kind == "track" and one.box[2:] == (20.0, 30.0)
        assert one.start <= one.at < one.until
        shown = frame((label, 0, 0))[:30, :20]
        assert float(indexed.vector(one.id) @ indexed.encoder.encode_images([shown])[0]) > 0.99
    x = 4 * round(tracks["red"].at * clips.RATE)
    assert tracks["red"].box == (x, 20.0, 20.0, 30.0), "where it was at that time"


def test_boxes_are_in_pixels_of_the_whole_frame(
    ledger: Ledger, index_folder: Path, tmp_path: Path
) -> None:
    large = [np.asarray(Image.fromarray(one).resize((640, 360), 0)) for one in walks()[:12]]
    path = clips.write_frames(tmp_path / "films" / "large", large)
    indexed = Indexed(ledger, tmp_path / "films", index_folder)
    indexed.index()
    indexed.track()
    _, y, w, h = indexed.tracks(path)["red"].box
    assert (y, w, h) == pytest.approx((80, 80, 120), abs=12)


def test_a_video_is_followed_once_and_its_copy_gets_the_same(indexed: Indexed) -> None:
    indexed.track()
    before = indexed.tracks(indexed.films / "walks")
    assert indexed.track().looked_at == 0
    import shutil

    shutil.copytree(indexed.films / "walks", indexed.films / "copy")
    indexed.index()
    report = indexed.track()
    assert (report.looked_at, report.copied) == (0, 0), "the copy came with all that was found"
    copied = indexed.tracks(indexed.films / "copy")
    assert {label: one.box for label, one in copied.items()} == {
        label: one.box for label, one in before.items()
    }
    (told,) = coverage(indexed.ledger)
    assert (told.stage, told.pictures) == ("track", 2)


def test_another_detector_replaces_the_tracks_and_leaves_the_shots(indexed: Indexed) -> None:
    indexed.track()

    class OnlyRed(ColourDetector):
        def enrich(self, picture: Pixels) -> Findings:
            found = super().enrich(picture).objects
            return Findings(objects=tuple(one for one in found if one.label == "red"))

    image = indexed.ledger.image_at(bytes(indexed.films / "walks"))
    assert image is not None

    def shots() -> list[int]:
        ids = indexed.ledger.region_ids_of_images([image.id])
        found = indexed.ledger.regions(ids.tolist()).values()
        return [one.id for one in found if one.label is None]

    before = shots()
    assert len(before) >= 3
    assert indexed.track(OnlyRed(seed=1)).looked_at == 1
    assert set(indexed.tracks(indexed.films / "walks")) == {"red"}
    assert shots() == before


def test_a_video_that_cannot_be_followed_fails_alone(indexed: Indexed) -> None:
    clips.write_frames(indexed.films / "other", walks()[:12])
    indexed.index()
    (indexed.films / "other" / "000003.png").touch()

    report = indexed.track()
    assert (report.looked_at, report.failed) == (1, 1)
    (failure,) = indexed.ledger.failures()
    assert failure.stage == "track" and "changed since it was indexed" in failure.reason
    indexed.index()
    assert indexed.track().looked_at == 1
    assert indexed.ledger.failures() == []


def test_a_stage_that_is_stopped_in_the_middle_of_a_video_stores_nothing_of_it(
    indexed: Indexed,
) -> None:
    stop = Event()
    stopping = ColourDetector(fails=lambda _: stop.set())
    assert indexed.track(stopping, stop=stop).looked_at == 0
    assert indexed.tracks(indexed.films / "walks") == {}
    assert indexed.track().looked_at == 1
    assert len(indexed.tracks(indexed.films / "walks")) == 3


def test_an_encoder_that_comes_later_embeds_the_tracks_too(indexed: Indexed) -> None:
    indexed.track()
    before = indexed.tracks(indexed.films / "walks")
    indexed.encoder = ColourEncoder(1)
    indexed.index()
    made = embed_objects(
        indexed.ledger,
        indexed.encoder,
        indexed.folder,
        workers=2,
        progress=Silent(),
        stop=Event(),
    )
    assert made == 3
    assert indexed.tracks(indexed.films / "walks") == before
    for label, one in before.items():
        shown = frame((label, 0, 0))[:30, :20]
        assert float(indexed.vector(one.id) @ indexed.encoder.encode_images([shown])[0]) > 0.99


# Words


def test_words_of_a_video_are_read_with_the_time_when_they_stand_there(indexed: Indexed) -> None:
    report = indexed.read(ColourDetector(stage="ocr"))
    assert (report.looked_at, report.failed) == (2, 0), "the video, and the photo beside it"
    rows = indexed.ledger.connection.execute(
        "select images.path, text, at, w, h from text_lines join images on images.id = image_id"
    ).fetchall()
    assert [row[1:3] for row in rows if row[0] == b"photo.png"] == [("red", None)]
    lines = {text: (at, w, h) for path, text, at, w, h in rows if path == b"walks"}
    assert set(lines) >= {"green"}
    at, w, h = lines["green"]
    assert 4.3 <= at < 5.8 and (w, h) == (20, 30)
    assert indexed.read(ColourDetector(stage="ocr")).looked_at == 0


def test_reading_that_is_stopped_in_the_middle_of_a_video_stores_nothing_of_it(
    indexed: Indexed,
) -> None:
    (indexed.films / "photo.png").unlink()
    indexed.index()
    stop = Event()
    stopping = ColourDetector(stage="ocr", fails=lambda _: stop.set())
    assert indexed.read(stopping, stop).looked_at == 0
    assert not indexed.ledger.connection.execute("select 1 from text_lines").fetchall()
