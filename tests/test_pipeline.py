"""Indexing real folders, hostile ones included."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from pictures import BAD, GOOD, folder_of_nobody
from PIL import Image

from embedsearch.errors import DataError, EncoderError
from embedsearch.images.decode import decode
from embedsearch.images.files import read
from embedsearch.images.video import is_video
from embedsearch.indexing import pipeline
from embedsearch.indexing.progress import Silent
from embedsearch.records import IndexReport
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.database import CATALOGUE
from embedsearch.store.ledger import Ledger


class Run:
    """``run(path, ...)`` indexes into one index folder and returns the report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *paths: Path | bytes, encoder: Any = None, **how: Any) -> IndexReport:
        with Ledger.open(self.folder / CATALOGUE) as ledger:
            given = [os.fsencode(path) for path in paths]
            how = {"version": "test", "workers": 2, **how}
            return pipeline.run(ledger, encoder or ColourEncoder(), self.folder, given, **how)

    def catalogue(self) -> Catalogue:
        return Catalogue.open(self.folder / CATALOGUE)

    def names(self) -> dict[str, int]:
        """File names and the id of their whole picture's region."""
        with self.catalogue() as catalogue:
            return {
                os.path.basename(image.path): int(catalogue.region_ids_of_images([image.id])[0])
                for image in catalogue.images("ok")
            }


@pytest.fixture
def run(index_folder: Path) -> Run:
    return Run(index_folder)


@pytest.fixture
def photos(tmp_path: Path, png: Callable[..., Path]) -> Path:
    folder = tmp_path / "photos"
    for name, colour in (("a.png", "red"), ("b.png", "green"), ("deep/c.png", "blue")):
        png(folder / name, colour)
    return folder


def counts(report: IndexReport) -> dict[str, int]:
    """The counts that are not zero."""
    names = ("new", "changed", "moved", "copies", "unchanged", "vanished", "failed", "encoded")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def each_has_its_own_vector(run: Run) -> None:
    """Every embedding is that of its own file, whatever stood beside it; of what moves it is that
    of several frames."""
    encoder = ColourEncoder()
    with run.catalogue() as catalogue:
        stored = catalogue.encoder()
        for image in catalogue.images("ok"):
            if is_video(read(image.path)):
                continue
            vector = catalogue.embedding_of(image, stored)
            alone = encoder.encode_images([decode(image.path, encoder.info.input_size).pixels])[0]
            assert vector is not None
            np.testing.assert_allclose(vector, alone, atol=2e-3, err_msg=image.path)


