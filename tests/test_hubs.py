"""Pictures that are near to every sentence answer fewer of them; words find what they found."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from encoder_folder import make_litert_folder
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_distillation import DIM, draw_teacher
from small_distillation import recipe as distillation
from small_training import small_recipe
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.encoders import registry
from embedsearch.encoders.folder import HUB_NUMBERS, HUBS, hash_file, read_folder
from embedsearch.encoders.hubs import NEAREST, Hubs, nearness, rows_of_texts, unit_centres
from embedsearch.encoders.litert import LiteRTEncoder
from embedsearch.encoders.towers import towers_of
from embedsearch.errors import DataError, EncoderError
from embedsearch.training.distill.run import Distiller
from embedsearch.training.finetune.run import Run
from embedsearch.training.networks.hub_centres import group_centres, write_hub_centres
from embedsearch.training.recipe import Recipe
from embedsearch.training.recipe_files import overridden

SENTENCE, WORD = 12, 3
"""Tokens of a text that is a sentence, and of one that is not."""
SCALE = np.sqrt((1 + 0.4**2) * (1 + 0.25**2))
"""By which scores are smaller than cosines of the towers' rows."""
rows = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(8)),
    elements=st.floats(-1, 1, width=32),
).filter(lambda found: bool((np.linalg.norm(found, axis=1) > 0.1).all()))


def unit(numbers: object) -> np.ndarray:
    found = np.atleast_2d(np.asarray(numbers, np.float32))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


# What is added to rows


def test_a_sentence_finds_its_picture_before_a_hub_and_a_word_finds_the_nearer() -> None:
    centres = unit(np.tile([0, 1, 0], (NEAREST, 1)))  # all sentences say the same
    pictures = unit([[0.6, 0.3, 0.74], [0.55, -0.1, 0.83]])
    asked = unit([1, 0, 0])
    assert (asked @ pictures.T).argmax() == 0
    told = Hubs(centres, mean=0.1).pictures(pictures)
    assert (rows_of_texts(asked, [SENTENCE]) @ told.T).argmax() == 1
    assert (rows_of_texts(asked, [WORD]) @ told.T).argmax() == 0


def test_of_a_sentence_half_of_what_a_picture_is_too_near_is_taken() -> None:
    """CSLS, where no limit is met."""
    rng = np.random.default_rng(0)
    centres, pictures = unit(rng.normal(size=(40, 64))), unit(rng.normal(size=(9, 64)))
    text = unit(rng.normal(size=64))
    near = np.array([nearness(row, centres) for row in pictures])
    told = Hubs(centres, mean=float(near.mean())).pictures(pictures)
    scores = (rows_of_texts(text, [SENTENCE]) @ told.T)[0] * SCALE
    np.testing.assert_allclose(scores, (text @ pictures.T)[0] - (near - near.mean()) / 2, atol=1e-3)


@given(rows, rows, st.floats(-0.5, 0.9))
def test_words_score_as_they_did_but_for_a_factor(
    texts: np.ndarray, pictures: np.ndarray, mean: float
) -> None:
    asked, shown = unit(texts), unit(pictures)
    told = Hubs(unit(np.eye(8)), mean).pictures(shown)
    words = rows_of_texts(asked, [WORD] * len(asked))
    np.testing.assert_allclose(words @ told.T * SCALE, asked @ shown.T, atol=1e-5)


@given(rows, st.lists(st.integers(1, 40), min_size=6, max_size=6))
def test_rows_stay_of_unit_length_and_pictures_nearly_as_alike(
    found: np.ndarray, tokens: list[int]
) -> None:
    plain = unit(found)
    texts = rows_of_texts(plain, tokens[: len(plain)])
    pictures = Hubs(unit(np.eye(8)), mean=0.3).pictures(plain)
    for told in (texts, pictures):
        assert told.dtype == np.float32 and told.shape == (len(plain), 8 + HUB_NUMBERS)
        np.testing.assert_allclose(np.linalg.norm(told, axis=1), 1, atol=1e-5)
    assert np.abs(pictures @ pictures.T - plain @ plain.T).max() < 0.13


def test_between_words_and_sentences_the_correction_grows() -> None:
    text = np.repeat(unit(np.ones(8)), 5, axis=0)
    told = rows_of_texts(text, [1, 8, 10, 12, 40])[:, 8]
    assert told[0] == told[1] == 0 < told[2] < told[3] == told[4]


def test_centres_are_those_of_the_groups_that_are_there() -> None:
    rng = np.random.default_rng(0)
    middles = unit(rng.normal(size=(12, 32)))
    near = unit(np.repeat(middles, 30, axis=0) + rng.normal(0, 0.01, (360, 32)))
    centres = unit_centres(group_centres(near, 12))
    assert (middles @ centres.T).max(axis=0).min() > 0.6  # every centre is at some group
    assert ((middles @ centres.T).max(axis=1) > 0.99).mean() > 0.8


