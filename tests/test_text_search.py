"""Words written in pictures, and how they are found."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embedsearch.store import database
from embedsearch.store.catalogue import Catalogue
from embedsearch.store.text_search import search_text
from embedsearch.store.text_terms import quality, terms_of, tokens_of

Words = dict[str, Sequence[str]]
Shelf = Callable[[Words], Catalogue]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "catalogue.db"
    database.open_writer(path).close()
    return path


@pytest.fixture
def shelf(tmp_path: Path, empty: Path) -> Iterator[Shelf]:
    """Makes a catalogue of pictures, by name the lines that were read in each."""
    opened: list[Catalogue] = []

    def make(pictures: Words) -> Catalogue:
        path = tmp_path / "catalogue.db"
        shutil.copy(empty, path)
        connection = database.open_writer(path)
        connection.execute("begin")
        connection.execute("insert into roots values (1, ?, '/shelf', 0)", (b"/shelf",))
        connection.execute("insert into enrichers values (1, 'reader', 'ocr', '{}')")
        for number, (name, lines) in enumerate(pictures.items(), 1):
            connection.execute(
                "insert into images (id, root_id, path, name, size, mtime_ns, hash, width, height, "
                "format, status) values (?, 1, ?, ?, 1, 1, 'h', 100, 100, 'PNG', 'ok')",
                (number, os.fsencode(name), name),
            )
            connection.executemany(
                "insert into text_lines (image_id, enricher, x, y, w, h, text, confidence, at) "
                "values (?, 1, 1, ?, 30, 10, ?, 0.9, null)",
                [(number, place * 20, line) for place, line in enumerate(lines)],
            )
        connection.execute("commit")
        connection.close()
        opened.append(Catalogue.open(path))
        return opened[-1]

    yield make
    for catalogue in opened:
        catalogue.close()


def names(catalogue: Catalogue, asked: str, limit: int = 10, **options: bool) -> list[str]:
    return [Path(hit.path).name for hit in search_text(catalogue, asked, limit, **options)]


PAPERS: Words = {
    "bill.png": ["INVOICE No. 17", "Total 24.90", "21 March 2024"],
    "older.png": ["Invoice", "12 May 2019"],
    "form.png": ["invoices are due in 30 days"],
    "label.png": ["the invoiceable hours"],
    "voice.png": ["His Master's Voice"],
    "cafe.png": ["Café Zürich", "Straße 5"],
    "sign.png": ["coffee shop open", "no shop coffee"],
    "glued.png": ["TAXINVOICE"],
}


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("invoice 2024", ["bill.png"]),  # words of two lines of one picture
        ("INVOICE no", ["bill.png"]),
        ("cafe", ["cafe.png"]),  # accents and case are folded
        ("CAFÉ zurich", ["cafe.png"]),
        ("straße", ["cafe.png"]),
        ('"coffee shop"', ["sign.png"]),
        ('"coffee shop open"', ["sign.png"]),
        ('"shop open coffee"', []),  # the words of a phrase stand in this order, or nowhere
        ('"open coffee"', []),  # nor may a phrase go on in the next line
        ("zuri", ["cafe.png"]),  # the beginning of a word
        ("24.90", ["bill.png"]),
        ("invoce 2024", ["bill.png"]),  # a letter is missing
        ("marhc", ["bill.png"]),  # two letters have changed places
        ("mastre", ["voice.png"]),
        ("coffee elephant", []),
        ("aster", ["voice.png"]),  # a part from the middle
    ],
)
def test_what_is_written_is_found(shelf: Shelf, asked: str, first: list[str]) -> None:
    assert names(shelf(PAPERS), asked) == first


def test_a_whole_word_is_better_than_a_beginning_than_a_part_than_a_misspelling(
    shelf: Shelf,
) -> None:
    catalogue = shelf({**PAPERS, "odd.png": ["INV0ICE"]})
    assert names(catalogue, "invoice") == [
        "older.png",  # the word, and nothing else in the line
        "bill.png",
        "form.png",  # a beginning, which covers more of its word than that of the next
        "label.png",
        "glued.png",
        "odd.png",
    ]
    scores = [hit.score for hit in search_text(catalogue, "invoice", 10)]
    assert scores[0] == 1.0
    assert scores == sorted(scores, reverse=True)
    assert scores[1] >= 0.9 > scores[2] >= scores[3] >= 0.7 > scores[4] >= 0.5 > scores[5] > 0
    assert "voice.png" not in names(catalogue, "invoice")


def test_a_hit_says_where_the_best_line_of_each_word_is(shelf: Shelf) -> None:
    (hit,) = search_text(shelf(PAPERS), "total march", 10)
    assert hit.path == "/shelf/bill.png"
    assert {line.text for line in hit.lines} == {"Total 24.90", "21 March 2024"}
    assert hit.text == hit.lines[0].text
    assert hit.box == {"Total 24.90": (1, 20, 30, 10), "21 March 2024": (1, 40, 30, 10)}[hit.text]


def test_words_of_one_line_are_better_than_words_of_two(shelf: Shelf) -> None:
    catalogue = shelf({"apart.png": ["stop here", "now"], "together.png": ["stop now please"]})
    assert names(catalogue, "stop now") == ["together.png", "apart.png"]


def test_some_of_the_words_are_enough_where_that_is_asked_for_and_rare_ones_count_more(
    shelf: Shelf,
) -> None:
    catalogue = shelf(
        {f"{n}.png": ["a sign of the shop"] for n in range(20)} | {"stop.png": ["STOP"]}
    )
    assert names(catalogue, "a photo of a stop sign") == []
    some = search_text(catalogue, "a photo of a stop sign", 30, every=False)
    assert Path(some[0].path).name == "stop.png"
    assert 0 < some[-1].score < some[0].score < 0.9


def test_vanished_pictures_are_left_out_and_only_allowed_ones_are_found(
    shelf: Shelf, tmp_path: Path
) -> None:
    catalogue = shelf({"a.png": ["lemon"], "b.png": ["lemon tree"], "c.png": ["lemon"]})
    assert names(catalogue, "lemon") == ["a.png", "c.png", "b.png"]
    found = search_text(catalogue, "lemon", 10, allowed={2, 3})
    assert [Path(hit.path).name for hit in found] == ["c.png", "b.png"]
    assert search_text(catalogue, "lemon tree", 10, allowed={1}) == []
    assert search_text(catalogue, "lemom", 10, allowed=[]) == []
    writer = database.open_writer(tmp_path / "catalogue.db")
    writer.execute("update images set status = 'vanished' where id = 3")
    writer.close()
    assert names(catalogue, "lemon") == ["a.png", "b.png"]
    assert names(catalogue, "lemon", limit=1) == ["a.png"]


def test_two_signs_are_a_word_where_words_are_not_set_apart(shelf: Shelf) -> None:
    catalogue = shelf({"exit.png": ["请走安全出口"], "tea.png": ["一杯茶"]})
    assert names(catalogue, "出口") == ["exit.png"]
    assert names(catalogue, "安全出") == ["exit.png"]


@pytest.mark.parametrize(
    "asked",
    ["", " ", '"', '""', "-", "*", "NOT", "AND OR", "a:", "(", "\0", "🎈", '" " "', "%", "_", "^z"],
)
def test_what_no_word_is_raises_nothing(shelf: Shelf, asked: str) -> None:
    catalogue = shelf({"a.png": ["plain text"]})
    assert names(catalogue, asked) == []


def test_operators_of_the_full_text_index_are_words_like_others(shelf: Shelf) -> None:
    catalogue = shelf({"gate.png": ["A NAND gate is NOT AND"], "wave.png": ["near waves"]})
    assert names(catalogue, "not and") == ["gate.png"]
    assert names(catalogue, "NEAR(waves)") == ["wave.png"]
    assert names(catalogue, 'gate" is') == ["gate.png"]


written = st.text(st.sampled_from("abc éßöÑ中文🎈\"'*-:()^%_\\\0\ud800AND019"), max_size=12)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=written | st.text(max_size=20))
def test_any_text_may_be_asked_for(any_shelf: Catalogue, asked: str) -> None:
    for hit in search_text(any_shelf, asked, 5):
        assert 0 < hit.score <= 1
        assert all(quality(term, line.text) >= 0 for term in terms_of(asked) for line in hit.lines)
    search_text(any_shelf, asked, 5, every=False)


@pytest.fixture
def any_shelf(shelf: Shelf) -> Catalogue:
    return shelf({"a.png": ["abc AND NOT bca", "éß 中文 019"], "b.png": ['quote " and \\ % _']})


@settings(max_examples=60, deadline=None)
@given(line=st.text(max_size=30))
@example(line="🄐")  # of which the capital letter appears only when it is taken apart
def test_every_word_of_a_line_answers_itself_best(line: str) -> None:
    for word in tokens_of(line):
        for term in terms_of(word):
            assert quality(term, line) >= 0.9


def test_every_line_is_found_by_each_of_its_words_and_their_beginnings(shelf: Shelf) -> None:
    draw = random.Random(0)
    lines = {
        f"{number}.png": [" ".join(draw.choices(["abc", "Éa", "b", "ab1", "AND", "中"], k=4))]
        for number in range(30)
    }
    catalogue = shelf(lines)
    for name, (line,) in lines.items():
        for word in line.split():
            assert name in names(catalogue, word, 30)
            assert name in names(catalogue, word[:1], 30)
        assert name in names(catalogue, f'"{line}"', 30)
