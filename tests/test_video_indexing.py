"""Videos in an index: one entry each, with a region a shot; they never stop a run."""

from __future__ import annotations

import os
import shutil
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import clips
import numpy as np
import pytest
from colour_encoder import COLOURS, ColourEncoder
from PIL import Image

from embedsearch.indexing import pipeline
from embedsearch.indexing.verify import check
from embedsearch.records import IndexReport, Region
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger

Shown = list[tuple[float, float]]


def of_colours(*colours: str, each: int = 15) -> list[clips.Pixels]:
    """Frames of one colour after another, with a black square that stands."""
    frames = []
    for colour in colours:
        frame = np.full((64, 96, 3), COLOURS[colour], np.uint8)
        frame[20:36, 10:40] = 0
        frames += [frame] * each
    return frames


class Run:
    """``run(path, ...)`` indexes into one index folder and returns the report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *paths: Path, encoder: Any = None, **how: Any) -> IndexReport:
        with Ledger.open(self.folder / CATALOGUE) as ledger:
            given = [os.fsencode(path) for path in paths]
            how = {"version": "test", "workers": 2, **how}
            return pipeline.run(ledger, encoder or ColourEncoder(), self.folder, given, **how)

    def regions(self, path: Path) -> list[Region]:
        """The whole picture, then the shots by time."""
        with Catalogue.open(self.folder / CATALOGUE) as catalogue:
            image = catalogue.image_at(bytes(path))
            assert image is not None and image.status == "ok"
            ids = catalogue.region_ids_of_images([image.id])
            found = catalogue.regions(ids.tolist()).values()
            return sorted(found, key=lambda region: (region.kind, region.start or 0))

    def shots(self, path: Path) -> Shown:
        return [(region.start or 0, region.until or 0) for region in self.regions(path)[1:]]

    def vector(self, region: Region, encoder: ColourEncoder | None = None) -> Any:
        with Catalogue.open(self.folder / CATALOGUE) as catalogue:
            stored = catalogue.encoder((encoder or ColourEncoder()).info.id)
            ((_, rows),) = catalogue.embeddings(stored, np.array([region.id]))
            return rows[0]

    def duration(self, path: Path) -> float | None:
        with Catalogue.open(self.folder / CATALOGUE) as catalogue:
            image = catalogue.image_at(bytes(path))
            assert image is not None
            row = catalogue.connection.execute(
                "select duration from images where id = ?", (image.id,)
            ).fetchone()
            return None if row[0] is None else float(row[0])

    def is_sound(self) -> bool:
        with Catalogue.open(self.folder / CATALOGUE) as catalogue:
            return not [
                problem
                for problem in check(catalogue, self.folder, deep=True)
                if problem.where != "encoders"  # nobody keeps copies here
            ]


@pytest.fixture
def run(index_folder: Path) -> Run:
    return Run(index_folder)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    return clips.write_clip(tmp_path / "films" / "a.mp4", of_colours("red", "green", "blue"))


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webm", "a"])
def test_a_video_is_one_entry_with_a_region_a_shot(name: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    path, frames = tmp_path / "films" / name, of_colours("red", "green", "blue")
    clips.write_clip(path, frames) if path.suffix else clips.write_frames(path, frames)
    report = run(tmp_path / "films")
    assert (report.new, report.encoded, report.failed) == (1, 1, 0)
    whole, *shots = run.regions(path)
    assert [region.kind for region in shots] == ["track"] * 3
    assert [region.label for region in shots] == [None] * 3
    assert whole.box == shots[0].box == (0, 0, 96, 64)
    times = [(one.start, one.until) for one in shots]
    assert times == [pytest.approx(pair, abs=0.11) for pair in ((0, 1.5), (1.5, 3), (3, 4.5))]
    assert all(one.start <= one.at < one.until for one in shots)  # type: ignore[operator]
    assert run.duration(path) == pytest.approx(4.5, abs=0.11)
    expected = ColourEncoder().encode_images([frames[0], frames[20], frames[40]])
    vectors = np.stack([run.vector(one) for one in shots])
    assert (np.vecdot(vectors, expected) > 0.99).all()
    mean = vectors.mean(axis=0)
    assert float(run.vector(whole) @ mean / np.linalg.norm(mean)) > 0.999
    assert run.is_sound()


def test_what_did_not_change_is_not_read_again(run: Run, film: Path) -> None:
    clips.write_frames(film.parent / "frames", of_colours("red", "blue"))
    assert run(film.parent).new == 2
    before = [run.regions(film), run.regions(film.parent / "frames")]
    report = run(film.parent)
    assert (report.unchanged, report.new, report.changed) == (2, 0, 0)
    assert [run.regions(film), run.regions(film.parent / "frames")] == before


def test_a_video_that_moves_keeps_its_shots_and_a_copy_gets_its_own(run: Run, film: Path) -> None:
    run(film.parent)
    ids = [region.id for region in run.regions(film)]
    moved = film.rename(film.with_name("moved.mp4"))
    report = run(film.parent)
    assert (report.moved, report.encoded) == (1, 0)
    assert [region.id for region in run.regions(moved)] == ids
    copy = Path(shutil.copy(moved, film.parent / "copy.mp4"))
    report = run(film.parent)
    assert (report.copies, report.encoded) == (1, 0)
    assert run.shots(copy) == run.shots(moved)
    assert not set(ids) & {region.id for region in run.regions(copy)}
    assert run.duration(copy) == run.duration(moved) is not None
    assert run.is_sound()


def test_a_video_that_changes_loses_its_old_shots(run: Run, film: Path) -> None:
    run(film.parent)
    ids = {region.id for region in run.regions(film)}
    clips.write_clip(film, of_colours("purple", "yellow", each=20))
    assert run(film.parent).changed == 1
    assert len(run.shots(film)) == 2
    assert not ids & {region.id for region in run.regions(film)}
    Image.new("RGB", (96, 64), "red").save(film, "PNG")
    assert run(film.parent).changed == 1
    assert run.shots(film) == [] and run.duration(film) is None
    assert run.is_sound()


def test_a_second_encoder_embeds_the_same_shots_and_force_keeps_what_others_made(
    run: Run, film: Path
) -> None:
    run(film.parent)
    before = run.regions(film)
    other = ColourEncoder(1)
    run(film.parent, encoder=other)
    assert run.regions(film) == before
    for region in before:
        assert np.isfinite(run.vector(region, other)).all()
    kept = [run.vector(region) for region in before]
    run(film.parent, encoder=other, force=True)
    after = run.regions(film)
    assert not {one.id for one in before} & {one.id for one in after}
    assert [run.vector(region).tolist() for region in after] == [row.tolist() for row in kept]
    run(film.parent)  # and the first one's vector index is written anew
    assert run.is_sound()


def test_a_copy_that_only_the_other_has_been_encoded_gets_its_shots_from_it(
    run: Run, film: Path
) -> None:
    copy = Path(shutil.copy(film, film.parent / "copy.mp4"))
    run(film.parent)
    other = ColourEncoder(1)
    assert run(film, encoder=other).encoded == 1
    assert run(copy, encoder=other).encoded == 0
    for region in run.regions(copy):
        assert np.isfinite(run.vector(region, other)).all()
    assert run.is_sound()


def test_a_damaged_video_stops_nothing_and_what_can_be_seen_of_it_is_indexed(
    run: Run, film: Path
) -> None:
    whole = clips.write_clip(film.parent / "whole.mkv", clips.cuts(1, 2, 3)).read_bytes()
    (film.parent / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (film.parent / "bad.mp4").write_bytes(film.read_bytes()[:600])
    broken = clips.write_frames(film.parent / "frames", of_colours("red"))
    (broken / "000005.png").write_bytes(b"no picture")
    report = run(film.parent)
    assert report.new == 3
    reasons = {os.path.basename(one.path): (one.stage, one.reason) for one in report.failures}
    assert set(reasons) == {"bad.mp4", "frames"}
    assert reasons["bad.mp4"][0] == "decode" and "cut short" in reasons["bad.mp4"][1]
    assert "frame 000005.png" in reasons["frames"][1]
    (warning,) = report.warnings
    assert "cut.mkv is damaged or cut short: of its 6.0 seconds" in warning
    assert len(run.shots(film.parent / "cut.mkv")) >= 1
    assert run(film.parent).failed == 2, "known as they are, and not read again"


def test_a_run_that_is_stopped_in_the_middle_of_a_video_leaves_no_half_of_it(
    run: Run, film: Path
) -> None:
    stop = Event()

    class Stopping(ColourEncoder):
        def encode_images(self, images: Any) -> Any:
            stop.set()
            return super().encode_images(images)

    long = clips.write_clip(
        film.parent / "long.mkv", clips.cuts(*range(1, 13), each=6), creation_time="2024-01-01"
    )
    film.unlink()
    report = run(long.parent, encoder=Stopping(), stop=stop)
    assert report.interrupted and report.new == 0
    assert run(long.parent).new == 1
    assert len(run.shots(long)) == 12


def test_a_folder_of_frames_that_is_named_itself_is_one_video(run: Run, tmp_path: Path) -> None:
    folder = clips.write_frames(tmp_path / "clips" / "one", of_colours("red", "blue"))
    assert run(folder).new == 1
    assert len(run.shots(folder)) == 2
    assert run(tmp_path / "clips").unchanged == 1
    assert run.is_sound()


def test_a_folder_becomes_a_video_and_photos_again(run: Run, tmp_path: Path) -> None:
    folder = clips.write_frames(tmp_path / "one", of_colours("red", "blue", each=2))
    mark = (folder / "seqinfo.json").read_bytes()
    (folder / "seqinfo.json").unlink()
    assert run(folder).new + run(folder).copies >= 2
    (folder / "seqinfo.json").write_bytes(mark)
    report = run(folder)
    assert (report.new, report.failed) == (1, 0)
    assert len(run.shots(folder)) == 2
    (folder / "seqinfo.json").unlink()
    report = run(tmp_path)
    assert (report.vanished, report.new) == (1, 0)
    assert report.unchanged == 4


# From the outside


def test_a_query_finds_the_moment_and_the_gallery_shows_its_frame(tmp_path: Path) -> None:
    from embedsearch.commands.output import write_hit_gallery
    from embedsearch.index import Index

    films = tmp_path / "films"
    clips.write_frames(films / "clip", of_colours("red", "green", "blue"))
    clips.write_clip(films / "other.mp4", of_colours("purple", "yellow"))
    Image.new("RGB", (96, 64), COLOURS["green"]).save(films / "green.png")
    with Index(tmp_path / "index") as index:
        index.add(films)
        example = clips.scene(1)
        example[:] = of_colours("blue")[0]
        Image.fromarray(example).save(tmp_path / "like.png")
        hit, *others = index.search(images=[tmp_path / "like.png"])
        assert len(others) == 2, "each video once"
        assert Path(hit.path) == films / "clip"
        assert hit.signals[0].kind == "track"
        assert hit.signals[0].time is not None and 3.0 <= hit.signals[0].time < 4.5
        similar = index.similar(films / "clip", k=5)
        assert {Path(one.path).name for one in similar} == {"other.mp4", "green.png"}
        write_hit_gallery(index, [("", [hit])], "blue", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    picture = Image.open(BytesIO(b64decode(page.split("data:image/jpeg;base64,")[1].split('"')[0])))
    pixel = np.asarray(picture.convert("RGB"))[60, 90]
    assert np.abs(pixel.astype(int) - COLOURS["blue"]).max() < 25
    assert "at 0:0" in page
