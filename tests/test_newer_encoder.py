"""An index outlives its encoder: it answers with the one it was made with, says that the same spec
names newer weights now, and takes these on request."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import Result
from conftest import PngMaker
from encoder_folder import make_encoder_folder
from PIL import Image
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.encoders import registry
from embedsearch.errors import EncoderMismatchError, QueryError
from embedsearch.images.decode import decode
from embedsearch.index import Index
from embedsearch.store.ledger import Ledger

COLOURS = ("red", "green", "blue", "yellow", "purple")


class Box:
    """The encoders in the box, of which there is one, ``tiny``; it can be replaced by a newer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renew(seed=1)

    def renew(self, seed: int) -> str:
        """Put other weights under the same name; their id."""
        shutil.rmtree(self.folder / "tiny", ignore_errors=True)
        make_encoder_folder(self.folder / "tiny", seed=seed)
        return registry.load("tiny").info.id


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "box")
    monkeypatch.setenv("EMBEDSEARCH_INDEX", str(tmp_path / "index"))
    monkeypatch.setenv("EMBEDSEARCH_ENCODER", "tiny")
    return Box(tmp_path / "box")


@pytest.fixture
def photos(tmp_path: Path, png: PngMaker) -> Path:
    for number, colour in enumerate(COLOURS):
        file = png(tmp_path / "photos" / f"{colour}.png", colour)
        with Image.open(file) as image:  # no two alike, whatever an encoder sees
            image.paste("white", (0, 0, 4 + 7 * number, 30 - 5 * number))
            image.save(file)
    return tmp_path / "photos"


@pytest.fixture
def index(box: Box, photos: Path) -> Iterator[Index]:
    with Index() as opened:
        opened.add(photos)
        yield opened


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def neighbours(index: Index, photo: Path, **told: Any) -> list[tuple[str, float]]:
    return [(hit.path, round(hit.score, 5)) for hit in index.similar(photo, **told)]


def cosines(spec: str, photos: Path) -> dict[str, float]:
    """What the encoder itself says of the photos and the red one."""
    encoder = registry.load(spec)
    rows = {}
    for colour in COLOURS:
        pixels = decode(photos / f"{colour}.png", encoder.info.input_size).pixels
        rows[colour] = encoder.encode_images([pixels])[0]
    return {colour: float(row @ rows["red"]) for colour, row in rows.items() if colour != "red"}


def test_an_index_answers_with_the_encoder_it_was_made_with_and_says_that_a_newer_one_exists(
    index: Index, box: Box, photos: Path
) -> None:
    before, old = neighbours(index, photos / "red.png"), index.info().encoders[0].id
    assert index.newer() is None and index.info().newer == {}
    assert run("similar", photos / "red.png").stderr == ""
    new = box.renew(seed=2)
    assert new != old and index.newer() == new
    assert neighbours(index, photos / "red.png") == before
    assert index.info().newer == {old: new}
    done = run("search", "--image", photos / "red.png", "--json")
    assert done.exit_code == 0
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()][1:] == [
        path for path, _ in before
    ]
    assert done.stderr.count(new) == 1 and "embedsearch index --re-encode" in done.stderr
    assert new in run("info").stdout and json.loads(run("info", "--json").stdout)["newer"]
    assert new in run("index", photos).stderr
    # Who names the old one by its id knows what they do.
    assert run("similar", photos / "red.png", "--encoder", old).stderr == ""


def test_re_encoding_makes_the_newer_one_first_and_keeps_the_older_embeddings(
    index: Index, box: Box, photos: Path
) -> None:
    before, old = neighbours(index, photos / "red.png"), index.info().encoders[0].id
    new = box.renew(seed=2)
    done = run("index", "--re-encode")
    assert done.exit_code == 0, done.stderr
    assert "5 known pictures encoded" in done.stdout
    assert f"Queries use {new} from now on" in done.stderr and f"--encoder {old}" in done.stderr
    assert f"{new}: 5 embeddings, used where none is named" in run("info").stdout
    assert [info.id for info in index.info().encoders] == [new, old]
    assert index.info().embeddings == {old: 5, new: 5}
    assert index.newer() is None and index.info().newer == {}
    assert run("similar", photos / "red.png").stderr == ""
    found = {Path(path).stem: score for path, score in neighbours(index, photos / "red.png")}
    assert found == pytest.approx(cosines("tiny", photos), abs=2e-3)
    assert neighbours(index, photos / "red.png", encoder=old) == before
    assert index.verify(deep=True) == []
    again = json.loads(run("index", "--re-encode", "--json").stdout)
    assert again["encoded"] == 0 and new in again["warnings"][0]
    # Pictures that come later are encoded with it.
    shutil.copy(photos / "red.png", photos / "copy.png")
    (photos / "red.png").write_bytes((photos / "blue.png").read_bytes())
    index.add(photos)
    assert index.info().embeddings[new] == 6


