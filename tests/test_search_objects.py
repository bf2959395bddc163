"""Asking for what is in pictures: one hit a picture, with its reasons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from colour_detector import scene

from embedsearch.errors import QueryError
from embedsearch.index import Index
from embedsearch.records import Hit

pytestmark = pytest.mark.usefixtures("colour_package")

SIZE = (200, 160)
SCENES: dict[str, dict[str, tuple[int, int, int, int]]] = {
    "one red": {"red": (10, 10, 30, 30)},
    "red and blue": {"red": (100, 100, 30, 30), "blue": (10, 10, 60, 60)},
    "much blue": {"blue": (0, 0, 180, 150)},
    "green": {"green": (50, 50, 80, 80)},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes as files; one of them twice as much red, side by side."""
    photos = tmp_path_factory.mktemp("photos")
    for name, things in SCENES.items():
        scene(photos / f"{name}.png", things, SIZE)
    two = scene(photos / "two red.png", {"red": (10, 10, 30, 30), "green": (150, 10, 20, 20)}, SIZE)
    from PIL import Image

    with Image.open(two) as picture:
        picture.paste((220, 30, 30), (100, 100, 140, 140))
        picture.save(two)
    return photos


@pytest.fixture
def index(made: Path, tmp_path: Path, colour_package: Path) -> Iterator[Index]:
    with Index(tmp_path / "index") as index:
        index.add(made, encoder="colour")
        specs = {"detect": "colours:detect", "ocr": "colours:ocr"}
        index.enrich("detect,ocr", specs=specs)  # type: ignore[arg-type]
        yield index


def names(hits: list[Hit]) -> list[str]:
    return [Path(hit.path).stem for hit in hits]


def test_each_picture_is_one_hit_however_many_of_its_objects_fit(index: Index) -> None:
    hits = index.search("red", k=10)
    assert sorted(names(hits)) == sorted([*SCENES, "two red"])
    assert set(names(hits)[:3]) == {"one red", "two red", "red and blue"}
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_hit_says_why_with_boxes_labels_and_words(index: Index) -> None:
    hit = next(hit for hit in index.search("red") if Path(hit.path).stem == "red and blue")
    told = {signal.kind: signal for signal in hit.signals}
    assert told["label"].label == "red"
    assert told["label"].box == pytest.approx((100, 100, 30, 30), abs=1.5)
    assert told["text"].text == "red"
    assert told["image"].box == (0, 0, *SIZE)


def test_an_object_filters_and_finds_small_things(index: Index) -> None:
    assert set(names(index.search(objects=["red"]))) == {"one red", "red and blue", "two red"}
    assert names(index.search(objects=["red", "blue"])) == ["red and blue"]
    assert names(index.search("green", objects=["red"]))[0] == "two red"


def test_counts_keep_pictures_with_so_many(index: Index) -> None:
    assert names(index.search(counts=["red>=2"])) == ["two red"]
    assert set(names(index.search(counts=["red=1"]))) == {"one red", "red and blue"}
    assert set(names(index.search(counts=["red=0"]))) == {"much blue", "green"}
    assert names(index.search(counts=["red>=1", "blue>=1"])) == ["red and blue"]
    assert names(index.search("blue", counts=["red<1"], k=1)) == ["much blue"]


def test_words_in_pictures_are_found_whole_in_part_and_misspelt(index: Index) -> None:
    for asked in ("green", "gree", "grene", '"green"'):
        assert set(names(index.search(text_in_image=asked))) == {"green", "two red"}
    assert names(index.search(text_in_image="green red")) == ["two red"]
    assert index.search(text_in_image="nothing like it") == []


def test_the_view_of_pictures_tells_of_objects_and_words(index: Index) -> None:
    assert names(index.search("red", where="objects ->> 'red' >= 2")) == ["two red"]
    assert names(index.search("red", where="words like '%green%' and objects ->> 'red'")) == [
        "two red"
    ]


def test_a_region_of_an_example_is_matched_to_objects_too(index: Index, made: Path) -> None:
    hits = index.search(images=[made / "two red.png"], region=(150, 10, 20, 20), k=2)
    assert set(names(hits)) == {"two red", "green"}
    (other,) = index.similar(made / "two red.png", region=(150, 10, 20, 20), k=1)
    assert Path(other.path).stem == "green"
    assert any(signal.kind == "object" and signal.label == "green" for signal in other.signals)


def test_a_whole_example_is_compared_with_whole_pictures(index: Index, made: Path) -> None:
    for hit in index.similar(made / "one red.png", k=10):
        assert {signal.kind for signal in hit.signals} == {"image"}


def test_an_index_without_findings_answers_with_cosines_alone(made: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "plain") as plain:
        plain.add(made, encoder="colour")
        hits = plain.search("blue", k=2)
        assert names(hits)[0] == "much blue"
        assert {signal.kind for hit in hits for signal in hit.signals} == {"image"}
        assert hits[0].score == hits[0].signals[0].score
        assert plain.search(objects=["red"], k=3) == []
        assert plain.search(text_in_image="red") == []
        assert len(plain.search(counts=["red=0"])) == 5


def test_auto_is_for_words(index: Index, made: Path) -> None:
    with pytest.raises(QueryError, match="--min-score auto"):
        index.search(images=[made / "green.png"], min_score="auto")
    with pytest.raises(QueryError, match="--min-score auto"):
        index.similar(made / "green.png", min_score="auto")


def test_info_tells_what_each_stage_covered(index: Index) -> None:
    told = {one.stage: (one.pictures, one.objects, one.lines) for one in index.info().stages}
    assert told == {"detect": (5, 8, 0), "ocr": (5, 0, 8)}
