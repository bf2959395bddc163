"""Encoders made of others: what their cosines mean, how they are fitted, kept and told apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from colour_encoder import COLOURS, DIM, ColourEncoder
from conftest import PngMaker
from encoder_folder import make_encoder_folder

from embedsearch.encoders import compound_folder, registry
from embedsearch.encoders.compound import JoinedEncoder, ReducedEncoder, best_axes
from embedsearch.errors import DataError, EncoderError, QueryError
from embedsearch.index import Index
from embedsearch.indexing import fitting

RANDOM = np.random.default_rng(11)
PICTURES = [RANDOM.integers(0, 256, (20, 30, 3), np.uint8) for _ in range(40)]
COLOUR = ColourEncoder()


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """The spec of an encoder in a folder, without a text tower."""
    return str(make_encoder_folder(tmp_path / "tiny"))


@pytest.fixture
def photos(tmp_path: Path, png: PngMaker) -> Path:
    for name in COLOURS:
        png(tmp_path / "photos" / f"{name}.png", name)
    return tmp_path / "photos"


# Joined and averaged


def test_the_cosines_of_joined_encoders_are_the_weighted_mean_of_their_cosines(tiny: str) -> None:
    one, two = COLOUR, registry.load(tiny)
    joined = JoinedEncoder([one, two], [3, 1])
    rows = [encoder.encode_images(PICTURES) for encoder in (one, two, joined)]
    cosines = [row @ row.T for row in rows]
    np.testing.assert_allclose(cosines[2], 0.75 * cosines[0] + 0.25 * cosines[1], atol=1e-5)
    assert joined.info.dim == one.info.dim + two.info.dim
    assert joined.info.input_size == 32


def test_words_rank_pictures_as_the_part_with_the_text_tower_does(tiny: str) -> None:
    joined = JoinedEncoder([registry.load(tiny), COLOUR], [1, 1])
    alone = COLOUR.encode_images(PICTURES) @ COLOUR.encode_texts(["red"])[0]
    together = joined.encode_images(PICTURES) @ joined.encode_texts(["red"])[0]
    np.testing.assert_allclose(together, alone * np.sqrt(0.5), atol=1e-5)
    with pytest.raises(QueryError, match="no word"):
        joined.encode_texts(["dog"])


def test_averaged_encoders_give_the_mean_of_their_rows_at_unit_length() -> None:
    one, two = ColourEncoder(), ColourEncoder(1)
    averaged = JoinedEncoder([one, two], [1, 3], "mean")
    mean = one.encode_images(PICTURES) + 3 * two.encode_images(PICTURES)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(averaged.encode_images(PICTURES), expected, atol=1e-5)
    assert averaged.info.dim == DIM
    assert averaged.info.id != JoinedEncoder([one, two], [1, 1], "mean").info.id


def test_encoders_that_cannot_be_averaged_are_told_what_to_do(tiny: str) -> None:
    with pytest.raises(EncoderError, match=r"6 and 49 dimensions cannot be averaged.*A\+B"):
        JoinedEncoder([COLOUR, registry.load(tiny)], [1, 1], "mean")
    silent = ColourEncoder(2)
    silent._info = replace(silent.info, has_text=False)
    with pytest.raises(EncoderError, match="colour:2 has no text tower and cannot be averaged"):
        JoinedEncoder([COLOUR, silent], [1, 1], "mean")


def test_the_id_depends_on_the_parts_their_weights_and_the_way(tiny: str) -> None:
    one, two = COLOUR, ColourEncoder(1)
    made = [
        JoinedEncoder([one, two], [1, 1]),
        JoinedEncoder([two, one], [1, 1]),
        JoinedEncoder([one, two], [2, 1]),
        JoinedEncoder([one, two], [1, 1], "mean"),
    ]
    assert len({encoder.info.id for encoder in made}) == 4
    assert JoinedEncoder([one, two], [4, 2]).info.id == made[2].info.id


# Reduced


def test_all_axes_keep_every_cosine_and_fewer_keep_the_most_of_them() -> None:
    rows = COLOUR.encode_images(PICTURES)
    moment = (rows.T @ rows).astype(np.float64)
    cosines = rows @ rows.T
    errors = []
    for dim in (40, 20, 5):
        reduced = ReducedEncoder(COLOUR, best_axes(moment, dim)).encode_images(PICTURES)
        assert reduced.shape == (40, dim)
        errors.append(np.abs(reduced @ reduced.T - cosines).mean())
    assert errors[0] < 1e-5  # 40 pictures span no more than 40 dimensions
    assert errors[0] < errors[1] < errors[2]
    random, _ = np.linalg.qr(RANDOM.normal(size=(DIM, 20)))
    worse = ReducedEncoder(COLOUR, random.T.astype(np.float32)).encode_images(PICTURES)
    assert np.abs(worse @ worse.T - cosines).mean() > errors[1]


def test_axes_are_orthonormal_and_the_same_whichever_way_eigenvectors_point() -> None:
    rows = COLOUR.encode_images(PICTURES).astype(np.float64)
    axes = best_axes(rows.T @ rows, 7)
    np.testing.assert_allclose(axes @ axes.T, np.eye(7), atol=1e-5)
    assert (np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1) > 0).all()


def test_a_row_of_which_nothing_is_left_is_an_error_not_a_row_of_nothing() -> None:
    axes = np.eye(DIM, dtype=np.float32)[:3]
    axes[:, :] = 0
    axes[0, 0] = 1  # the red of the first cell, which this grey lacks
    grey = np.full((8, 8, 3), 128, np.uint8)
    grey[:2, :2, 0] = 127
    encoder = ReducedEncoder(COLOUR, axes[:1])
    row = COLOUR.encode_images([grey])[0]
    assert not encoder.derive([np.where(np.arange(DIM) == 0, 0, row)[None]]).any()
    with pytest.raises(EncoderError, match="do not reduce colour-"):
        ReducedEncoder(COLOUR, axes[:, :10])


def test_a_reduction_outside_an_index_says_where_it_is_fitted() -> None:
    with pytest.raises(EncoderError, match=r"fitted on the pictures of an index: embedsearch inde"):
        registry.load("mini?dim=64")
    with pytest.raises(EncoderError, match="mini has 260 dimensions; ask for fewer"):
        registry.load("mini?dim=260")


# In an index


@pytest.mark.usefixtures("colour_package")
def test_an_index_of_the_whole_encoder_is_converted_without_reading_a_picture(
    index_folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index(index_folder) as index:
        index.add(photos, encoder="colour")
        monkeypatch.setattr(fitting, "decode", None)
        report = index.add(photos, encoder="colour?dim=9")
        assert (report.derived, report.encoded, report.unchanged) == (11, 0, 11)
        (warning,) = report.warnings
        assert warning.startswith("dim=9 was fitted on 11 pictures; 1,024 make better axes.")
        assert [one.spec for one in index.info().encoders] == ["colour", "colour?dim=9"]
        for word in COLOURS:
            best, *_ = index.search(word, encoder="colour?dim=9", k=1)
            assert Path(best.path).stem == word
        assert index.verify(deep=True) == []


@pytest.mark.usefixtures("colour_package")
def test_a_first_run_fits_on_a_sample_and_a_later_one_keeps_the_axes(
    index_folder: Path, photos: Path, png: PngMaker
) -> None:
    with Index(index_folder) as index:
        (photos / "bad.png").write_bytes(b"no picture")
        report = index.add(photos, encoder="colour?dim=2")
        assert (report.new, report.encoded, report.derived, report.failed) == (11, 11, 0, 1)
        assert report.warnings == (), "four pictures an axis will do"
        (before,) = index.info().encoders
        assert (before.dim, before.spec) == (2, "colour?dim=2")
        png(photos / "pink.png", (250, 150, 180))
        assert index.add(photos, encoder="colour?dim=2").new == 1
        assert index.add(photos).unchanged == 12
        assert [one.id for one in index.info().encoders] == [before.id]


@pytest.mark.usefixtures("colour_package")
def test_pictures_that_the_whole_encoder_met_later_are_converted_too(
    index_folder: Path, photos: Path, png: PngMaker
) -> None:
    with Index(index_folder) as index:
        index.add(photos, encoder="colour?dim=6")
        png(photos / "pink.png", (250, 150, 180))
        index.add(photos, encoder="colour")
        report = index.add(photos, encoder="colour?dim=6")
        assert (report.derived, report.encoded, report.unchanged) == (1, 0, 12)


@pytest.mark.usefixtures("colour_package")
def test_what_little_the_index_holds_is_not_fitted_on_where_there_is_more(
    index_folder: Path, photos: Path
) -> None:
    with Index(index_folder) as index:
        index.add(photos / "red.png", photos / "blue.png", encoder="colour")
        with pytest.raises(EncoderError, match="here are only 2 that"):
            index.add(photos / "red.png", encoder="colour?dim=3")
        report = index.add(photos, encoder="colour?dim=3")
        assert (report.new, report.derived, report.warnings[0][:25]) == (
            9, 2, "dim=3 was fitted on 11 pi"
        )  # fmt: skip


@pytest.mark.usefixtures("colour_package")
def test_too_few_pictures_to_fit_on_are_an_error_that_counts_them(
    index_folder: Path, photos: Path
) -> None:
    with Index(index_folder) as index, pytest.raises(EncoderError, match="here are only 11 that"):
        index.add(photos, encoder="colour?dim=12")
    with Index(index_folder) as index, pytest.raises(DataError, match=r"no file or folder .*none"):
        index.add(photos / "none", encoder="colour?dim=12")


@pytest.mark.usefixtures("colour_package")
def test_a_run_that_is_stopped_while_it_fits_says_so(index_folder: Path, photos: Path) -> None:
    stop = Event()
    stop.set()
    with Index(index_folder) as index:
        report = index.add(photos, encoder="colour?dim=6", stop=stop)
        assert report.interrupted
        assert index.add(photos, encoder="colour?dim=6").new == 11


def test_the_sample_is_drawn_evenly_and_the_same_every_time() -> None:
    names = [b"%03d" % place for place in range(1000)]
    drawn = fitting._drawn(iter(names), 100)
    assert drawn == sorted(drawn) == fitting._drawn(iter(names), 100)
    assert len(set(drawn)) == 100
    assert 400 < np.mean([int(name) for name in drawn]) < 600
    assert fitting._drawn(iter(names), 2000) == names


@pytest.mark.usefixtures("colour_package")
def test_joined_encoders_are_made_of_what_the_index_holds_of_both(
    index_folder: Path, photos: Path
) -> None:
    with Index(index_folder) as index:
        index.add(photos, encoder="colour")
        index.add(photos, encoder="colour:1")
        report = index.add(photos, encoder="colour+colour:1")
        assert (report.derived, report.encoded) == (11, 0)
        best, *_ = index.search("red", encoder="colour+colour:1", k=1)
        assert (Path(best.path).stem, round(best.score, 2)) == ("red", 1.0)


@pytest.mark.usefixtures("colour_package")
def test_an_encoder_that_takes_larger_pictures_is_not_joined_from_what_the_index_holds(
    index_folder: Path, photos: Path, tiny: str
) -> None:
    """Its partner would have seen other pixels alone than it sees at its side."""
    with Index(index_folder) as index:
        index.add(photos, encoder="colour")
        index.add(photos, encoder=tiny)
        report = index.add(photos, encoder=f"colour+{tiny}")
        # The folder's encoder, a projection, makes nothing of black.
        assert (report.derived, report.encoded, report.failed) == (0, 10, 1)


# What an index keeps


def test_an_index_answers_with_its_copies_when_the_originals_are_gone(
    index_folder: Path, photos: Path, tiny: str
) -> None:
    spec = f"(mini+{tiny}?weight=2)?dim=5"
    with Index(index_folder) as index:
        index.add(photos, encoder=spec)
        (info,) = index.info().encoders
        assert info.spec == spec
    expected = registry.load_stored(info, index_folder).encode_images(PICTURES[:3])
    shutil.rmtree(tiny)
    kept = registry.load_stored(info, index_folder)
    assert kept.info == info
    assert np.array_equal(kept.encode_images(PICTURES[:3]), expected)
    elsewhere = registry.load(str(index_folder / "encoders" / info.id))
    assert elsewhere.info.id == info.id
    with Index(index_folder) as index:
        assert len(index.search("red", k=20)) == 10  # of black, the projection makes nothing


def test_axes_fitted_in_one_index_serve_another(
    index_folder: Path, photos: Path, tmp_path: Path
) -> None:
    with Index(index_folder) as index:
        index.add(photos, encoder="mini?dim=8")
        (info,) = index.info().encoders
    with Index(tmp_path / "other") as other:
        other.add(photos / "red.png", encoder=str(index_folder / "encoders" / info.id))
        assert [one.id for one in other.info().encoders] == [info.id]
    shutil.rmtree(index_folder)
    with Index(tmp_path / "other") as other:
        assert len(other.search("red")) == 1
        assert other.verify(deep=True) == []


def test_damaged_axes_are_named_and_a_damaged_part_is_restored(
    index_folder: Path, photos: Path, tiny: str
) -> None:
    with Index(index_folder) as index:
        index.add(photos, encoder=f"{tiny}?dim=3")
        (info,) = index.info().encoders
        encoders = index_folder / "encoders"
        (part,) = [path for path in encoders.iterdir() if path.name != info.id]
        (part / "image.onnx").write_bytes(b"damaged")
        (problem,) = index.verify()
        assert part.name in problem.what
        assert [one.repaired for one in index.verify(repair=True)] == [True]
        assert index.verify() == []
        axes = encoders / info.id / "axes.npy"
        axes.write_bytes(axes.read_bytes()[:-4] + b"\0\0\0\0")
        (problem,) = index.verify(repair=True)
        assert "axes.npy: damaged" in problem.what
        assert not problem.repaired


def changed(told: dict[str, object], **values: object) -> dict[str, object]:
    return {key: value for key, value in (told | values).items() if value is not None}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "squared"}, "kind 'squared' is not understood"),
        ({"parts": None}, "'parts' is missing"),
        ({"parts": [{"id": "../../x", "spec": "mini"}]}, "'parts' is"),
        ({"parts": []}, "not enough values"),
        ({"files": {}}, "does not list axes.npy"),
        ({"files": {"../axes.npy": "0" * 64}}, "'files' is"),
        ({"id": "other-0123456789ab"}, "not other-0123456789ab as its encoder.json says"),
        ({"format": 2}, "format 2, but this version"),
    ],
)
def test_a_description_that_is_not_understood_is_named(
    tmp_path: Path, tiny: str, values: dict[str, object], said: str
) -> None:
    encoder = ReducedEncoder(registry.load(tiny), np.eye(6, dtype=np.float32)[:2])
    folder = tmp_path / "made"
    compound_folder.write(encoder, folder)
    assert registry.load(str(folder)).info.id == encoder.info.id
    description = folder / "encoder.json"
    description.write_text(json.dumps(changed(json.loads(description.read_text()), **values)))
    with pytest.raises(EncoderError) as caught:
        registry.load(str(folder))
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