def test_only_pictures_of_the_index_are_read_and_what_has_gone_is_marked(
    box: Box, photos: Path, tmp_path: Path
) -> None:
    with Index() as index:
        index.add(photos / "red.png", photos / "green.png", photos / "blue.png")
        box.renew(seed=2)
        (photos / "blue.png").unlink()
        report = index.re_encode()
        assert (report.encoded, report.vanished, report.warnings) == (2, 1, ())
        assert index.info().pictures == 2 and index.info().vanished == 1
        assert index.newer() is None


def test_a_run_that_was_stopped_leaves_the_older_one_in_use_and_is_gone_on_with(
    index: Index, box: Box, photos: Path
) -> None:
    old = index.info().encoders[0].id
    new = box.renew(seed=2)
    stop = Event()
    stop.set()
    report = index.re_encode(stop=stop, workers=1)
    assert report.interrupted and report.warnings == ()
    assert [info.id for info in index.info().encoders] == [old, new]
    assert index.newer() == new
    # As a kill after two pictures leaves it.
    index.re_encode(workers=1)
    with closing(sqlite3.connect(index.folder / "catalogue.db")) as catalogue:
        catalogue.execute("update encoders set first = 0")
        catalogue.execute("delete from embeddings where encoder = 2 and region_id > 2")
        catalogue.commit()
    report = index.re_encode(workers=1)
    assert report.encoded == 3
    assert [info.id for info in index.info().encoders] == [new, old]


def test_pictures_that_cannot_be_read_keep_the_older_one_in_use(
    index: Index, box: Box, photos: Path
) -> None:
    old = index.info().encoders[0].id
    new = box.renew(seed=2)
    photos.rename(photos.with_name("unplugged"))
    report = index.re_encode()
    assert report.encoded == 0 and report.vanished == 0
    (warning,) = report.warnings
    assert f"5 pictures could not be read (not there: {photos})" in warning
    assert [info.id for info in index.info().encoders] == [old, new]
    photos.with_name("unplugged").rename(photos)
    assert index.re_encode().encoded == 5
    assert index.info().encoders[0].id == new


def test_any_encoder_can_take_over_and_the_older_one_again(
    index: Index, box: Box, photos: Path, tmp_path: Path
) -> None:
    old = index.info().encoders[0].id
    other = make_encoder_folder(tmp_path / "other", seed=9, name="other")
    assert index.re_encode(str(other)).encoded == 5
    assert index.info().encoders[0].spec == str(other)
    assert index.re_encode(old).encoded == 0
    assert index.info().encoders[0].id == old


def test_an_encoder_made_of_others_follows_its_parts(box: Box, photos: Path) -> None:
    with Index() as index:
        index.add(photos, encoder="tiny?dim=2")
        new = box.renew(seed=2)
        assert index.newer() == new
        assert index.re_encode().encoded == 5
        first = index.info().encoders[0]
        assert first.spec == "tiny?dim=2" and index.newer() is None


def test_an_index_of_the_format_before_is_read_as_it_is_and_brought_up_by_a_writer(
    index: Index, box: Box, photos: Path
) -> None:
    before = neighbours(index, photos / "red.png")
    index.close()
    path = index.folder / "catalogue.db"
    with closing(sqlite3.connect(path)) as catalogue:
        catalogue.execute("alter table encoders drop column first")
        catalogue.execute("delete from _sqlite_migrations where name = 'm003_first_encoder'")
        catalogue.execute("pragma user_version = 2")
        catalogue.commit()
    new = box.renew(seed=2)
    assert neighbours(index, photos / "red.png") == before
    assert index.newer() == new
    with closing(sqlite3.connect(path)) as catalogue:
        assert catalogue.execute("pragma user_version").fetchone() == (2,)
    assert index.re_encode().encoded == 5
    assert index.info().encoders[0].id == new


