"""A recogniser that is trained here: what is drawn, what is learned, and that it reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from written_pictures import save, written

from embedsearch.enrichers import registry
from embedsearch.enrichers.ocr_own import COLUMN, FILE, MODEL, NARROWEST, to_height
from embedsearch.errors import DataError, EnricherError
from embedsearch.training.ocr.batches import Batches, together
from embedsearch.training.ocr.drawing import binary, draw_word, elastic, fonts_of
from embedsearch.training.ocr.finetune import compared, finetune
from embedsearch.training.ocr.network import WordNetwork
from embedsearch.training.ocr.recipe import Data, Drawing, Model, Recipe
from embedsearch.training.ocr.words import draw_text, read_words, spelled
from embedsearch.training.recipe import Optimisation

PLAIN = Drawing(
    least=30, largest=32, contrast=200, elastic=0, turn=0, slant=0, blur=0, noise=0, binary=0,
    rough=0, jpeg=0,
)  # fmt: skip
DIGITS = "0123456789"


def small(words: Path, epochs: int = 1) -> Recipe:
    """A recipe of seconds: one font, plain digits."""
    return Recipe(
        model=Model(width=8, height=16, signs=DIGITS, dropout=0.0),
        data=Data(paths=(str(words),), random=0.0, joined=0.0, words=512, held_out=0.1, checked=20),
        drawing=PLAIN,
        optimisation=Optimisation(
            epochs=epochs, batch=32, rate=5e-3, decay=0.0, warm_up=0.1, clip=5.0, threads=1
        ),
    )


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    path = tmp_path / "numbers.txt"
    path.write_text("\n".join("".join(map(str, draw.integers(0, 10, 3))) for _ in range(300)))
    return path


@pytest.fixture(autouse=True)
def one_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for all: others would need longer runs."""
    sans = [font for font in fonts_of(Drawing()) if font.endswith("DejaVuSans.ttf")]
    monkeypatch.setattr("embedsearch.training.ocr.finetune.fonts_of", lambda _: sans)


def test_digits_are_learned_in_seconds_and_read_back(numbers: Path, tmp_path: Path) -> None:
    outcome = finetune(small(numbers, epochs=8), tmp_path / "digits", device="cpu")
    assert outcome.word_recall > 0.6
    assert outcome.CER < 0.15
    folder = tmp_path / "digits"
    assert json.loads((folder / "report.json").read_text())["word_recall"] == outcome.word_recall
    reader = registry.load("ocr", str(folder))
    assert reader.info.stage == "ocr"
    assert reader.info.id.startswith("digits-")
    read = 0
    for text in ("314", "159", "265", "907"):
        word = written({(1, -5): text}, size=(64, 26), height=32)
        lines = reader.enrich(word).lines
        read += bool(lines) and lines[0].text == text
    assert read >= 2
    page = written({(60, 60): "2718", (60, 160): "5309"}, size=(400, 260), height=40)
    lines = reader.enrich(page).lines  # of which what was learned in seconds may doubt one
    assert 1 <= len(lines) <= 2
    for line in lines:
        x, y, _, _ = line.box
        assert abs(x - 60) < 12 and min(abs(y - 60), abs(y - 160)) < 12
        assert line.text.isdigit()
    (folder / MODEL).write_bytes(b"other")
    with pytest.raises(EnricherError, match="damaged"):
        registry.load("ocr", str(folder)).enrich(page)
    (folder / FILE).write_text("{}")
    with pytest.raises(EnricherError, match="cannot be read as a reader"):
        registry.load("ocr", str(folder))


