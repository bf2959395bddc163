"""What a sentence encoder knows of texts, learned by photos and words while fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_training import draw_classes, small_recipe, write_captions, write_table
from torch.nn.functional import normalize

from embedsearch.errors import DataError
from embedsearch.training.distill.agreement import agreement
from embedsearch.training.finetune.run import Run
from embedsearch.training.losses import grouped_info_nce, soft_info_nce
from embedsearch.training.teachers import sentences
from embedsearch.training.teachers.sentences import ask_sentences, read_words


def by_colour(texts: Sequence[str]) -> NDArray[np.float32]:
    """A sentence encoder that knows three colours and hardly anything else."""
    rng = np.random.default_rng(0)
    rows = [
        [float(colour in text.split()) for colour in ("red", "green", "blue")]
        + (0.1 * rng.normal(size=3)).tolist()
        for text in texts
    ]
    found = np.array(rows, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sentence encoders that were loaded."""
    asked: list[str] = []

    def load(name: str) -> object:
        asked.append(name)
        return by_colour

    monkeypatch.setattr(sentences, "load_sentences", load)
    return asked


def rows_of(seed: int) -> torch.Tensor:
    return normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_texts_that_are_like_no_other_give_the_loss_of_clip() -> None:
    pictures, texts = rows_of(0), rows_of(1)
    alone = 100 * torch.eye(6)
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 0.1])
    found = soft_info_nce(pictures, texts, alone, 10.0, weights)
    expected = grouped_info_nce(pictures, texts, torch.arange(6), 10.0, weights)
    torch.testing.assert_close(found, expected)


def test_texts_that_say_the_same_are_as_right_as_in_one_group() -> None:
    pictures, texts = rows_of(0), rows_of(1)
    groups = torch.tensor([0, 1, 0, 2, 3, 0])
    alike = 100 * (groups[:, None] == groups[None]).float()
    even = torch.ones(6)
    found = soft_info_nce(pictures, texts, alike, 10.0, even)
    torch.testing.assert_close(found, grouped_info_nce(pictures, texts, groups, 10.0, even))


def test_each_text_is_asked_about_once_and_again_never(known: list[str], tmp_path: Path) -> None:
    texts = ["a red thing", "a blue one", "a red thing"]
    first = ask_sentences("teacher", texts, cache=tmp_path / "cache")
    assert list(first.texts) == ["a red thing", "a blue one"]
    np.testing.assert_allclose(first.rows, by_colour(first.texts), atol=1e-3)
    again = ask_sentences("teacher", texts, cache=tmp_path / "cache")
    np.testing.assert_array_equal(first.rows, again.rows)
    assert len(list((tmp_path / "cache").glob("teacher-texts-*.npy"))) == 1


def test_words_are_read_a_line_each_and_there_are_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("umbrella\n\n red umbrella \n", encoding="utf-8")
    assert read_words(tmp_path / "words.txt") == ["umbrella", "red umbrella"]
    assert {"dog", "beach"} <= set(read_words(None))
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read as a list of words"):
        read_words(tmp_path / "gone.txt")


def trained(folder: Path, *settings: str) -> Run:
    recipe = small_recipe(
        folder,
        write_captions(draw_classes(folder / "photos")),
        f"model.text={write_table(folder / 'table')}",
        "model.dim=12",
        "model.hidden=8",
        "freeze.until=head",
        "optimisation.head_rate=0.05",
        "optimisation.table_rate=0.05",
        "optimisation.batch=8",
        "optimisation.keep_best=false",
        *settings,
    )
    run = Run(recipe, folder / "out")
    run.finetune()
    return run


def test_a_photo_comes_as_near_to_anothers_caption_that_says_the_same(
    known: list[str], tmp_path: Path
) -> None:
    run = trained(tmp_path, 'loss.losses=["sentences"]', "optimisation.epochs=12")
    assert known == ["minilm"]
    assert run.encoder.text is not None
    words = run.encoder.text(["a red thing", "a green thing", "a blue thing"]).detach().numpy()
    nearest = (run.eye.embed(range(len(run.set.photos))) @ words.T).argmax(1)
    truth = [["red", "green", "blue"].index(photo.file.parent.name) for photo in run.set.photos]
    assert (nearest == truth).mean() > 0.8


def test_words_come_to_lie_as_the_sentence_encoder_has_them(
    known: list[str], tmp_path: Path
) -> None:
    listed = ["red", "green", "blue", "the red thing", "a blue photo", "green picture"]
    (tmp_path / "words.txt").write_text("\n".join(listed), encoding="utf-8")
    run = trained(
        tmp_path,
        'loss.losses=["words"]',
        f"data.words={tmp_path / 'words.txt'}",
        "data.sentences=teacher",
        "optimisation.epochs=40",
    )
    assert known == ["teacher"] and run.encoder.text is not None
    found = run.encoder.text(listed).detach().numpy()
    assert agreement(found, by_colour(listed))["relations"] > 0.9


def test_an_encoder_without_a_text_tower_cannot_learn_them(tmp_path: Path) -> None:
    recipe = small_recipe(
        tmp_path, draw_classes(tmp_path / "photos"), 'loss.losses=["words"]', "model.dim=12"
    )
    with pytest.raises(DataError, match="no text tower"):
        Run(recipe, tmp_path / "out").finetune()
