"""Duplicates, from real files through a real index."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import photograph
from PIL import Image, ImageFilter, ImageOps

from embedsearch.errors import QueryError
from embedsearch.index import Index
from embedsearch.records import DuplicateGroup
from embedsearch.render.duplicates import write_script


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def index(tmp_path: Path, colour_package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("EMBEDSEARCH_ENCODER", "colour")
    with Index(tmp_path / "index") as opened:
        yield opened


def save(picture: Image.Image, path: Path, taken_at: str | None = None) -> None:
    exif = Image.Exif()
    if taken_at is not None:
        exif.get_ifd(0x8769)[0x9003] = taken_at
    picture.save(path, quality=95, exif=exif)


def names(group: DuplicateGroup) -> list[str]:
    return [Path(one.path).name for one in group.pictures]


def test_files_of_the_same_content_are_one_exact_group_and_the_shortest_path_is_best(
    index: Index, photos: Path
) -> None:
    save(photograph(), photos / "a.jpg")
    shutil.copy(photos / "a.jpg", photos / "a copy.jpg")
    save(photograph("flower"), photos / "b.jpg")
    index.add(photos)
    report = index.duplicates()
    (group,) = report.groups
    assert group.kind == "exact"
    assert group.best == str(photos / "a.jpg")
    assert names(group) == ["a.jpg", "a copy.jpg"]
    assert [one.similarity for one in group.pictures] == [1.0, 1.0]
    assert report.pictures == 3


def test_edited_copies_are_near_and_say_how_they_lie_upon_the_best(
    index: Index, photos: Path
) -> None:
    china = photograph()
    save(china, photos / "china.jpg")
    save(ImageOps.mirror(china), photos / "mirrored.jpg")
    save(china.resize((213, 142)), photos / "small.jpg")
    save(china.crop((90, 60, 582, 388)), photos / "crop.jpg")
    save(ImageOps.grayscale(china), photos / "grey.jpg")
    save(photograph("flower"), photos / "flower.jpg")
    index.add(photos)
    (group,) = index.duplicates(min_similarity=0.3).groups
    assert group.kind == "near"
    assert set(names(group)) == {"china.jpg", "mirrored.jpg", "small.jpg", "crop.jpg", "grey.jpg"}
    others = {Path(one.path).name: one for one in group.pictures}
    assert others["small.jpg"].changed == "" and others["crop.jpg"].changed == "cropped"
    assert {others["mirrored.jpg"].changed, others["china.jpg"].changed} == {"mirrored", ""} or (
        Path(group.best).name == "mirrored.jpg"
    )
    assert all(one.hash_distance is not None and one.hash_distance <= 10 for one in group.pictures)
    assert Path(group.best).name not in {"small.jpg", "crop.jpg"}


def test_the_larger_picture_is_best_and_of_equal_ones_not_the_blurred_or_the_dark_one(
    index: Index, photos: Path
) -> None:
    china = photograph()
    save(china, photos / "z original.jpg")
    save(china.filter(ImageFilter.GaussianBlur(3)), photos / "blurred.jpg")
    save(Image.eval(china, lambda value: value // 3), photos / "dark.jpg")
    save(china.resize((320, 213)), photos / "half.jpg")
    index.add(photos)
    (group,) = index.duplicates(kinds=["near"], min_similarity=0).groups
    assert group.best == str(photos / "z original.jpg")
    assert names(group)[-1] == "half.jpg"
    assert len(group.pictures) == 4


def test_a_screenshot_is_not_best_for_its_borders_nor_an_edit_that_is_younger(
    index: Index, photos: Path
) -> None:
    china = photograph()
    save(china, photos / "z original.jpg")
    save(china.point(lambda value: min(255, value + 6)), photos / "a edited.jpg")
    save(ImageOps.expand(china, (0, 60, 0, 60), (18, 18, 20)), photos / "a screenshot.jpg")
    two_days_ago = (photos / "z original.jpg").stat().st_mtime - 2 * 86_400
    os.utime(photos / "z original.jpg", (two_days_ago, two_days_ago))
    index.add(photos)
    (group,) = index.duplicates(kinds=["near"], min_similarity=0).groups
    assert group.best == str(photos / "z original.jpg")
    assert len(group.pictures) == 3


def test_of_equal_pictures_the_one_that_says_when_it_was_taken_is_best(
    index: Index, photos: Path
) -> None:
    save(photograph(), photos / "a.jpg")
    save(photograph(), photos / "with a date.jpg", "2024:05:06 07:08:09")
    index.add(photos)
    (group,) = index.duplicates(kinds=["near"]).groups
    assert group.best == str(photos / "with a date.jpg")


def test_shots_of_a_few_seconds_are_a_burst_and_later_ones_are_not(
    index: Index, photos: Path
) -> None:
    china = photograph()
    for name, left, taken in (
        ("1.jpg", 0, "2024:05:06 07:08:09"),
        ("2.jpg", 12, "2024:05:06 07:08:10"),
        ("3.jpg", 24, "2024:05:06 07:08:12"),
        ("later.jpg", 36, "2024:05:06 09:00:00"),
    ):
        save(china.crop((left, 0, left + 580, 427)), photos / name, taken)
    index.add(photos)
    groups = {group.kind: group for group in index.duplicates(max_distance=0).groups}
    assert set(groups) == {"burst"}
    assert sorted(names(groups["burst"])) == ["1.jpg", "2.jpg", "3.jpg"]
    assert index.duplicates(max_distance=0, burst_seconds=0.5).groups == ()


def test_an_edited_copy_that_keeps_the_time_of_its_original_is_near_and_no_burst(
    index: Index, photos: Path
) -> None:
    save(photograph(), photos / "a.jpg", "2024:05:06 07:08:09")
    save(photograph().resize((320, 213)), photos / "b.jpg", "2024:05:06 07:08:09")
    index.add(photos)
    (group,) = index.duplicates().groups
    assert (group.kind, names(group)) == ("near", ["a.jpg", "b.jpg"])


def test_without_all_that_are_not_best_something_of_every_picture_is_left(
    index: Index, photos: Path
) -> None:
    china = photograph()
    save(china, photos / "a.jpg", "2024:05:06 07:08:09")
    shutil.copy(photos / "a.jpg", photos / "a again.jpg")
    save(china.resize((320, 213)), photos / "small.jpg", "2024:05:06 07:08:09")
    save(china.crop((15, 0, 640, 427)), photos / "next.jpg", "2024:05:06 07:08:10")
    index.add(photos)
    groups = index.duplicates().groups
    assert [group.kind for group in groups] == ["exact", "near", "burst"]
    removed = {one.path for group in groups for one in group.pictures[1:]}
    assert len(removed) == 3
    (kept,) = {str(path) for path in photos.iterdir()} - removed
    assert kept == groups[-1].best


def test_kinds_and_where_say_what_is_looked_at(index: Index, photos: Path) -> None:
    save(photograph(), photos / "a.jpg")
    shutil.copy(photos / "a.jpg", photos / "b.jpg")
    save(photograph().resize((320, 213)), photos / "c.jpg")
    index.add(photos)
    assert [group.kind for group in index.duplicates(kinds=["near"]).groups] == ["near"]
    assert [group.kind for group in index.duplicates(kinds=["exact"]).groups] == ["exact"]
    assert index.duplicates(where="name = 'a.jpg'").groups == ()
    with pytest.raises(QueryError):
        index.duplicates(where="nonsense(")


def test_pictures_that_are_gone_or_changed_are_skipped_and_named(
    index: Index, photos: Path
) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        save(photograph(), photos / name)
    index.add(photos)
    (photos / "b.jpg").unlink()
    (photos / "c.jpg").write_bytes(b"other")
    report = index.duplicates()
    assert report.groups == ()
    reasons = {Path(one.path).name: one.reason for one in report.skipped}
    assert "not there" in reasons["b.jpg"] and "changed" in reasons["c.jpg"]


def test_two_names_of_one_file_are_no_duplicates(index: Index, photos: Path) -> None:
    save(photograph(), photos / "a.jpg")
    os.link(photos / "a.jpg", photos / "hard.jpg")
    index.add(photos)
    assert index.duplicates().groups == ()


def test_the_script_removes_nothing_until_its_lines_are_taken_out_of_comments(
    index: Index, photos: Path, tmp_path: Path
) -> None:
    save(photograph(), photos / "a.jpg")
    hostile = [
        os.fsencode(photos) + b"/" + name
        for name in (b"it's; rm -rf $HOME.jpg", b"new\nrm line.jpg", b"bytes \xff\\.jpg", b"-r.jpg")
    ]
    for path in hostile:
        shutil.copy(photos / "a.jpg", os.fsdecode(path))
    index.add(photos)
    groups = index.duplicates(kinds=["exact"]).groups
    script = tmp_path / "review.sh"
    write_script(groups, script)
    subprocess.run(["bash", script], check=True)
    assert len(list(photos.iterdir())) == 5
    active = script.read_text("ascii").replace("# rm -- ", "rm -- ")
    assert active.count("rm -- ") == 4
    script.write_text(active)
    subprocess.run(["bash", script], check=True)
    assert [path.name for path in photos.iterdir()] == ["a.jpg"]