def test_clusters_are_made_anew_of_the_newer_embeddings_as_they_were_wished_for(
    index: Index, box: Box, photos: Path, png: PngMaker
) -> None:
    before = index.cluster(clusters=2, where="width > 0")
    assert before.anew and len(before.clusters) == 2
    box.renew(seed=2)
    index.re_encode()
    png(photos / "late.png", "red")
    index.add(photos)
    after = index.cluster()
    assert after.anew and after.where == "width > 0" and len(after.clusters) == 2
    assert sum(one.size for one in after.clusters) + after.unclustered == 6
    assert not index.cluster().anew
    assert index.verify(deep=True) == []


# Forgetting the older one


def test_forgetting_an_encoder_takes_its_embeddings_its_file_and_its_copy_and_no_picture(
    index: Index, box: Box, photos: Path
) -> None:
    old = index.info().encoders[0].id
    new = box.renew(seed=2)
    run("index", "--re-encode")
    index.cluster(clusters=2, encoder=old)
    index.map(method="pca", encoder=old)
    vectors, copy = index.folder / "vectors" / f"{old}.faiss", index.folder / "encoders" / old
    assert vectors.exists() and copy.exists()
    told = run("forget", "--encoder", old)
    assert f"Would remove {old} and its 5 embeddings, and the clusters" in told.stderr
    assert "--yes" in told.stderr and vectors.exists()
    done = json.loads(run("forget", "--encoder", old, "--yes", "--json").stdout)
    wanted = {"removed": True, "encoder": old, "embeddings": 5, "last_of": 0, "clusters": True}
    assert done == wanted
    assert not vectors.exists() and not copy.exists()
    assert index.info().embeddings == {new: 5} and index.info().pictures == 5
    assert index.clusters().clusters == ()
    assert index.verify(deep=True) == []
    assert len(index.similar(photos / "red.png")) == 4
    with pytest.raises(EncoderMismatchError, match=f"was not made with the encoder {old}"):
        index.similar(photos / "red.png", encoder=old)


def test_the_only_encoder_or_one_of_two_by_their_spec_is_not_forgotten(
    index: Index, box: Box, photos: Path
) -> None:
    with pytest.raises(QueryError, match="is the only encoder of this index"):
        index.forget_encoder("tiny")
    old = index.info().encoders[0].id
    new = box.renew(seed=2)
    index.re_encode()
    with pytest.raises(QueryError, match=f"tiny may be .*{old}"):
        index.forget_encoder("tiny")
    assert index.info().embeddings == {old: 5, new: 5}
    for words in (["--html", "x.html"], [photos]):
        assert run("forget", "--encoder", old, *words).exit_code == 2


def test_pictures_that_only_the_forgotten_one_knew_are_encoded_anew(box: Box, photos: Path) -> None:
    with Index() as index:
        index.add(photos / "red.png")
        old = index.info().encoders[0].id
        new = box.renew(seed=2)
        index.add(photos, encoder="tiny")
        index.add(photos, encoder=old)
        with Ledger.open(index.folder / "catalogue.db") as ledger, ledger.transaction():
            ledger.connection.execute("delete from embeddings where encoder = 2 and region_id > 3")
        told = index.forget_encoder(old, dry_run=True)
        assert (told.embeddings, told.last_of) == (5, 2)
        index.forget_encoder(old)
        assert index.add(photos).encoded == 2
        assert index.info().embeddings == {new: 5}
        assert index.verify(deep=True) == []


def test_parts_that_another_encoder_is_made_of_stay_when_one_is_forgotten(
    index: Index, box: Box, photos: Path
) -> None:
    old = index.info().encoders[0].id
    index.add(photos, encoder="tiny?dim=2")
    index.forget_encoder(old)
    assert (index.folder / "encoders" / old).exists()
    assert len(index.similar(photos / "red.png")) == 4
    assert index.verify(deep=True) == []


def test_re_encoding_takes_no_paths(box: Box, photos: Path) -> None:
    for words in ([photos], ["--force"], ["--exclude", "*.gif"], ["-0"]):
        assert run("index", "--re-encode", *words).exit_code == 2
    done = run("index", "--re-encode")  # no index yet
    assert done.exit_code == 1 and isinstance(done.exception, Exception)
