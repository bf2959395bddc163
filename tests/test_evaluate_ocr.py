"""Figures of readers, on pictures few enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from written_pictures import save, written

from embedsearch.commands.app import app
from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.errors import DataError
from embedsearch.records import EnricherInfo, TextLine
from embedsearch.training.evaluate.ocr import (
    Page,
    Tally,
    evaluate_ocr,
    least_errors,
    tally,
    words_of,
)


def line(text: str, x: float = 0, width: float = 100) -> TextLine:
    return TextLine(text, 1.0, (x, 0, width, 10))


def page(*words: str, ignored: tuple[np.ndarray, ...] = ()) -> Page:
    return Page(Path("a.png"), "here", "scene", words, ignored)


class Says:
    """Reads the same lines in every picture."""

    def __init__(self, *texts: str) -> None:
        self._lines = tuple(map(line, texts))
        self.info = EnricherInfo("says-1", "says", "ocr", "none", "0" * 64, look=8)

    def enrich(self, picture: Pixels) -> Findings:
        return Findings(lines=self._lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("«Straße» -- (RM)", ["strasse", "rm"]),  # casefolded, edges bare, nothing left of --
        ("e.&.o.e. $10 50%", ["e.&.o.e", "10", "50"]),
        ("", []),
    ],
)
def test_words_are_compared_without_case_and_edges(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_words_are_a_multiset() -> None:
    told = tally(page("s", "s", "total"), [line("total"), line("s")])
    assert told == Tally(words=3, found=2, signs=7, errors=1)  # the second s was missed


def test_order_does_not_matter_and_what_was_read_beside_it_counts() -> None:
    told = tally(page("stop", "here"), [line("hero stop x")])
    # hero for here is one letter, x one more.
    assert told == Tally(words=2, found=1, signs=8, errors=2)


def test_what_is_read_where_the_page_is_ignored_is_no_error() -> None:
    there = np.array([[50, 0], [100, 0], [100, 10], [50, 10]], np.float64)
    assert tally(page("stop", ignored=(there,)), [line("stop blur")]).errors == 0
    assert tally(page("stop"), [line("stop blur")]).errors == 4
    # In a picture of half the size the boxes are half as large.
    small = TextLine("stop blur", 1.0, (0, 0, 50, 5))
    assert tally(page("stop", ignored=(there,)), [small], factor=2).errors == 0


@pytest.mark.parametrize(
    ("written_words", "read", "errors"),
    [
        ([], [], 0),
        (["abc"], [], 3),
        ([], ["ab"], 2),
        (["abc", "xyz"], ["xyy", "abd"], 2),
        (["ab"], ["vwxyz"], 5),  # nothing alike: two changed, three too much
        (["invoice", "no"], ["invoiceno"], 4),
    ],
)
def test_errors_are_the_fewest_letters(
    written_words: list[str], read: list[str], errors: int
) -> None:
    assert least_errors(written_words, read) == errors


def truth(folder: Path) -> Path:
    save(np.zeros((20, 30, 3), np.uint8), folder / "a.png")
    save(np.zeros((20, 30, 3), np.uint8), folder / "b.png")
    rows = [
        {
            "file": "a.png",
            "kind": "scene",
            "items": [
                {"text": "Stop!", "quad": None, "ignore": False},
                {"text": "###", "quad": [0, 0, 9, 0, 9, 9, 0, 9], "ignore": True},
            ],
        },
        {
            "file": "b.png",
            "kind": "page (rendered here)",
            "items": [{"text": "go on", "quad": None, "ignore": False}],
        },
    ]
    path = folder / "annotations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_figures_are_told_by_kind(tmp_path: Path) -> None:
    told = evaluate_ocr(truth(tmp_path), Says("STOP"))
    assert told == {
        "overall": {"word_recall": pytest.approx(1 / 3), "CER": pytest.approx(5 / 8)},
        "kinds": {
            # For "go" and "on" it read "stop": "on" is three letters from it, "go" is missing.
            "page": {"word_recall": 0.0, "CER": pytest.approx(5 / 4)},
            "scene": {"word_recall": 1.0, "CER": 0.0},
        },
    }


def test_a_ground_truth_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "annotations.jsonl"
    path.write_text('{"file": "a.png", "kind": "scene"}\n')
    with pytest.raises(DataError, match=r"line 1: 'items'"):
        evaluate_ocr(path, Says())
    path.write_text('{"file": "a.png", "kind": "scene", "items": [{"text": "a"}]}\n')
    with pytest.raises(DataError, match=r"a\.png cannot be used"):
        evaluate_ocr(path, Says())


def test_the_command_prints_one_object_and_takes_a_reader(tmp_path: Path) -> None:
    picture = written({(20, 20): "open today"}, size=(300, 120))
    save(picture, tmp_path / "sign.png")
    row = {"file": "sign.png", "kind": "scene", "items": [{"text": "OPEN today", "quad": None}]}
    path = tmp_path / "annotations.jsonl"
    path.write_text(json.dumps(row) + "\n")
    for spec in ("rapidocr", "rapidocr:plain"):
        done = CliRunner().invoke(app, ["evaluate", "ocr", str(path), "--ocr", spec, "--json"])
        assert done.exit_code == 0, done.output
        perfect = {"word_recall": 1.0, "CER": 0.0}
        assert json.loads(done.stdout) == {"overall": perfect, "kinds": {"scene": perfect}}
    done = CliRunner().invoke(app, ["evaluate", "captions", str(path), "--ocr", "rapidocr"])
    assert done.exit_code == 2
    assert "--ocr belongs to" in done.output
