"""Folders in the layout of clip-retrieval: written, read back, refused where they are broken."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from threading import Event

import clips
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from colour_encoder import COLOURS, DIM, ColourEncoder
from conftest import PngMaker
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.errors import DataError, EncoderError, OutputError
from embedsearch.images.decode import decode
from embedsearch.index import Index
from embedsearch.render import clip_retrieval as writer

pytestmark = pytest.mark.usefixtures("colour_package")


@pytest.fixture
def photos(tmp_path: Path, png: PngMaker) -> Path:
    """One picture of every colour, one of them in a folder of its own and one of a strange name."""
    for name in COLOURS:
        png(tmp_path / "photos" / ("deep" if name == "blue" else "") / f"{name}.png", name)
    os.rename(tmp_path / "photos/red.png", os.fsencode(tmp_path) + b"/photos/red-\xff.png")
    return tmp_path / "photos"


@pytest.fixture
def index(index_folder: Path, photos: Path) -> Index:
    with Index(index_folder) as index:
        index.add(photos, encoder="colour")
        yield index


def export(index: Index, out: Path) -> Path:
    index.export(out, "clip-retrieval")
    return out


def foreign(folder: Path, paths: list[str], encoder: ColourEncoder, dtype: str = "<f2") -> Path:
    """What clip-retrieval inference writes: two partitions, numbers filled up to one width."""
    rows = encoder.encode_images([decode(path, 32).pixels for path in paths])
    half = len(paths) // 2
    for number, part in (("08", slice(None, half)), ("10", slice(half, None))):
        (folder / "img_emb").mkdir(parents=True, exist_ok=True)
        (folder / "metadata").mkdir(exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows[part].astype(dtype))
        told = {"image_path": paths[part], "caption": ["a colour"] * len(paths[part])}
        pq.write_table(pa.table(told), folder / "metadata" / f"metadata_{number}.parquet")
    return folder


# Writing


def test_the_folder_is_laid_out_as_clip_retrieval_lays_it_out(index: Index, tmp_path: Path) -> None:
    out = export(index, tmp_path / "out")
    rows = np.load(out / "img_emb/img_emb_0.npy", allow_pickle=False)
    table = pq.read_table(out / "metadata/metadata_0.parquet").to_pylist()
    assert (rows.dtype, rows.shape, len(table)) == (np.float16, (11, DIM), 11)
    named = {os.fsdecode(row["image_path_bytes"]): place for place, row in enumerate(table)}
    assert sorted(named) == sorted(index.paths())
    for path, place in named.items():
        expected = ColourEncoder().encode_images([decode(path, 32).pixels])[0]
        assert np.array_equal(rows[place], expected.astype(np.float16))
        assert table[place]["size"] == os.stat(path).st_size
    assert any(row["image_path"].endswith("red-\\xff.png") for row in table)
    assert (table[0]["kind"], table[0]["width"], table[0]["box"]) == ("image", 40, [0, 0, 40, 30])
    assert json.loads((out / "embedsearch.json").read_text())["encoder"]["spec"] == "colour"


def test_many_rows_are_parted_and_numbers_sort_as_text(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PARTITION", 1)
    out = export(index, tmp_path / "out")
    for folder, suffix in (("img_emb", "npy"), ("metadata", "parquet")):
        names = sorted(path.name for path in (out / folder).iterdir())
        assert names == [f"{folder}_{number:02d}.{suffix}" for number in range(11)]
    with Index(tmp_path / "back") as back:
        assert back.add_embeddings(out).new == 11


def test_a_folder_that_is_there_is_not_written_into(index: Index, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export(index, tmp_path / "empty")
    with pytest.raises(OutputError, match="empty is there already; name a new folder"):
        export(index, tmp_path / "empty")
    with pytest.raises(OutputError, match=r"Cannot write .*no-such/out: No such file"):
        export(index, tmp_path / "no-such" / "out")
    assert not list(tmp_path.glob(".embedsearch-*"))


# Reading back


def test_what_was_exported_is_read_back_bit_for_bit_and_nothing_is_encoded(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(index, tmp_path / "out")
    queries = {word: [(hit.path, hit.score) for hit in index.search(word)] for word in COLOURS}
    with Index(tmp_path / "back") as back:
        report = back.add_embeddings(out)
        assert (report.new, report.taken, report.encoded, report.failed) == (11, 11, 0, 0)
        assert back.info().roots == index.info().roots
        assert back.info().encoders == index.info().encoders
        for word, hits in queries.items():
            assert [(hit.path, hit.score) for hit in back.search(word)] == hits
        assert back.verify(deep=True) == []
        again = back.add_embeddings(out)
        assert (again.unchanged, again.taken) == (11, 0)
        assert back.add(tmp_path / "photos").unchanged == 11


def test_the_shots_of_a_video_are_found_although_its_embedding_is_given(
    index: Index, photos: Path, tmp_path: Path
) -> None:
    clips.write_clip(photos / "0 first.mkv", clips.cuts(1, 2, 3, each=6))
    index.add(photos)
    with Index(tmp_path / "back") as back:
        report = back.add_embeddings(export(index, tmp_path / "out"))
        assert (report.new, report.failed) == (12, 0)
        assert back.info().regions == index.info().regions == 12 + 3
        assert back.verify(deep=True) == []


def test_pictures_that_are_gone_or_changed_are_reported_and_left_out(
    index: Index, photos: Path, tmp_path: Path, png: PngMaker
) -> None:
    out = export(index, tmp_path / "out")
    (photos / "green.png").unlink()
    (photos / "deep/blue.png").unlink()
    (photos / "deep").rmdir()
    png(photos / "white.png", "black", (90, 90))
    with Index(tmp_path / "back") as back:
        report = back.add_embeddings(out)
        assert (report.new, report.failed) == (8, 3)
        reasons = {Path(failure.path).name: failure.reason for failure in report.failures}
        assert sorted(reasons) == ["blue.png", "green.png", "white.png"]
        assert "has changed since its embedding was made" in reasons["white.png"]
        assert back.info().failures == tuple(sorted(report.failures, key=lambda one: one.path))
        assert back.info().roots == (str(photos),)
        later = back.add(photos)
        assert (later.new, later.failed) == (1, 0)


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_a_folder_of_clip_retrieval_itself_is_read_with_the_encoder_that_is_named(
    photos: Path, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(str(path) for path in photos.rglob("*.png") if "\udcff" not in str(path))
    monkeypatch.chdir(tmp_path)
    relative = [os.path.relpath(path) for path in paths]  # as clip-retrieval was told the folder
    folder = foreign(tmp_path / "clip", relative, ColourEncoder(3), dtype)
    with Index(tmp_path / "back") as back:
        with pytest.raises(EncoderError, match=r"does not say which encoder .* --encoder SPEC"):
            back.add_embeddings(folder)
        report = back.add_embeddings(folder, encoder="colour:3")
        assert (report.new, report.failed) == (10, 0)
        best, *_ = back.search("yellow", k=1)
        assert (Path(best.path).name, round(best.score, 2)) == ("yellow.png", 1.0)
        assert back.verify(deep=True) == []


def test_embeddings_of_another_encoder_are_refused_although_they_fit(
    index: Index, photos: Path, tmp_path: Path
) -> None:
    paths = [path for path in index.paths() if "\udcff" not in path]
    folder = foreign(tmp_path / "clip", paths, ColourEncoder(3))
    with Index(tmp_path / "back") as back:
        with pytest.raises(EncoderError, match=r"are not those of colour: 5 pictures .* cosine"):
            back.add_embeddings(folder, encoder="colour")
        with pytest.raises(EncoderError, match="49 dimensions, mini makes such of 260"):
            back.add_embeddings(folder, encoder="mini")
        with pytest.raises(EncoderError, match=r"was made with colour-\w+, but colour:3 is"):
            back.add_embeddings(export(index, tmp_path / "out"), encoder="colour:3")
        assert back.add_embeddings(folder, encoder="colour:3").new == 10


def test_lengths_that_are_not_one_are_brought_to_one(index: Index, tmp_path: Path) -> None:
    paths = [path for path in index.paths() if "\udcff" not in path]
    folder = foreign(tmp_path / "clip", paths, ColourEncoder(), "<f4")
    for matrix in (folder / "img_emb").iterdir():
        np.save(matrix, 7 * np.load(matrix))
    with Index(tmp_path / "back") as back:
        assert back.add_embeddings(folder, encoder="colour").new == 10
        assert back.verify(deep=True) == []


def test_a_run_that_is_stopped_keeps_what_is_done(index: Index, tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    out = export(index, tmp_path / "out")
    with Index(tmp_path / "back") as back:
        assert back.add_embeddings(out, stop=stop).interrupted
        assert back.add_embeddings(out).new == 11


# Folders that are broken


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch trapped",)


def break_objects(out: Path) -> None:
    np.save(out / "img_emb/img_emb_0.npy", np.array([[Trap()]] * 11, object), allow_pickle=True)


def break_pickle(out: Path) -> None:
    (out / "img_emb/img_emb_0.npy").write_bytes(pickle.dumps(Trap()))


def break_archive(out: Path) -> None:
    with (out / "img_emb/img_emb_0.npy").open("wb") as stream:
        np.savez(stream, rows=np.ones((11, DIM)))


def break_integers(out: Path) -> None:
    np.save(out / "img_emb/img_emb_0.npy", np.ones((11, DIM), np.int32))


def break_shape(out: Path) -> None:
    np.save(out / "img_emb/img_emb_0.npy", np.ones(11, np.float16))


def break_cut(out: Path) -> None:
    matrix = out / "img_emb/img_emb_0.npy"
    matrix.write_bytes(matrix.read_bytes()[:-10])


def break_count(out: Path) -> None:
    np.save(out / "img_emb/img_emb_0.npy", np.load(out / "img_emb/img_emb_0.npy")[:-1])


def break_nan(out: Path) -> None:
    rows = np.load(out / "img_emb/img_emb_0.npy")
    rows[3, 5] = np.nan
    np.save(out / "img_emb/img_emb_0.npy", rows)


def break_zero(out: Path) -> None:
    rows = np.load(out / "img_emb/img_emb_0.npy")
    rows[10] = 0
    np.save(out / "img_emb/img_emb_0.npy", rows)


def break_parquet(out: Path) -> None:
    (out / "metadata/metadata_0.parquet").write_bytes(b"PAR1 and no more")


def break_column(out: Path) -> None:
    file = out / "metadata/metadata_0.parquet"
    pq.write_table(pq.read_table(file).select(["label"]), file)


def break_path(out: Path) -> None:
    file = out / "metadata/metadata_0.parquet"
    pq.write_table(pa.table({"image_path": pa.array([None] * 11, pa.string())}), file)


def break_partner(out: Path) -> None:
    np.save(out / "img_emb/img_emb_1.npy", np.ones((2, DIM), np.float16))


def break_dims(out: Path) -> None:
    np.save(out / "img_emb/img_emb_1.npy", np.ones((2, 5), np.float16))
    table = pa.table({"image_path": ["a", "b"]})
    pq.write_table(table, out / "metadata/metadata_1.parquet")


def break_metadata(out: Path) -> None:
    (out / "metadata/metadata_0.parquet").unlink()


def break_description(out: Path) -> None:
    (out / "embedsearch.json").write_text('{"encoder": 3}')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (break_objects, "img_emb_0.npy: no matrix of numbers .* never unpickled"),
        (break_pickle, "img_emb_0.npy: no matrix of numbers .* never unpickled"),
        (break_archive, "img_emb_0.npy holds an archive"),
        (break_integers, r"holds int32 \(11, 49\), not a matrix of float16"),
        (break_shape, r"holds float16 \(11,\), not a matrix"),
        (break_cut, "img_emb_0.npy: no matrix of numbers that can be read"),
        (break_count, "img_emb_0.npy has 10 rows and .*metadata_0.parquet has 11"),
        (break_nan, "img_emb_0.npy: row 3 is no embedding"),
        (break_zero, "img_emb_0.npy: row 10 is no embedding"),
        (break_parquet, "metadata_0.parquet: no Parquet file that can be read"),
        (break_column, "metadata_0.parquet has no column image_path"),
        (break_path, "metadata_0.parquet: row 0 names no picture"),
        (break_partner, "img_emb_1.npy has no partner metadata/metadata_1.parquet"),
        (break_dims, "embeddings of several dimensions"),
        (break_metadata, "metadata holds no metadata_0.parquet"),
        (break_description, "embedsearch.json cannot be understood"),
    ],
)
def test_a_broken_folder_is_an_error_that_names_the_file(
    index: Index,
    tmp_path: Path,
    spoil: object,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = export(index, tmp_path / "out")
    spoil(out)  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    with Index(tmp_path / "back") as back, pytest.raises(DataError, match=said):
        back.add_embeddings(out, encoder="colour")
    assert not (tmp_path / "trapped").exists()


# On the command line


def test_the_commands_export_and_index_make_the_round_trip(index: Index, tmp_path: Path) -> None:
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    run = CliRunner().invoke
    told = run(
        app, ["export", "--index", str(index.folder), "--format", "clip-retrieval", "--out", out]
    )
    assert (told.exit_code, "Wrote 11 rows" in told.stderr) == (0, True)
    told = run(app, ["index", "--from-clip-retrieval", out, "--index", back, "--json"])
    assert (json.loads(told.stdout)["taken"], told.exit_code) == (11, 0)
    told = run(app, ["index", "--from-clip-retrieval", out, "--index", back])
    assert "11  unchanged" in told.stdout
    wrong = run(app, ["index", "--from-clip-retrieval", out, "x.jpg", "--index", back])
    assert (wrong.exit_code, "names the pictures itself" in wrong.stderr) == (2, True)
