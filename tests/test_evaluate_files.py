"""The four tasks on files: what is read and encoded, and what is said of bad ground truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from conftest import PngMaker

from embedsearch.errors import DataError
from embedsearch.training.evaluate import (
    evaluate_captions,
    evaluate_category,
    evaluate_copies,
    evaluate_products,
)

PERFECT = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 1.0}


class Blind(ColourEncoder):
    """The colour encoder without its text tower."""

    @property
    def info(self) -> Any:
        return replace(super().info, has_text=False)


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, columns: str, rows: list[str]) -> Path:
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def captions(tmp_path: Path, png: PngMaker) -> Path:
    for colour in ("red", "blue", "yellow"):
        png(tmp_path / "images" / f"{colour}.png", colour)
    return write_json_lines(
        tmp_path / "captions.jsonl",
        [
            {"file": f"images/{colour}.png", "captions": [f"something {colour}", colour]}
            for colour in ("red", "blue", "yellow")
        ],
    )


@pytest.fixture
def category(tmp_path: Path, png: PngMaker) -> Path:
    rows = []
    for number, (colour, label) in enumerate(
        [("red", "red_thing"), ("red", "red_thing"), ("blue", "blue"), ("blue", "blue")]
    ):
        png(tmp_path / f"{number}.png", colour, size=(40 + number, 30))
        rows += [f"{number}.png,things,{label}", f"{number}.png,coded,c{number // 2}"]
    return write_csv(tmp_path / "meta.csv", "file,set,label", rows)


@pytest.fixture
def copies(tmp_path: Path, png: PngMaker) -> Path:
    for colour in ("red", "blue"):
        png(tmp_path / "originals" / f"{colour}.png", colour)
    png(tmp_path / "edited" / "small.png", (220, 35, 30), size=(10, 8))
    png(tmp_path / "edited" / "dark.png", (15, 25, 105))
    return write_csv(
        tmp_path / "meta.csv",
        "file,original_id,kind,transform",
        [
            "originals/red.png,r,original,none",
            "originals/blue.png,b,original,none",
            "edited/small.png,r,copy,resize",
            "edited/dark.png,b,corruption,dark",
        ],
    )


@pytest.fixture
def products(tmp_path: Path, png: PngMaker) -> Path:
    for colour in ("red", "blue"):
        png(tmp_path / "iconic" / f"{colour}.png", colour)
        png(tmp_path / "photos" / f"{colour}1.png", colour, size=(20, 30))
        png(tmp_path / "photos" / f"{colour}2.png", colour, size=(30, 20))
    write_csv(
        tmp_path / "photos.csv",
        "file,class,coarse",
        [f"photos/{c}{n}.png,{c},any" for c in ("red", "blue") for n in (1, 2)],
    )
    write_json_lines(
        tmp_path / "classes.jsonl",
        [
            {"cls": c, "iconic": f"iconic/{c}.png", "description": f"A {c} one."}
            for c in ("red", "blue")
        ],
    )
    return tmp_path


# What is measured


def test_captions_find_the_pictures_they_name(captions: Path, encoder: ColourEncoder) -> None:
    told = evaluate_captions(captions, encoder)
    assert told == {"text_to_image": PERFECT, "image_to_text": PERFECT}


def test_captions_that_are_swapped_find_the_wrong_pictures(
    captions: Path, encoder: ColourEncoder
) -> None:
    rows = [json.loads(line) for line in captions.read_text().splitlines()]
    rows[0]["captions"], rows[1]["captions"] = rows[1]["captions"], rows[0]["captions"]
    write_json_lines(captions, rows)
    assert evaluate_captions(captions, encoder)["text_to_image"]["R@1"] == pytest.approx(2 / 6)


def test_progress_counts_the_pictures(captions: Path, encoder: ColourEncoder) -> None:
    told: list[tuple[int, int]] = []
    evaluate_captions(captions, encoder, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_category_measures_each_set_for_itself_and_codes_have_no_zero_shot(
    category: Path, encoder: ColourEncoder
) -> None:
    perfect = {"mAP": 1.0, "R@1": 1.0, "zero_shot_accuracy": 1.0}
    assert evaluate_category(category, encoder) == {
        "overall": perfect,
        "sets": {"things": perfect, "coded": {**perfect, "zero_shot_accuracy": None}},
    }


def test_category_without_a_text_tower_has_no_zero_shot(category: Path) -> None:
    told = evaluate_category(category, Blind())
    assert told["sets"]["things"] == {"mAP": 1.0, "R@1": 1.0, "zero_shot_accuracy": None}
    assert told["overall"]["zero_shot_accuracy"] is None


def test_copies_find_their_originals(copies: Path, encoder: ColourEncoder) -> None:
    assert evaluate_copies(copies, encoder) == {
        "copy": {"R@1": 1.0, "mAP": 1.0, "by_transform": {"resize": 1.0}},
        "corruption": {"R@1": 1.0, "mAP": 1.0, "by_transform": {"dark": 1.0}},
    }


def test_copies_a_distractor_anywhere_in_the_folder_can_stand_before_the_original(
    copies: Path, encoder: ColourEncoder, png: PngMaker, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    png(others / "deep" / "down" / "same.PNG", (220, 35, 30))
    png(others / ".hidden" / "dark.png", (15, 25, 105))
    (others / "notes.txt").write_text("not a picture")
    told = evaluate_copies(copies, encoder, distractors=others)
    assert told["copy"] == {"R@1": 0.0, "mAP": 0.5, "by_transform": {"resize": 0.0}}
    assert told["corruption"]["R@1"] == 1.0


def test_products_find_packshots_each_other_and_are_found_by_descriptions(
    products: Path, encoder: ColourEncoder
) -> None:
    perfect = {"R@1": 1.0, "mAP": 1.0}
    assert evaluate_products(products, encoder) == {
        "photo_to_packshot": perfect,
        "photo_to_photo": perfect,
        "text_to_photo": perfect,
    }
    assert evaluate_products(products, Blind())["text_to_photo"] is None


def test_a_csv_may_quote_commas_and_line_breaks_and_begin_with_a_byte_order_mark(
    category: Path, encoder: ColourEncoder
) -> None:
    with category.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "set", "label", "note"])
        writer.writerow(["0.png", "a, b", "red", "two\nlines"])
        writer.writerow(["1.png", "a, b", "red", ""])
    assert list(evaluate_category(category, encoder)["sets"]) == ["a, b"]


def test_blank_lines_between_objects_are_passed_over(
    captions: Path, encoder: ColourEncoder
) -> None:
    captions.write_text(captions.read_text().replace("\n", "\n\n"))
    assert evaluate_captions(captions, encoder)["text_to_image"] == PERFECT


# What is said of bad ground truth


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ('{"captions": ["red"]}', "line 2: 'file' is missing"),
        ('{"file": "images/blue.png"}', "line 2: 'captions' is missing"),
        ('{"file": "images/blue.png", "captions": []}', "line 2: 'captions' is missing"),
        ('{"file": "images/blue.png", "captions": ["red", 5]}', "line 2: 'captions' holds"),
        ('{"file": "images/blue.png", "captions": [" "]}', "line 2: 'captions' holds"),
        (
            '{"file": "images/gone.png", "captions": ["red"]}',
            r"line 2: \S*gone\.png cannot be used",
        ),
        ('{"file": "captions.jsonl", "captions": ["red"]}', "line 2: .*captions.jsonl cannot be"),
        ('{"file": "images/blue.png", "captions": ["nothing"]}', "line 2: 'nothing' holds no word"),
    ],
)
def test_captions_a_bad_line_is_named(
    captions: Path, encoder: ColourEncoder, line: str, said: str
) -> None:
    lines = captions.read_text().splitlines()
    lines[1] = line
    captions.write_text("\n".join(lines))
    with pytest.raises(DataError, match=said):
        evaluate_captions(captions, encoder)


Change = Callable[[str], str]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("label", "lable", 1), "names no column label"),
        (lambda text: text.replace("things,blue", "things,", 1), "line 6: 'label' is missing"),
        (lambda text: text.replace("0.png", "gone.png", 1), r"line 2: \S*gone\.png cannot be used"),
        (lambda text: text.splitlines()[0], "holds no ground truth"),
        (lambda text: "", "names no column"),
    ],
)
def test_category_bad_ground_truth_is_named(
    category: Path, encoder: ColourEncoder, change: Change, said: str
) -> None:
    category.write_text(change(category.read_text()))
    with pytest.raises(DataError, match=said):
        evaluate_category(category, encoder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("small.png,r", "small.png,x"), "no original has the id 'x'"),
        (lambda text: text.replace("blue.png,b", "blue.png,r"), "two originals have the id r"),
        (lambda text: text.replace(",copy,", ",twin,"), "kind 'twin' is none of copy, corruption"),
        (lambda text: "\n".join(text.splitlines()[:3]), "no edited picture"),
    ],
)
def test_copies_bad_ground_truth_is_named(
    copies: Path, encoder: ColourEncoder, change: Change, said: str
) -> None:
    copies.write_text(change(copies.read_text()))
    with pytest.raises(DataError, match=said):
        evaluate_copies(copies, encoder)


def test_copies_distractors_must_be_a_folder_of_pictures(
    copies: Path, encoder: ColourEncoder, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="not a folder"):
        evaluate_copies(copies, encoder, distractors=tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        evaluate_copies(copies, encoder, distractors=tmp_path / "empty")


def test_products_a_photo_of_an_unknown_class_is_named(
    products: Path, encoder: ColourEncoder
) -> None:
    text = (products / "photos.csv").read_text()
    (products / "photos.csv").write_text(text.replace("red1.png,red", "red1.png,pink"))
    with pytest.raises(DataError, match=r"photos\.csv, line 2: classes\.jsonl has no class 'pink'"):
        evaluate_products(products, encoder)


def test_a_file_that_is_missing_a_folder_or_no_text_is_named(
    tmp_path: Path, encoder: ColourEncoder
) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be read"):
        evaluate_captions(tmp_path / "gone.jsonl", encoder)
    with pytest.raises(DataError, match="a folder; name the file"):
        evaluate_captions(tmp_path, encoder)
    (tmp_path / "raw.csv").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    with pytest.raises(DataError, match=r"raw\.csv: cannot be read"):
        evaluate_category(tmp_path / "raw.csv", encoder)