# An encoder folder that tells hubs apart


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, a teacher that knows words, and captions enough for ten groups."""
    folder = draw_teacher(tmp_path_factory.mktemp("desk"))
    lines = []
    for place, file in enumerate(sorted((folder / "photos").rglob("*.png"))):
        colour = file.parent.name
        said = " ".join(["the picture of a", colour, "thing", *["of the photo"] * place])
        lines.append({"file": str(file.relative_to(folder)), "captions": [said]})
    listed = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "sentences.jsonl").write_text(listed)
    return folder


def asked_for_hubs(desk: Path, *settings: str) -> Recipe:
    return overridden(
        Recipe(),
        [
            f"model.start={desk / 'teacher'}",
            f'data.paths=["{desk / "sentences.jsonl"}"]',
            "data.held_out=0",
            "optimisation.epochs=0",
            f"model.hubs={NEAREST}",
            *settings,
        ],
    )


@pytest.fixture(scope="module")
def told(desk: Path) -> Path:
    """The teacher, whose rows tell hubs apart."""
    Run(asked_for_hubs(desk), desk / "told").finetune()
    return desk / "told"


def pictures(count: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return list(rng.integers(0, 256, (count, 40, 40, 3), np.uint8))


def test_finetune_writes_centres_and_the_towers_stay(desk: Path, told: Path) -> None:
    encoder, plain = registry.load(str(told)), registry.load(str(desk / "teacher"))
    assert (encoder.info.dim, plain.info.dim) == (DIM + HUB_NUMBERS, DIM)
    centres = np.load(told / HUBS)
    assert (centres.shape, centres.dtype) == ((NEAREST, DIM), np.int8)
    seen, expected = encoder.encode_images(pictures()), plain.encode_images(pictures())
    scale = np.linalg.norm(seen[:, :DIM], axis=1, keepdims=True)
    np.testing.assert_allclose(seen[:, :DIM] / scale, expected, atol=1e-4)
    long = "the picture of a red thing of the photo of the photo of a thing"
    short, sentence = encoder.encode_texts(["red", long])
    assert short[DIM] == 0 < sentence[DIM]
    alone = np.concatenate([encoder.encode_images([one]) for one in pictures()])
    assert (encoder.encode_images(pictures()) == alone).all()


def test_the_mean_is_that_of_the_captioned_photos(desk: Path, told: Path) -> None:
    from embedsearch.images.decode import decode

    plain = registry.load(str(desk / "teacher"))
    files = sorted((desk / "photos").rglob("*.png"))
    found = plain.encode_images([decode(file, plain.info.input_size).pixels for file in files])
    centres = unit_centres(np.load(told / HUBS))
    mean = np.mean([nearness(row, centres) for row in found])
    assert read_folder(told).hub_mean == pytest.approx(mean, abs=1e-3)


def test_the_id_depends_on_the_centres_and_on_the_mean(told: Path, tmp_path: Path) -> None:
    shutil.copytree(told, tmp_path / "copy")
    about = read_folder(tmp_path / "copy")
    assert about.hub_mean is not None
    np.save(tmp_path / "copy" / HUBS, np.load(tmp_path / "copy" / HUBS)[::-1])
    hashes = {**about.hashes, HUBS: hash_file(tmp_path / "copy" / HUBS)}
    others = [replace(about, hub_mean=about.hub_mean + 0.1), replace(about, hashes=hashes)]
    assert len({about.id, *(other.id for other in others)}) == 3
    assert about.id == read_folder(told).id


def test_an_index_keeps_them_and_answers(desk: Path, told: Path, tmp_path: Path) -> None:
    index = str(tmp_path / "index")
    run = CliRunner().invoke(
        app, ["index", str(desk / "photos"), "--encoder", str(told), "--index", index]
    )
    assert run.exit_code == 0, run.output
    (kept,) = (tmp_path / "index" / "encoders").iterdir()
    assert (kept / HUBS).read_bytes() == (told / HUBS).read_bytes()
    asked = ["search", "the picture of a red thing", "--index", index, "--json"]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 0 and len(found.stdout.splitlines()) == 10, found.output


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "cannot be read"),
        (lambda file: file.write_bytes(b"junk"), "damaged"),
    ],
)
def test_a_file_of_centres_that_is_gone_or_damaged_is_named(
    told: Path, tmp_path: Path, damage: object, said: str
) -> None:
    shutil.copytree(told, tmp_path / "copy")
    damage(tmp_path / "copy" / HUBS)  # type: ignore[operator]
    with pytest.raises(EncoderError, match=rf"{HUBS}.*{said}"):
        registry.load(str(tmp_path / "copy")).encode_images(pictures())


def test_centres_of_other_dimensions_and_a_wrong_description_are_named(
    told: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(told, copy)
    about = read_folder(copy)
    np.save(copy / HUBS, np.ones((NEAREST, 3), np.int8))
    replace(about, hashes={**about.hashes, HUBS: hash_file(copy / HUBS)}).write()
    with pytest.raises(EncoderError, match=r"hubs\.npy: int8 \(10, 3\), expected"):
        registry.load(str(copy)).encode_images(pictures())
    for wrong in ({"mean": "much"}, {}, 3):
        description = json.loads((told / "encoder.json").read_text()) | {"hubs": wrong}
        (copy / "encoder.json").write_text(json.dumps(description))
        with pytest.raises(EncoderError, match=r"encoder\.json"):
            read_folder(copy)


# What is made of such an encoder


def test_quantize_takes_them_over(desk: Path, told: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    options = ["--photos", str(desk / "photos"), "--out", str(out), "--calibration", "4"]
    run = CliRunner().invoke(app, ["quantize", str(told), *options])
    assert run.exit_code == 0, run.output
    about = read_folder(out)
    assert about.hub_mean == read_folder(told).hub_mean
    assert (out / HUBS).read_bytes() == (told / HUBS).read_bytes()
    assert registry.load(str(out)).encode_images(pictures()).shape == (4, DIM + HUB_NUMBERS)


def test_a_teacher_gives_the_rows_of_its_towers(desk: Path, told: Path, tmp_path: Path) -> None:
    """They are what can be learned, and what a copied text tower gives."""
    both = registry.load(f"{told}+{desk / 'teacher'}")
    plain = registry.load(str(desk / "teacher"))
    alone = towers_of(registry.load(str(told)))
    assert (both.info.dim, towers_of(both).info.dim) == (2 * DIM + HUB_NUMBERS, 2 * DIM)
    np.testing.assert_allclose(
        alone.encode_images(pictures()), plain.encode_images(pictures()), atol=1e-5
    )
    told_recipe = distillation(desk, f"teacher.spec={told}", "optimisation.epochs=1")
    distiller = Distiller(told_recipe, tmp_path / "student", device="cpu")
    assert distiller.student.dim == DIM and distiller.frozen_text
    distiller.distill()
    assert registry.load(str(tmp_path / "student")).info.dim == DIM


def test_another_size_in_use_keeps_them(desk: Path, told: Path, tmp_path: Path) -> None:
    """So that an encoder can be joined with itself at another size."""
    settings = [f"model.start={told}", "model.hubs=0", "model.used_at=48"]
    Run(asked_for_hubs(desk, *settings), tmp_path / "larger").finetune()
    about = read_folder(tmp_path / "larger")
    assert (about.hub_mean, about.input_size) == (read_folder(told).hub_mean, 48)
    both = registry.load(f"({told}+{tmp_path / 'larger'})?join=mean")
    assert both.encode_images(pictures()).shape == (4, DIM + HUB_NUMBERS)


def test_training_on_says_that_they_are_left_behind(desk: Path, told: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = [f"model.start={told}", "model.hubs=0", "optimisation.epochs=1"]
    Run(asked_for_hubs(desk, *settings), tmp_path / "on", tell=lines.append).finetune()
    assert registry.load(str(tmp_path / "on")).info.dim == DIM
    assert any("tell hubs apart, these do not" in line for line in lines)


@pytest.mark.parametrize(
    ("start", "setting"),
    [
        ("({teacher}+{told})?join=weights", "model.pool=avg"),
        ("({told}+{teacher})?join=weights", "model.pool=avg"),
        ("{told}", "model.pool=max"),
    ],
)
def test_an_untrained_encoder_of_other_weights_leaves_them_behind_too(
    desk: Path, told: Path, tmp_path: Path, start: str, setting: str
) -> None:
    lines: list[str] = []
    spec = start.format(told=told, teacher=desk / "teacher")
    settings = [f"model.start={spec}", "model.hubs=0", setting]
    Run(asked_for_hubs(desk, *settings), tmp_path / "other", tell=lines.append).finetune()
    assert registry.load(str(tmp_path / "other")).info.dim == DIM
    assert any("tell hubs apart, these do not" in line for line in lines)


def test_litert_files_tell_hubs_apart_too(tmp_path: Path) -> None:
    folder = make_litert_folder(tmp_path / "litert")
    about = read_folder(folder)
    plain = registry.load(str(folder))
    sentences = unit(np.random.default_rng(0).normal(size=(30, 6)))
    seen = plain.encode_images(pictures())
    write_hub_centres(about, sentences, seen, NEAREST)
    encoder = registry.load(str(folder))
    assert isinstance(encoder, LiteRTEncoder)
    assert encoder.info.dim == 6 + HUB_NUMBERS
    assert (encoder.without_hubs().encode_images(pictures()) == seen).all()


def test_what_cannot_be_done_is_said(desk: Path, tmp_path: Path) -> None:
    for settings, said in (
        (["model.hubs=500"], "500: there are 18 captions"),
        (["model.hubs=3"], f"Ask for {NEAREST} at least"),
        ([f'data.paths=["{desk / "photos"}"]'], "no photo has one"),
    ):
        with pytest.raises(DataError, match=said):
            Run(asked_for_hubs(desk, *settings), tmp_path / "no").finetune()
    with pytest.raises(DataError, match=r"finetune DATA --encoder STUDENT .* model\.hubs=12"):
        Distiller(distillation(desk, "model.hubs=12"), tmp_path / "no", device="cpu")
    without_words = small_recipe(
        tmp_path, desk / "sentences.jsonl", "model.hubs=10", "data.held_out=0"
    )
    with pytest.raises(DataError, match="a text tower that lies in the folder"):
        Run(without_words, tmp_path / "no")
