"""Stages of enriching: what they find is stored by picture, once, and touches nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from colour_detector import ColourDetector, scene
from colour_encoder import ColourEncoder
from PIL import Image

from embedsearch.errors import EnricherError
from embedsearch.indexing import pipeline
from embedsearch.indexing.crops import embed_objects
from embedsearch.indexing.enrich import StageRun
from embedsearch.indexing.progress import Silent
from embedsearch.indexing.staging import Wish, parse
from embedsearch.records import StageReport
from embedsearch.store.findings import coverage
from embedsearch.store.ledger import Ledger


class Indexed:
    """A folder of scenes, indexed; ``enrich(detector)`` runs one stage over it."""

    def __init__(self, ledger: Ledger, photos: Path, index_folder: Path) -> None:
        self.ledger, self.photos, self.folder = ledger, photos, index_folder
        self.encoder = ColourEncoder()

    def index(self, encoder: Any = None, **how: Any) -> None:
        pipeline.run(
            self.ledger,
            encoder or self.encoder,
            self.folder,
            [os.fsencode(self.photos)],
            version="test",
            workers=2,
            **how,
        )

    def enrich(
        self,
        enricher: ColourDetector,
        paths: list[bytes] | None = None,
        crop: Any = "box",
        stop: Event | None = None,
        workers: int = 2,
    ) -> StageReport:
        run = StageRun(
            self.ledger,
            self.encoder,
            self.folder,
            enricher,
            crop=crop,
            run_id=1,
            progress=Silent(),
            stop=stop or Event(),
        )
        return run.run(workers, paths)

    def objects(self, name: str) -> list[tuple[str, tuple[float, ...]]]:
        rows = self.ledger.connection.execute(
            "select label, x, y, w, h from regions join images on images.id = image_id "
            "where kind = 'object' and name = ? order by regions.id",
            (name,),
        )
        return [(label, tuple(box)) for label, *box in rows]

    def lines(self, name: str) -> list[str]:
        rows = self.ledger.connection.execute(
            "select text from text_lines join images on images.id = image_id where name = ?",
            (name,),
        )
        return [text for (text,) in rows]

    def vector(self, name: str, label: str, encoder: str | None = None) -> Any:
        row = self.ledger.connection.execute(
            "select vector from embeddings join regions on regions.id = region_id "
            "join images on images.id = image_id where label = ? and name = ? and encoder = ?",
            (label, name, self.ledger.encoder(encoder).key),
        ).fetchone()
        return None if row is None else np.frombuffer(row[0], np.float16).astype(np.float32)


@pytest.fixture
def indexed(ledger: Ledger, tmp_path: Path, index_folder: Path) -> Indexed:
    photos = tmp_path / "photos"
    scene(photos / "a.png", {"red": (10, 10, 40, 30), "blue": (70, 40, 30, 40)})
    scene(photos / "b.png", {"green": (20, 20, 50, 50)})
    made = Indexed(ledger, photos, index_folder)
    made.index()
    return made


def test_objects_are_stored_with_their_boxes_and_the_embedding_of_their_own_crop(
    indexed: Indexed,
) -> None:
    report = indexed.enrich(ColourDetector())
    assert (report.looked_at, report.objects, report.failed) == (2, 3, 0)
    found = dict(indexed.objects("a.png"))
    assert found == {"red": (10, 10, 40, 30), "blue": (70, 40, 30, 40)}
    for name, label in (("a.png", "red"), ("a.png", "blue"), ("b.png", "green")):
        (told,) = indexed.encoder.encode_texts([label])
        assert indexed.vector(name, label) @ told > 0.999


def test_boxes_are_of_the_upright_picture_at_its_full_size(indexed: Indexed) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    things = {"red": (0, 0, 400, 200)}
    scene(indexed.photos / "turned.png", things, size=(1200, 800), exif=exif)
    indexed.index()
    indexed.enrich(ColourDetector(look=100))
    ((label, box),) = indexed.objects("turned.png")
    assert label == "red"
    # What was at the top left is at the top right of 800 x 1200.
    assert box == pytest.approx((600, 0, 200, 400), abs=16)


def test_a_picture_is_looked_at_once(indexed: Indexed) -> None:
    indexed.enrich(ColourDetector())
    again = ColourDetector()
    assert indexed.enrich(again).looked_at == 0
    assert again.looked_at == 0
    scene(indexed.photos / "c.png", {"red": (0, 0, 20, 20)})
    indexed.index()
    assert indexed.enrich(again).looked_at == 1
    assert again.looked_at == 1


def test_another_model_replaces_what_its_stage_found_and_nothing_else(indexed: Indexed) -> None:
    indexed.enrich(ColourDetector())
    indexed.enrich(ColourDetector("ocr"))
    before = indexed.ledger.connection.execute(
        "select id from regions where kind = 'object'"
    ).fetchall()
    report = indexed.enrich(ColourDetector(seed=1))
    assert report.looked_at == 2
    assert dict(indexed.objects("a.png")).keys() == {"red", "blue"}
    assert sorted(indexed.lines("a.png")) == ["blue", "red"]
    after = indexed.ledger.connection.execute(
        "select id from regions where kind = 'object'"
    ).fetchall()
    assert len(after) == 3
    assert not set(before) & set(after)
    told = {(one.stage, one.enricher): one for one in coverage(indexed.ledger)}
    assert told.keys() == {
        ("detect", "colours-detect-000000000001"),
        ("ocr", "colours-ocr-000000000000"),
    }
    assert {one.pictures for one in told.values()} == {2}


def test_a_crash_in_one_picture_touches_no_other_and_is_tried_again(indexed: Indexed) -> None:
    def crash(picture: Any) -> None:
        if (picture == (255, 255, 255)).all(axis=2).mean() < 0.773:  # the one with much colour
            raise ZeroDivisionError("no such thing")

    report = indexed.enrich(ColourDetector(fails=crash))
    assert (report.looked_at, report.failed) == (1, 1)
    (failure,) = indexed.ledger.failures()
    assert (os.path.basename(failure.path), failure.stage) == ("b.png", "detect")
    assert failure.reason == "detect failed on it: no such thing"
    assert len(indexed.objects("a.png")) == 2
    # Indexing again leaves the failure of the stage alone; the stage itself tries again.
    indexed.index()
    assert len(indexed.ledger.failures()) == 1
    report = indexed.enrich(ColourDetector())
    assert (report.looked_at, report.failed) == (1, 0)
    assert indexed.ledger.failures() == []
    assert len(indexed.objects("b.png")) == 1


def test_failures_of_two_stages_stand_side_by_side(indexed: Indexed) -> None:
    def crash(_: Any) -> None:
        raise ValueError("broken")

    for stage in ("detect", "ocr"):
        indexed.enrich(ColourDetector(stage, fails=crash))
    told = {(os.path.basename(one.path), one.stage) for one in indexed.ledger.failures()}
    assert told == {(name, stage) for name in ("a.png", "b.png") for stage in ("detect", "ocr")}
    assert {one.failed for one in coverage(indexed.ledger)} <= {2}


def test_a_stage_that_cannot_go_on_keeps_what_it_found(indexed: Indexed) -> None:
    def refuse(picture: Any) -> None:
        if (picture == (255, 255, 255)).all(axis=2).mean() < 0.773:
            raise EnricherError("its model is not what it should be")

    with pytest.raises(EnricherError, match="not what it should be"):
        indexed.enrich(ColourDetector(fails=refuse), workers=1)
    assert len(indexed.objects("a.png")) == 2
    assert indexed.objects("b.png") == []


def test_what_changed_since_it_was_indexed_is_not_looked_at(indexed: Indexed) -> None:
    scene(indexed.photos / "a.png", {"red": (0, 0, 90, 80)})
    report = indexed.enrich(ColourDetector())
    assert (report.looked_at, report.failed) == (1, 1)
    (failure,) = indexed.ledger.failures()
    assert "changed since it was indexed" in failure.reason
    indexed.index()
    assert indexed.ledger.failures() == []
    assert indexed.enrich(ColourDetector()).looked_at == 1
    assert indexed.objects("a.png") == [("red", (0, 0, 90, 80))]


def test_a_changed_picture_loses_its_findings_and_a_moved_or_copied_one_keeps_them(
    indexed: Indexed,
) -> None:
    indexed.enrich(ColourDetector())
    indexed.enrich(ColourDetector("ocr"))
    (indexed.photos / "b.png").rename(indexed.photos / "moved.png")
    (indexed.photos / "copy.png").write_bytes((indexed.photos / "a.png").read_bytes())
    scene(indexed.photos / "a.png", {"red": (5, 5, 90, 60)})
    indexed.index()
    assert indexed.objects("a.png") == []
    assert indexed.lines("a.png") == []
    assert dict(indexed.objects("moved.png")).keys() == {"green"}
    assert indexed.lines("moved.png") == ["green"]
    again = ColourDetector()
    report = indexed.enrich(again)
    assert again.looked_at == report.looked_at
    assert dict(indexed.objects("copy.png")).keys() == {"red", "blue"}


def test_the_same_content_in_another_file_is_not_looked_at_twice(indexed: Indexed) -> None:
    for name in ("c.png", "d.png"):
        (indexed.photos / name).write_bytes((indexed.photos / "a.png").read_bytes())
    indexed.index()
    indexed.enrich(ColourDetector(), [os.fsencode(indexed.photos / "a.png")])
    others = ColourDetector()
    report = indexed.enrich(others)
    assert (report.copied, report.looked_at, others.looked_at) == (2, 1, 1)
    assert dict(indexed.objects("d.png")).keys() == {"red", "blue"}
    (red,) = indexed.encoder.encode_texts(["red"])
    assert indexed.vector("d.png", "red") @ red > 0.999


def test_looking_at_all_anew_keeps_what_was_found(indexed: Indexed) -> None:
    indexed.enrich(ColourDetector())
    indexed.enrich(ColourDetector("ocr"))
    indexed.index(force=True)
    assert len(indexed.objects("a.png")) == 2
    assert len(indexed.lines("a.png")) == 2
    assert indexed.enrich(ColourDetector()).looked_at == 0


def test_only_pictures_under_the_paths_are_looked_at(indexed: Indexed) -> None:
    scene(indexed.photos / "deep" / "c.png", {"red": (0, 0, 30, 30)})
    indexed.index()
    report = indexed.enrich(ColourDetector(), [os.fsencode(indexed.photos / "deep")])
    assert report.looked_at == 1
    assert len(indexed.objects("deep/c.png")) == 1


def test_a_stage_that_is_stopped_goes_on_where_it_was(indexed: Indexed) -> None:
    for number in range(20):
        scene(indexed.photos / f"{number}.png", {"red": (number, 0, 20, 20)})
    indexed.index()
    stop = Event()

    def stop_soon(_: Any) -> None:
        stop.set()

    first = indexed.enrich(ColourDetector(fails=stop_soon), stop=stop, workers=1)
    assert 0 < first.looked_at < 22
    second = indexed.enrich(ColourDetector())
    assert first.looked_at + second.looked_at == 22
    assert len(indexed.objects("7.png")) == 1


def test_an_object_may_be_embedded_without_what_is_around_it(indexed: Indexed) -> None:
    class Frame(ColourDetector):
        """Takes each thing together with all that lies around it."""

        def enrich(self, picture: Any) -> Any:
            from dataclasses import replace

            found = super().enrich(picture)
            height, width = picture.shape[:2]
            whole = (0.0, 0.0, float(width), float(height))
            return replace(found, objects=tuple(replace(o, box=whole) for o in found.objects))

    (red,) = indexed.encoder.encode_texts(["red"])
    indexed.enrich(Frame("segment"), crop="box")
    in_box = indexed.vector("a.png", "red") @ red
    again = indexed.enrich(Frame("segment"), crop="masked")
    assert again.looked_at > 0 and again.enricher.endswith("-masked")
    masked = indexed.vector("a.png", "red") @ red
    assert masked > in_box + 0.02
    assert indexed.enrich(Frame("segment"), crop="masked").looked_at == 0

    later = ColourEncoder(seed=1)
    indexed.index(later)
    embed_objects(indexed.ledger, later, indexed.folder, workers=1, progress=Silent(), stop=Event())
    (red,) = later.encode_texts(["red"])
    assert indexed.vector("a.png", "red", later.info.id) @ red == pytest.approx(masked, abs=0.01)


def test_objects_get_an_embedding_of_an_encoder_that_came_later(indexed: Indexed) -> None:
    indexed.enrich(ColourDetector())
    second = ColourEncoder(seed=1)
    indexed.index(second)
    assert indexed.vector("a.png", "red", second.info.id) is None
    made = embed_objects(
        indexed.ledger,
        second,
        indexed.folder,
        workers=2,
        progress=Silent(),
        stop=Event(),
    )
    assert made == 3
    (red,) = second.encode_texts(["red"])
    assert indexed.vector("a.png", "red", second.info.id) @ red > 0.999


Parsed = tuple[Wish, ...]


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("none", ()),
        ("", ()),
        ("ocr", (Wish("ocr"),)),
        ("ocr, detect:2", (Wish("ocr"), Wish("detect", workers=2))),
    ],
)
def test_stages_are_named_with_the_number_of_their_threads(text: str, wishes: Parsed) -> None:
    assert parse(text) == wishes


@pytest.mark.parametrize("text", ["words", "ocr;detect", "ocr:0", "ocr:x", "all,ocr", ",ocr"])
def test_a_stage_that_there_is_not_is_an_error_that_names_those_that_there_are(text: str) -> None:
    with pytest.raises(EnricherError, match="ocr, detect, segment, track"):
        parse(text)


def test_specs_go_to_their_stages() -> None:
    assert parse("ocr,detect", {"detect": "yolo:x"}) == (Wish("ocr"), Wish("detect", "yolo:x"))