def test_a_run_that_was_broken_off_goes_on_where_it_was(
    numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(numbers, epochs=2)
    recipe = replace(recipe, data=replace(recipe.data, words=96, checked=5))
    whole = finetune(recipe, tmp_path / "whole", device="cpu")

    def stop(what: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(recipe, tmp_path / "parts", device="cpu", progress=stop)
    parts = finetune(recipe, tmp_path / "parts", device="cpu", resume=True)
    assert parts.history.losses == pytest.approx(whole.history.losses, rel=1e-4)
    other = replace(recipe, data=replace(recipe.data, random=0.5))
    with pytest.raises(DataError, match="another recipe"):
        finetune(other, tmp_path / "parts", device="cpu", resume=True)


def test_the_same_step_draws_the_same_words_of_like_width() -> None:
    model, data = Model(), Data(words=64)
    words = read_words(data, model.signs)
    batches = Batches(words, fonts_of(Drawing()), model, data, Drawing(), 8, seed=3)
    one, other = next(batches(5)), next(batches(5))
    assert torch.equal(one.words, other.words) and torch.equal(one.signs, other.signs)
    ahead = batches(3)
    next(ahead), next(ahead)
    assert torch.equal(next(ahead).words, one.words)
    assert one.words.dtype == torch.uint8 and one.words.shape[1] == model.height
    assert int(one.lengths.sum()) == len(one.signs)
    assert (one.columns >= 2 * one.lengths).all()
    assert not set(words.learned) & set(words.held)


def test_words_come_from_plain_to_spoilt() -> None:
    drawing = Drawing(easy=2.0)
    assert drawing.eased(0).noise == drawing.eased(0).turn == 0
    assert drawing.eased(1).noise == drawing.noise / 2
    assert drawing.eased(0).contrast > drawing.eased(1).contrast >= drawing.contrast
    assert drawing.eased(2) == drawing


def test_a_drawn_word_depends_on_its_seed_alone_and_looks_like_writing() -> None:
    fonts = fonts_of(Drawing())
    assert len(fonts) > 10
    one = draw_word("Hello", fonts, Drawing(), np.random.default_rng(4))
    assert np.array_equal(one, draw_word("Hello", fonts, Drawing(), np.random.default_rng(4)))
    plain = draw_word("Hello", fonts, PLAIN, np.random.default_rng(4))
    assert int(plain.max()) - int(plain.min()) >= 127
    with pytest.raises(DataError, match="no font"):
        fonts_of(Drawing(fonts=("/no/such/folder",)))


def test_elastic_deformation_moves_no_further_than_told_and_keeps_the_ink() -> None:
    ink = np.zeros((64, 128), np.float32)
    ink[24:40, 40:88] = 1
    bent = elastic(ink, 4.0, np.random.default_rng(1))
    assert bent.shape == ink.shape
    assert not np.array_equal(bent, ink)
    assert bent[:19].max() == bent[45:].max() == bent[:, :35].max() == 0  # 4 pixels, and the pixel
    assert bent[29:35, 45:83].min() > 0.99
    assert np.array_equal(elastic(ink, 0.0, np.random.default_rng(1)), ink)


def test_binarisation_leaves_black_and_white() -> None:
    picture = np.tile(np.linspace(40, 200, 50, dtype=np.float32), (20, 1))
    assert set(np.unique(binary(picture, np.random.default_rng(0)))) == {0, 255}


def test_words_are_spelled_with_the_signs_there_are() -> None:
    assert spelled("Ab1", "ab1") == [1, 2, 3]  # a capital as a small letter
    assert spelled("Ab", "abA") == [3, 2]
    assert spelled("a-b", "ab") == []
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = draw_text(["Word", "other"], "wordthe 0123456789", Data(joined=0.5), rng)
        assert spelled(text, "wordthe 0123456789")


def test_a_list_without_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "greek.txt").write_text("αλφα\nβητα\n")
    with pytest.raises(DataError, match=r"greek\.txt: of 3 words 0 can be written"):
        read_words(Data(paths=(str(tmp_path / "greek.txt"),)), DIGITS)
    with pytest.raises(DataError, match="cannot be read"):
        read_words(Data(paths=(str(tmp_path / "missing.txt"),)), DIGITS)


def test_photographed_words_are_trained_on_too(numbers: Path, tmp_path: Path) -> None:
    save(written({(2, 2): "42"}, size=(40, 30)), tmp_path / "word.png")
    rows = [
        {"file": "word.png", "kind": "word", "items": [{"text": "42"}]},
        {"file": "page.png", "kind": "page", "items": [{"text": "1"}, {"text": "2"}]},
        {"file": "none.png", "kind": "word", "items": [{"text": "7", "ignore": True}]},
    ]
    truth = tmp_path / "words.jsonl"
    truth.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = small(numbers)
    data = replace(recipe.data, paths=(str(numbers), str(truth)), words=64)
    words = read_words(data, DIGITS)
    assert [photo.text for photo in words.photos] == ["42"]
    batches = Batches(words, fonts_of(Drawing()), recipe.model, data, PLAIN, 16, seed=0)
    drawn = [batch for _, batch in zip(range(4), batches(0), strict=False)]
    lengths = torch.cat([batch.lengths for batch in drawn])
    assert 5 <= int((lengths == 2).sum()) <= 35  # of 64; all others have three digits


def test_shapes_fit_together() -> None:
    grey = np.zeros((20, 9), np.uint8)
    assert to_height(grey, 32).shape == (32, NARROWEST)
    network = WordNetwork(32, 10, 4, 0.0).eval()
    batch = together([(grey, "12345678901")], Model(signs=DIGITS))
    assert network(batch.words).shape == (1, batch.words.shape[2] // COLUMN, 11)
    assert int(batch.columns[0]) >= 2 * 11 + 1
    with pytest.raises(ValueError, match="multiple of 16"):
        WordNetwork(24, 10, 4, 0.0)


def test_figures_are_of_each_word_by_itself() -> None:
    assert compared(["Stop", "go"], ["stop!", "no"]) == (0.5, pytest.approx(1 / 6))
    assert compared(["a b", "c"], ["b a", ""]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
