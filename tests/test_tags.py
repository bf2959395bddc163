"""Tags: found in pictures, given by people."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import photograph
from PIL.Image import Transpose

from embedsearch.errors import QueryError
from embedsearch.explore.tags import MOST_TAGS, standing_out
from embedsearch.index import Index
from embedsearch.records import TagCount


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index") as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs of a flower, and one of a temple in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    photograph("flower").save(folder / "flower.jpg")
    photograph("flower").resize((300, 200)).save(folder / "small.jpg")
    photograph().save(folder / "trip" / "china.jpg")
    return folder


def tags_of(index: Index, name: str) -> set[str]:
    return {
        one.tag
        for one in index.tags()
        if index.search(
            "red", where=f"name = '{name}' and ', ' || tags || ',' like '%, {one.tag},%'"
        )
    }


def test_words_that_stand_out_are_the_best_few_and_there_may_be_none() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.normal(0.1, 0.02, (3, 400)).clip(0.05, 0.15).astype(np.float32)
    cosines[0, [7, 3]] = 0.5, 0.6
    cosines[1, 10:30] = np.linspace(0.5, 0.6, 20)
    assert standing_out(cosines[:1]) == [[3, 7]]
    many = standing_out(cosines)[1]
    assert many == [29, 28, 27, 26, 25][:MOST_TAGS]
    assert standing_out(cosines)[2] == []


def test_pictures_get_words_that_stand_out_and_filters_know_them(
    index: Index, photos: Path
) -> None:
    index.add(photos)
    assert index.tag() == 3
    counts = {one.tag: one for one in index.tags()}
    assert counts["flower"] == TagCount("flower", 2, 0)
    hits = index.search("red", where="tags like '%flower%'")
    assert {Path(hit.path).stem for hit in hits} == {"flower", "small"}


def test_tags_of_people_outlast_runs_and_found_ones_are_replaced(
    index: Index, photos: Path
) -> None:
    index.add(photos)
    index.tag()
    assert index.change_tags(photos / "trip", photos / "small.jpg", add=["Summer  2023"]) == 2
    index.change_tags(photos / "small.jpg", add=["flower"])
    assert TagCount("Summer 2023", 2, 2) in index.tags()
    assert TagCount("flower", 2, 1) in index.tags()
    for name in ("flower", "small"):
        mirrored = photograph("flower").transpose(Transpose.FLIP_LEFT_RIGHT)
        mirrored.resize((320, 213)).save(photos / f"{name}.jpg")
    index.add(photos)
    # What was found in the old content is gone at once; what people gave stays.
    assert tags_of(index, "flower.jpg") == set()
    assert tags_of(index, "small.jpg") == {"Summer 2023", "flower"}
    index.tag()
    assert tags_of(index, "small.jpg") > {"Summer 2023", "flower"}
    index.change_tags(photos, remove=["flower"])
    assert "flower" not in {one.tag for one in index.tags()}


def test_a_copy_has_the_tags_found_in_its_content_but_not_those_given_to_the_other(
    index: Index, photos: Path
) -> None:
    index.add(photos)
    index.tag()
    index.change_tags(photos / "flower.jpg", add=["mine"])
    shutil.copy(photos / "flower.jpg", photos / "trip/copy.jpg")
    index.add(photos)
    assert tags_of(index, "copy.jpg") == tags_of(index, "flower.jpg") - {"mine"}
    assert "flower" in tags_of(index, "copy.jpg")


def test_only_pictures_of_the_filter_are_tagged(index: Index, photos: Path) -> None:
    index.add(photos)
    assert index.tag(where="name = 'flower.jpg'") == 1
    assert TagCount("flower", 1, 0) in index.tags()


@pytest.mark.parametrize("text", ["", "  ", "a, b", "x" * 101, "a\x1bb"])
def test_what_is_no_tag_is_refused(index: Index, photos: Path, text: str) -> None:
    index.add(photos)
    with pytest.raises(QueryError, match="is no tag"):
        index.change_tags(photos, add=[text])
    assert index.tags() == []


def test_a_path_that_is_not_in_the_index_is_named(index: Index, photos: Path) -> None:
    index.add(photos)
    with pytest.raises(QueryError, match="elsewhere"):
        index.change_tags(photos, photos / "elsewhere", add=["x"])
    assert index.tags() == []
    assert index.change_tags(photos.parent, add=["x"]) == 3


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("embedsearch")), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_tags_gives_takes_and_lists(index: Index, photos: Path) -> None:
    index.add(photos)
    index.close()
    done = run("tag", "--index", index.folder)
    assert done.returncode == 0, done.stderr
    assert "Looked at 3 pictures." in done.stderr and "flower" in done.stdout
    given = run("tag", "--add", "holiday", photos / "trip", "--json", "--index", index.folder)
    assert json.loads(given.stdout) == {"tags": [{"tag": "holiday", "pictures": 1, "given": 1}]}
    listed = json.loads(run("tag", "--list", "--json", "--index", index.folder).stdout)["tags"]
    assert {"tag": "flower", "pictures": 2, "given": 0} in listed
    taken = run("tag", "--remove", "holiday", photos, "--index", index.folder)
    assert (taken.returncode, taken.stdout) == (0, "")


@pytest.mark.parametrize("words", [["--add", "x"], ["a.jpg"], ["--list", "--where", "1"]])
def test_wrong_usage_is_said(words: list[str], tmp_path: Path) -> None:
    assert run("tag", *words, "--index", tmp_path).returncode == 2
