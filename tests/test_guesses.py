"""Guesses of a classifier, and learning from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_training import draw_classes, small_recipe, write_captions, write_table

from embedsearch.encoders import registry
from embedsearch.errors import DataError
from embedsearch.records import EncoderInfo
from embedsearch.training.finetune.run import Run
from embedsearch.training.teachers.guesses import BACKGROUND, Guesses, guess, read_class_names

NAMES = [(BACKGROUND,), ("red", "scarlet"), ("green",)]


class Shares:
    """A classifier whose shares are a background of 0.2, and 0.6 and 0.2 by the redder half."""

    def __init__(self, row: list[float] | None = None) -> None:
        self.row = row
        self.info = EncoderInfo(
            id="shares-000000000000",
            spec="shares",
            dim=3,
            has_text=False,
            licence="",
            weights_hash="0",
            input_size=16,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            resize="squash",
            pooling="",
            description="",
        )

    def encode_images(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = []
        for image in images:
            red, green, _ = image.reshape(-1, 3).mean(0)
            rows.append(self.row or ([0.2, 0.6, 0.2] if red > green else [0.2, 0.2, 0.6]))
        found = np.array(rows, np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def classifier(monkeypatch: pytest.MonkeyPatch) -> Shares:
    known = Shares()
    monkeypatch.setattr(registry, "load", lambda spec: known)
    return known


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "red.png", tmp_path / "green.png"]
    for file, colour in zip(found, ((200, 20, 20), (20, 200, 20)), strict=True):
        Image.new("RGB", (24, 24), colour).save(file)
    return found


def test_shares_sum_to_one_without_the_background(
    classifier: Shares, files: list[Path], tmp_path: Path
) -> None:
    found = guess("shares", NAMES, files, cache=tmp_path / "cache")
    assert found.names == NAMES[1:]
    np.testing.assert_allclose(found.shares, [[0.75, 0.25], [0.25, 0.75]], atol=2e-3)


def test_the_classifier_is_asked_once_for_the_same_photos(
    classifier: Shares, files: list[Path], tmp_path: Path
) -> None:
    first = guess("shares", NAMES, files, cache=tmp_path / "cache")
    classifier.row = [1.0, 0.0, 0.0]
    again = guess("shares", NAMES, files, cache=tmp_path / "cache")
    np.testing.assert_array_equal(first.shares, again.shares)


def test_prompts_are_around_every_name_of_a_class_and_mostly_the_first() -> None:
    guesses = Guesses(np.zeros((0, 2), np.float16), NAMES[1:])
    rng = np.random.default_rng(0)
    drawn = [guesses.prompts(rng) for _ in range(300)]
    assert {prompts[1] for prompts in drawn} == {"a photo of a green"}
    firsts = sum(prompts[0] == "a photo of a red" for prompts in drawn)
    assert {prompts[0] for prompts in drawn} == {"a photo of a red", "a photo of a scarlet"}
    assert 0.7 < firsts / 300 < 0.9  # 0.6 + 0.4 / 2


def test_other_numbers_than_names_are_refused(
    classifier: Shares, files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="knows 3 classes, and 2 are named"):
        guess("shares", NAMES[1:], files, cache=tmp_path)


def test_what_can_be_no_probabilities_is_refused(
    classifier: Shares, files: list[Path], tmp_path: Path
) -> None:
    classifier.row = [-1.0, 0.5, 0.5]
    with pytest.raises(DataError, match="no probabilities"):
        guess("shares", NAMES, files, cache=tmp_path / "cache")


def test_names_of_classes_are_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("background\ntench, Tinca tinca\nhorned_viper\n", encoding="utf-8")
    assert read_class_names(file) == [("background",), ("tench", "Tinca tinca"), ("horned viper",)]
    file.write_text("tench\n\nviper\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        read_class_names(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_class_names(tmp_path / "missing.txt")


def test_photos_come_near_the_names_that_the_classifier_guesses(
    classifier: Shares, tmp_path: Path
) -> None:
    photos = draw_classes(tmp_path / "photos")
    names = tmp_path / "names.txt"
    names.write_text("background\nred\ngreen\n", encoding="utf-8")
    recipe = small_recipe(
        tmp_path,
        write_captions(photos),
        f"model.text={write_table(tmp_path / 'table')}",
        "model.dim=12",
        "model.hidden=8",
        'loss.losses=["guesses"]',
        "data.classifier=shares",
        f"data.class_names={names}",
        "freeze.until=head",
        "optimisation.head_rate=0.05",
        "optimisation.epochs=6",
        "optimisation.keep_best=false",
    )
    run = Run(recipe, tmp_path / "out")
    run.finetune()
    assert run.encoder.text is not None
    words = run.encoder.text(["a photo of a red", "a photo of a green"]).detach().numpy()
    pictures = run.eye.embed(range(len(run.set.photos)))
    is_red = np.array([photo.file.parent.name == "red" for photo in run.set.photos])
    is_green = np.array([photo.file.parent.name == "green" for photo in run.set.photos])
    nearer_red = (pictures @ words[0]) > (pictures @ words[1])
    assert nearer_red[is_red].mean() > 0.8
    assert not nearer_red[is_green].mean() > 0.2


def test_the_loss_without_a_classifier_says_what_to_name(tmp_path: Path) -> None:
    recipe = small_recipe(
        tmp_path,
        write_captions(draw_classes(tmp_path / "photos")),
        f"model.text={write_table(tmp_path / 'table')}",
        "model.dim=12",
        'loss.losses=["guesses"]',
    )
    with pytest.raises(DataError, match=r"data\.classifier"):
        Run(recipe, tmp_path / "out").finetune()
