"""The words that name clusters: how they are made, and what is in the box."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedsearch.explore import vocabulary
from embedsearch.training.data.photos import Photo
from embedsearch.training.vocabulary import caption_words, everyday_words, label_words, main

THINGS = ("leash", "canoe", "kettle", "fountain")


def test_captions_give_things_and_pairs_but_neither_adjectives_nor_verbs() -> None:
    captions = []
    for thing in THINGS:
        captions += [f"A shiny {thing} near the water.", f"The {thing} is wet."] * 8
    captions += ["Two picnic tables stand empty.", "A picnic table is empty."] * 10
    captions += ["A table."] * 6
    found = caption_words(captions)
    assert set(found) == {*THINGS, "water", "table", "picnic table"}
    assert found[0] == "water"


def test_captions_say_nothing_of_how_people_look() -> None:
    captions = ["A black man and an asian woman.", "The woman sees a man.", "A bald man."] * 20
    assert sorted(caption_words(captions)) == ["man", "woman"]


def test_plurals_are_folded_where_the_singular_is_used_and_only_there() -> None:
    captions = ["The jeans."] * 20 + ["The canoes."] * 10 + ["A canoe."] * 10
    assert caption_words(captions) == ["jeans", "canoe"]


def test_labels_count_by_their_usual_name_where_several_photos_have_them() -> None:
    photos = [Photo(Path("a.jpg"), "shots", ("Brown Bear", "bruin"), ())] * 4
    photos += [Photo(Path("b.jpg"), "shots", ("okapi",), ())] * 3
    photos += [Photo(Path("c.jpg"), "grocery", ("Brand Yoghurt",), ())] * 9
    assert label_words(photos) == ["brown bear"]


def test_the_command_writes_each_word_once_in_alphabetical_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"file": "a.jpg", "captions": ["Two zeppelins.", "A zeppelin."], "label": None}] * 10
    lines += [{"file": "b.jpg", "label": "Cats", "captions": []}] * 5
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "words.txt"
    assert main(["--data", str(tmp_path / "train.jsonl"), "--out", str(out)]) == 0
    words = out.read_text("utf-8").splitlines()
    assert words == sorted(set(words))
    assert set(words) == set(everyday_words()) | {"zeppelin"}
    assert f"{len(words):,} words" in capsys.readouterr().err


def test_the_command_names_a_file_that_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "train.jsonl"
    assert main(["--data", str(missing), "--out", str(tmp_path / "words.txt")]) == 1
    assert str(missing) in capsys.readouterr().err
    assert not (tmp_path / "words.txt").exists()


def test_the_words_in_the_box_are_many_short_and_each_there_once() -> None:
    words = vocabulary.words()
    assert len(words) > 1000
    assert list(words) == sorted(set(words))
    assert {"dog", "beach", "sunset", "screenshot", "receipt", "golden retriever"} <= set(words)
    assert max(len(word.split()) for word in words) <= 5
    assert all(word == word.lower() and word.isascii() and word.strip() == word for word in words)
    assert sum(len(word) + 1 for word in words) <= 100_000
