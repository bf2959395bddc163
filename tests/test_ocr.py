"""Words in pictures: what is read, where, in which order, and with which models."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_pictures import written

from embedsearch.enrichers import ocr_languages, registry
from embedsearch.enrichers.base import Enricher
from embedsearch.enrichers.ocr_engine import SPACE, SPACE_IN_WORD, spaced
from embedsearch.enrichers.ocr_order import lean, reading_order
from embedsearch.errors import EnricherError
from embedsearch.settings import OCR_MODELS


@pytest.fixture(scope="module")
def reader() -> Enricher:
    return registry.load("ocr")


@pytest.fixture(scope="module")
def plain() -> Enricher:
    return registry.load("ocr", "rapidocr:plain")


def quad(left: float, top: float, width: float, height: float = 10) -> np.ndarray:
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def test_lines_are_read_from_top_to_bottom_with_their_places(reader: Enricher) -> None:
    page = written({(40, 40): "INVOICE 2024", (40, 120): "coffee shop", (40, 200): "Total 24.90"})
    lines = reader.enrich(page).lines
    assert [line.text for line in lines] == ["INVOICE 2024", "coffee shop", "Total 24.90"]
    for line, top in zip(lines, (40, 120, 200), strict=True):
        x, y, w, h = line.box
        assert abs(x - 40) <= 8 and top - 8 <= y <= top + 10
        assert 20 <= h <= 50 and 120 <= w <= 260
        assert line.confidence > 0.9
        assert line.quad is not None and len(line.quad) == 8
        assert min(line.quad[0::2]) == x and max(line.quad[1::2]) == y + h


def test_the_same_picture_is_read_the_same_by_several_threads_at_once(reader: Enricher) -> None:
    page = written({(30, 30): "one two", (30, 90): "three"}, size=(320, 160))
    alone = reader.enrich(page)
    with ThreadPoolExecutor(3) as pool:
        assert all(found == alone for found in pool.map(reader.enrich, [page] * 3))


def test_a_small_picture_of_one_word_is_read_where_rapidocr_finds_nothing(
    reader: Enricher, plain: Enricher
) -> None:
    word = written({(1, -3): "bakery"}, size=(54, 16), height=15)
    (line,) = reader.enrich(word).lines
    assert line.text == "bakery"
    assert line.box == (0, 0, 54, 16)
    assert plain.enrich(word).lines == ()


def test_an_empty_picture_holds_no_words(reader: Enricher) -> None:
    assert reader.enrich(np.full((300, 400, 3), 255, np.uint8)).lines == ()
    assert reader.enrich(np.full((20, 30, 3), 128, np.uint8)).lines == ()
    assert reader.enrich(np.zeros((1, 1, 3), np.uint8)).lines == ()


def test_small_words_of_a_large_picture_are_read_inside_it(reader: Enricher) -> None:
    page = written({(700, 480): "tiny words here"}, size=(900, 500), height=11)
    (line,) = reader.enrich(page).lines
    assert line.text == "tiny words here"
    x, y, w, h = line.box
    assert 690 <= x <= 710 and x + w <= 900 and y + h <= 500


def test_a_turned_page_is_read_along_its_lines(reader: Enricher) -> None:
    lines = {(120, 60 + 60 * row): f"line number {word}" for row, word in enumerate("abcd")}
    page = written(lines, size=(640, 420), turned=-8)
    assert [line.text for line in reader.enrich(page).lines] == list(lines.values())


def test_reading_says_nothing(
    reader: Enricher, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        registry.load("ocr", "rapidocr").enrich(written({(5, 5): "hush"}, size=(120, 110)))
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if "rapid" in record.name.lower()] == []


def test_an_id_tells_models_and_settings_apart(reader: Enricher, plain: Enricher) -> None:
    assert reader.info.id != plain.info.id
    assert reader.info.id == registry.load("ocr", "rapidocr").info.id
    assert reader.info.stage == "ocr" and len(reader.info.weights_hash) == 64
    assert registry.load("ocr", "rapidocr:de").info.id == reader.info.id


def test_a_language_in_the_box_needs_no_file_and_one_that_nobody_reads_is_refused() -> None:
    assert ocr_languages.models_for("fr") == ocr_languages.models_for(None)
    with pytest.raises(EnricherError, match=r"no language of that name.*korean"):
        registry.load("ocr", "rapidocr:klingon")


def test_a_model_that_is_not_there_is_named_with_the_ways_to_provide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr("requests.get", no_network)
    monkeypatch.setenv(OCR_MODELS, str(tmp_path))
    with pytest.raises(EnricherError) as raised:
        registry.load("ocr", "rapidocr:ko")
    assert str(tmp_path) in str(raised.value)
    assert OCR_MODELS in str(raised.value)
    name = "korean_PP-OCRv5_rec_mobile.onnx"
    assert name in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).write_bytes(b"given")
    assert tmp_path / name in ocr_languages.models_for("ko").files


@pytest.mark.parametrize(
    ("likely", "text"),
    [
        (SPACE + 0.01, "AB CD"),  # between capitals
        (SPACE - 0.01, "ABCD"),
    ],
)
def test_a_space_is_read_where_it_is_likely_enough(likely: float, text: str) -> None:
    signs = ["", "A", "B", "C", "D", " "]
    columns = np.zeros((9, 6), np.float32)
    for place, sign in enumerate((1, 0, 2, 0, 0, 0, 3, 0, 4)):
        columns[place, sign] = 0.8
    columns[4, 5] = likely
    told, sure = spaced(columns, signs, 5)
    assert told == text
    assert sure == pytest.approx(0.8)


def test_small_letters_are_parted_less_readily() -> None:
    signs = ["", "a", "b", " "]
    columns = np.array([[0, 0.9, 0, 0], [0.6, 0, 0, 0.2], [0, 0, 0.9, 0]], np.float32)
    assert SPACE < 0.2 < SPACE_IN_WORD
    assert spaced(columns, signs, 3)[0] == "ab"
    assert spaced(np.zeros((3, 4), np.float32), signs, 3) == ("", 0.0)


def test_prices_belong_to_their_rows() -> None:
    bread, price, milk, other = quad(0, 0, 90), quad(200, 2, 30), quad(0, 20, 80), quad(200, 19, 30)
    assert reading_order([other, milk, price, bread]) == [3, 2, 1, 0]


def test_columns_of_running_text_are_read_one_after_the_other() -> None:
    left = [quad(0, 20 * row, 100) for row in range(4)]
    right = [quad(150, 20 * row + 3, 100) for row in range(4)]
    mixed = [right[0], left[0], right[1], left[1], left[2], right[2], right[3], left[3]]
    assert reading_order(mixed) == [1, 3, 4, 7, 0, 2, 5, 6]


def test_lines_of_a_page_that_lies_askew_are_read_along_themselves() -> None:
    angle = np.radians(9)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    rows = [quad(x, y, 50) for y in (0, 14, 28) for x in (0, 200)]
    turned = [(each @ turn).astype(np.float32) for each in rows]
    assert lean(np.stack(turned)) == pytest.approx(9, abs=0.1)
    assert reading_order(turned) == [0, 1, 2, 3, 4, 5]
    assert reading_order([]) == []