def test_good_pictures_of_every_format_are_indexed_and_bad_ones_named_with_their_reason(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for good in GOOD:
        good.make(folder / good.name)
    for bad in BAD:
        bad.make(folder / bad.name)
    Image.new("RGB", (1, 1), "red").save(folder / "one pixel.png")
    Image.new("RGB", (30000, 500), "blue").save(folder / "long.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "broken link.jpg").symlink_to("nowhere.jpg")
    (folder / "loop").symlink_to(folder)
    report = run(folder)
    assert set(run.names()) == {good.name for good in GOOD} | {"one pixel.png", "long.png"}
    failed = {os.path.basename(failure.path): failure for failure in report.failures}
    # A folder and a missing file are no pictures to report; a pipe is passed over.
    expected = {bad.name: bad for bad in BAD if bad.name not in ("folder.jpg", "missing.jpg")}
    assert set(failed) - {"pipe.jpg"} == {*expected, "broken link.jpg"}
    assert {name: failed[name].stage for name in expected} == {
        name: bad.stage for name, bad in expected.items()
    }
    assert failed["broken link.jpg"].stage == "scan"
    assert report.failed == len(failed)
    assert report.new == len(GOOD) + 2 - report.copies
    each_has_its_own_vector(run)


@pytest.mark.parametrize(
    "name",
    [
        b"new\nline.png",
        b"quote ' and \" and `.png",
        "emoji \N{CAMERA WITH FLASH}.png".encode(),
        b"not utf-8 \xff\xfe.png",
        b"percent %20 # ? & ;.png",
        b"-0.png",
        b"<script>alert(1)</script>.png".replace(b"/", b""),
        b"x" * 250 + b".png",
    ],
)
def test_a_picture_of_any_name_is_indexed_found_and_given_back_byte_for_byte(
    run: Run, tmp_path: Path, png: Callable[..., Path], name: bytes
) -> None:
    path = png(os.fsencode(tmp_path / "photos") + b"/" + name, "red")
    assert counts(run(tmp_path / "photos")) == {"new": 1, "encoded": 1}
    with run.catalogue() as catalogue:
        (image,) = catalogue.images("ok")
        assert os.fsencode(image.path) == os.fsencode(path)
        with Image.open(image.path) as opened:
            assert opened.size == (40, 30)
    assert counts(run(tmp_path / "photos")) == {"unchanged": 1}


def test_only_what_changed_is_read_again(run: Run, photos: Path, png: Callable[..., Path]) -> None:
    assert counts(run(photos)) == {"new": 3, "encoded": 3}
    assert counts(run(photos)) == {"unchanged": 3}
    before = run.names()
    png(photos / "a.png", "yellow", (50, 30))
    (photos / "b.png").rename(photos / "moved.png")
    shutil.copyfile(photos / "deep/c.png", photos / "copy.png")
    png(photos / "new.png", "white")
    os.utime(photos / "deep/c.png", (1, 1))
    report = run(photos)
    assert counts(report) == {
        "new": 1, "changed": 1, "moved": 1, "copies": 1, "unchanged": 1, "encoded": 2,
    }  # fmt: skip
    after = run.names()
    assert after["moved.png"] == before["b.png"]
    assert after["c.png"] == before["c.png"]
    assert after["a.png"] > max(before.values())
    each_has_its_own_vector(run)
    (photos / "new.png").unlink()
    assert counts(run(photos)) == {"unchanged": 4, "vanished": 1}
    assert counts(run(photos)) == {"unchanged": 4}


def test_force_reads_everything_and_gives_every_picture_a_new_region(
    run: Run, photos: Path
) -> None:
    run(photos)
    before = run.names()
    assert counts(run(photos, force=True)) == {"changed": 3, "encoded": 3}
    assert min(run.names().values()) > max(before.values())


def test_a_picture_that_came_back_is_neither_new_nor_read(run: Run, photos: Path) -> None:
    run(photos)
    aside = photos.parent / "aside.png"
    (photos / "a.png").rename(aside)
    assert counts(run(photos)) == {"unchanged": 2, "vanished": 1}
    aside.rename(photos / "a.png")
    assert counts(run(photos)) == {"unchanged": 3}


def test_a_picture_moved_between_two_indexed_folders_keeps_its_region(
    run: Run, photos: Path, tmp_path: Path, png: Callable[..., Path]
) -> None:
    other = tmp_path / "other"
    png(other / "o.png", "white")
    run(photos, other)
    before = run.names()
    (photos / "a.png").rename(other / "z.png")
    assert counts(run(other)) == {"moved": 1, "unchanged": 1}
    assert run.names()["z.png"] == before["a.png"]
    assert counts(run(photos)) == {"unchanged": 2}


def test_bytes_that_are_no_picture_are_reported_every_time_but_read_only_once(
    run: Run, photos: Path, png: Callable[..., Path]
) -> None:
    (photos / "bad.jpg").write_text("no picture")
    assert counts(run(photos)) == {"new": 3, "encoded": 3, "failed": 1}

    class Forbidding(Silent):
        def begin(self, total: int) -> None:
            assert total == 0

    report = run(photos, progress=Forbidding())
    assert counts(report) == {"unchanged": 3, "failed": 1}
    assert report.failures[0].path == str(photos / "bad.jpg")
    png(photos / "good.png").replace(photos / "bad.jpg")
    assert counts(run(photos)) == {"new": 1, "unchanged": 3, "encoded": 1} or counts(
        run(photos)
    ) == {"unchanged": 4}
    assert run(photos).failures == ()


def test_a_picture_that_vanishes_between_scan_and_reading_is_reported_and_stops_nothing(
    run: Run, photos: Path
) -> None:
    class Deleting(Silent):
        def begin(self, total: int) -> None:
            (photos / "b.png").unlink()

    report = run(photos, progress=Deleting())
    assert counts(report) == {"new": 2, "failed": 1, "encoded": 2}
    assert report.failures[0].stage == "read"
    assert "not there" in report.failures[0].reason
    assert counts(run(photos)) == {"unchanged": 2}


def test_a_picture_that_the_encoder_cannot_take_costs_nobody_else_its_vector(
    run: Run, photos: Path
) -> None:
    class Picky(ColourEncoder):
        def encode_images(self, images: Any) -> Any:
            if any(image[..., 1].mean() > 140 and image[..., 0].mean() < 60 for image in images):
                raise RuntimeError("out of luck")
            return super().encode_images(images)

    report = run(photos, encoder=Picky())
    assert [(os.path.basename(f.path), f.stage) for f in report.failures] == [("b.png", "encode")]
    assert "out of luck" in report.failures[0].reason
    assert set(run.names()) == {"a.png", "c.png"}
    each_has_its_own_vector(run)
    assert counts(run(photos)) == {"new": 1, "unchanged": 2, "encoded": 1}


def test_numbers_that_are_no_embedding_never_reach_the_index(run: Run, photos: Path) -> None:
    class Overflowing(ColourEncoder):
        def encode_images(self, images: Any) -> Any:
            rows = super().encode_images(images)
            rows[[image[..., 0].mean() > 200 for image in images]] = np.nan
            return rows

    report = run(photos, encoder=Overflowing())
    assert [(os.path.basename(f.path), f.stage) for f in report.failures] == [("a.png", "encode")]
    assert set(run.names()) == {"b.png", "c.png"}


def test_an_encoder_that_cannot_work_at_all_stops_the_run_with_its_error(
    run: Run, photos: Path
) -> None:
    class Broken(ColourEncoder):
        def encode_images(self, images: Any) -> Any:
            raise EncoderError("the weights are damaged")

    with pytest.raises(EncoderError, match="damaged"):
        run(photos, encoder=Broken())
    assert run.names() == {}


def test_a_second_encoder_is_added_beside_the_first_without_new_regions(
    run: Run, photos: Path
) -> None:
    run(photos)
    before = run.names()
    second = ColourEncoder(seed=7)
    assert counts(run(photos, encoder=second)) == {"unchanged": 3, "encoded": 3}
    assert run.names() == before
    with run.catalogue() as catalogue:
        assert catalogue.embedding_counts() == {ColourEncoder().info.id: 3, second.info.id: 3}
    assert counts(run(photos, encoder=second)) == {"unchanged": 3}


def test_a_stopped_run_keeps_what_is_done_and_the_next_one_goes_on(
    run: Run, tmp_path: Path, png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BATCH", 4)
    for number in range(60):
        png(tmp_path / "many" / f"{number:02d}.png", (number * 4, 0, 0))
    stop = Event()

    class Stopping(Silent):
        def advance(self, done: int, failed: int) -> None:
            stop.set()

    report = run(tmp_path / "many", progress=Stopping(), stop=stop)
    assert report.interrupted
    assert 0 < report.new < 60
    rest = run(tmp_path / "many")
    assert counts(rest)["unchanged"] == report.new
    assert counts(rest)["new"] == 60 - report.new
    each_has_its_own_vector(run)


def test_a_run_stopped_while_it_scans_calls_nothing_vanished(run: Run, photos: Path) -> None:
    run(photos)
    stop = Event()
    stop.set()
    report = run(photos, stop=stop)
    assert report.interrupted
    assert report.vanished == 0
    assert set(run.names()) == {"a.png", "b.png", "c.png"}


def test_a_root_that_is_missing_or_empty_marks_nothing_as_vanished(run: Run, photos: Path) -> None:
    run(photos)
    aside = photos.with_name("unplugged")
    photos.rename(aside)
    report = run(photos)
    assert report.vanished == 0
    assert "cannot be opened" in report.warnings[0]
    photos.mkdir()
    report = run(photos)
    assert report.vanished == 0
    assert str(photos) in report.warnings[0]
    assert set(run.names()) == {"a.png", "b.png", "c.png"}
    photos.rmdir()
    aside.rename(photos)
    assert counts(run(photos)) == {"unchanged": 3}


def test_a_root_on_another_device_marks_nothing_as_vanished_until_it_is_known_again(
    run: Run, photos: Path
) -> None:
    run(photos)
    with Ledger.open(run.folder / CATALOGUE) as ledger, ledger.transaction():
        ledger.set_device(ledger.roots()[0], 123456789)
    (photos / "a.png").unlink()
    report = run(photos)
    assert report.vanished == 0
    assert "another device" in report.warnings[0]
    # Its other pictures were recognised: from now on it is the same disk under another number.
    report = run(photos)
    assert report.warnings == ()
    assert report.vanished == 1


def test_a_folder_that_cannot_be_read_keeps_its_pictures_and_is_reported(run: Run) -> None:
    with folder_of_nobody() as nobodys:
        locked = nobodys / "locked"
        locked.mkdir()
        Image.new("RGB", (8, 8), "red").save(nobodys / "free.png")
        Image.new("RGB", (8, 8), "blue").save(locked / "kept.png")
        index = nobodys / "index"
        index.mkdir()
        inside = Run(index)
        inside(nobodys)
        locked.chmod(0)
        report = inside(nobodys)
        locked.chmod(0o700)
        assert counts(report) == {"unchanged": 2, "failed": 1}
        assert (report.failures[0].path, report.failures[0].stage) == (str(locked), "scan")
        assert counts(inside(nobodys)) == {"unchanged": 2}


def test_a_folder_inside_an_indexed_one_belongs_to_it_and_the_other_way_round(
    run: Run, photos: Path
) -> None:
    run(photos / "deep")
    before = run.names()
    assert counts(run(photos)) == {"new": 2, "unchanged": 1, "encoded": 2}
    assert run.names()["c.png"] == before["c.png"]
    (photos / "deep/c.png").unlink()
    (photos / "a.png").unlink()
    assert counts(run(photos / "deep")) == {"vanished": 1}
    assert set(run.names()) == {"a.png", "b.png"}
    with run.catalogue() as catalogue:
        assert [root.path for root in catalogue.roots()] == [os.fsencode(photos)]


def test_single_files_are_indexed_whatever_they_are_called(run: Run, photos: Path) -> None:
    (photos / "a.png").rename(photos / "no extension")
    assert counts(run(photos / "no extension")) == {"new": 1, "encoded": 1}
    assert counts(run(photos / "no extension")) == {"unchanged": 1}
    assert set(run.names()) == {"no extension"}


def test_the_index_itself_is_not_indexed(run: Run, photos: Path) -> None:
    inside = Run(photos / "index")
    inside.folder.mkdir()
    thumbnails = inside.folder / "thumbnails"
    thumbnails.mkdir()
    Image.new("RGB", (8, 8)).save(thumbnails / "small.png")
    inside(photos)
    assert set(inside.names()) == {"a.png", "b.png", "c.png"}


def test_a_path_that_does_not_exist_is_named_before_any_work(run: Run, photos: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        run(photos, photos / "nowhere")
    assert run.names() == {}


def test_the_exclude_option_leaves_pictures_out(run: Run, photos: Path) -> None:
    assert counts(run(photos, exclude=["deep/", "b.*"])) == {"new": 1, "encoded": 1}


KILLED = """
import sys
from pathlib import Path
from test_pipeline import Run
from embedsearch.indexing import pipeline
pipeline.BATCH = 8
Run(Path(sys.argv[1]))(Path(sys.argv[2]))
"""


def test_a_run_killed_again_and_again_ends_with_every_picture_indexed_once(
    run: Run, tmp_path: Path, png: Callable[..., Path]
) -> None:
    folder = tmp_path / "many"
    for number in range(150):
        png(folder / f"{number:03d}.png", (number, 255 - number, number // 2), (400, 300))
    command = [sys.executable, "-c", KILLED, str(run.folder), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = 0
    for _ in range(4):
        child = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 30
        while child.poll() is None and time.monotonic() < deadline and stored(run) <= done + 8:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert stored(run) >= done
        done = stored(run)
    assert done > 8
    assert counts(run(folder))["unchanged"] == done
    assert len(run.names()) == 150
    with run.catalogue() as catalogue:
        assert catalogue.region_count() == 150
    each_has_its_own_vector(run)


def stored(run: Run) -> int:
    if not (run.folder / CATALOGUE).exists():
        return 0
    try:
        with run.catalogue() as catalogue:
            return catalogue.picture_counts()["ok"]
    except Exception:  # the schema is being made at this very moment
        return 0
