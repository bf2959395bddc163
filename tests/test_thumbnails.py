from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embedsearch.errors import PictureError
from embedsearch.images.decode import FileBytes
from embedsearch.images.thumbnails import Thumbnails, thumbnail


def shown(jpeg: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return np.asarray(image)


def quarters_file(tmp_path: Path, width: int = 960, height: int = 640) -> Path:
    path = tmp_path / "quarters.png"
    pictures.quarters(width, height).save(path)
    return path


@pytest.mark.parametrize("good", pictures.GOOD, ids=lambda good: good.name)
def test_every_kind_of_file_has_a_thumbnail_in_its_colours(
    good: pictures.Good, tmp_path: Path
) -> None:
    good.make(tmp_path / good.name)
    small = shown(thumbnail(os.fsencode(tmp_path / good.name), 48, quality=95))
    assert small.shape == (32, 48, 3)
    assert np.abs(pictures.corners(small) - np.asarray(good.shows)).max() <= good.tolerance + 9


def test_the_thumbnail_of_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures.oriented(6))
    small = shown(thumbnail(tmp_path / "a.jpg", 48))
    assert small.shape == (32, 48, 3)
    assert np.abs(pictures.corners(small) - np.asarray(pictures.QUARTERS)).max() <= 12


def test_the_longer_side_is_the_size_and_nothing_is_enlarged(tmp_path: Path) -> None:
    for (width, height), expected in (
        ((1000, 1000), (320, 320, 3)),
        ((1200, 300), (80, 320, 3)),
        ((300, 1200), (320, 80, 3)),
        ((30_000, 20), (1, 320, 3)),
        ((100, 50), (50, 100, 3)),
        ((1, 1), (1, 1, 3)),
    ):
        Image.new("RGB", (width, height)).save(tmp_path / "a.png")
        assert shown(thumbnail(tmp_path / "a.png")).shape == expected


def test_a_thumbnail_looks_like_the_photograph(tmp_path: Path) -> None:
    photo = pictures.photograph()
    photo.save(tmp_path / "a.jpg", quality=95)
    small = shown(thumbnail(tmp_path / "a.jpg", 160, quality=95))
    expected = photo.resize((160, 107), Image.Resampling.LANCZOS)
    assert small.shape == (107, 160, 3)
    # In greys, as JPEG keeps colours at half the size. One pixel off would be 10 levels.
    grey = np.asarray(Image.fromarray(small).convert("L"), int)
    assert np.abs(grey - np.asarray(expected.convert("L"))).mean() < 4


def test_thumbnails_are_small_files(tmp_path: Path) -> None:
    pictures.photograph().resize((4000, 2668)).save(tmp_path / "a.jpg")
    assert len(thumbnail(tmp_path / "a.jpg")) < 40_000


# Regions


@pytest.mark.parametrize(
    ("box", "colour"),
    [
        ((0, 0, 480, 320), pictures.RED),
        ((480, 0, 480, 320), pictures.GREEN),
        ((0, 320, 480, 320), pictures.BLUE),
        ((480.0, 320.0, 480.0, 320.0), pictures.YELLOW),
        ((-100, -100, 500, 300), pictures.RED),
        ((900, 600, 1000, 1000), pictures.YELLOW),
        ((959, 639, 1, 1), pictures.YELLOW),
        ((10.2, 20.7, 0.4, 0.1), pictures.RED),
    ],
)
def test_a_region_is_cut_out_by_its_pixels_in_the_whole_picture(
    box: tuple[float, float, float, float], colour: pictures.Colour, tmp_path: Path
) -> None:
    small = shown(thumbnail(quarters_file(tmp_path), 64, box=box, quality=95))
    middle = small[small.shape[0] // 2, small.shape[1] // 2]
    assert np.abs(middle.astype(int) - colour).max() <= 9


def test_a_region_has_as_many_pixels_as_the_picture_can_give(tmp_path: Path) -> None:
    path = quarters_file(tmp_path)
    assert shown(thumbnail(path, 64, box=(0, 0, 96, 48))).shape == (32, 64, 3)
    assert shown(thumbnail(path, 64, box=(0, 0, 48, 32))).shape == (32, 48, 3)


def test_the_box_counts_in_the_upright_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures.oriented(8))
    small = shown(thumbnail(tmp_path / "a.jpg", 64, box=(50, 2, 40, 24), quality=95))
    assert small.shape == (24, 40, 3)
    assert np.abs(small.reshape(-1, 3).mean(axis=0) - pictures.GREEN).max() <= 8


@pytest.mark.parametrize(
    "box", [(960, 0, 5, 5), (0, 640, 5, 5), (-5, 0, 5, 5), (5, 5, 0, 5), (5, 5, 9, -1)]
)
def test_a_region_outside_the_picture_is_refused_with_both_sizes(
    box: tuple[float, float, float, float], tmp_path: Path
) -> None:
    with pytest.raises(PictureError, match="outside the picture of 960 x 640 pixels"):
        thumbnail(quarters_file(tmp_path), box=box)


@settings(deadline=None, max_examples=60)
@given(
    left=st.floats(-50, 149),
    top=st.floats(-50, 99),
    width=st.floats(0.01, 300),
    height=st.floats(0.01, 300),
    size=st.integers(1, 80),
)
def test_any_region_that_touches_the_picture_has_a_thumbnail(
    left: float, top: float, width: float, height: float, size: int
) -> None:
    data = pictures.encoded(pictures.quarters(150, 100), "PNG")
    file = FileBytes(b"in memory", len(data), 0, data)
    try:
        small = shown(thumbnail(file, size, box=(left, top, width, height)))
    except PictureError:
        assert left + width <= 0 or top + height <= 0
        return
    assert 1 <= max(small.shape[:2]) <= size


# What is kept


def test_a_thumbnail_is_kept_by_content_size_and_region(tmp_path: Path) -> None:
    path = quarters_file(tmp_path)
    kept = Thumbnails(tmp_path / "index" / "thumbnails")
    first = kept.get(os.fsencode(path), 64)
    assert first == thumbnail(path, 64)
    (file,) = (tmp_path / "index").rglob("*.jpg")
    file.write_bytes(b"\xff\xd8 kept \xff\xd9")  # to tell a kept one from one that is made
    assert kept.get(path, 64) == b"\xff\xd8 kept \xff\xd9"
    path.rename(tmp_path / "moved.png")
    assert kept.get(tmp_path / "moved.png", 64) == b"\xff\xd8 kept \xff\xd9"
    assert shown(kept.get(tmp_path / "moved.png", 32)).shape[1] == 32
    region = kept.get(tmp_path / "moved.png", 64, box=(0, 0, 50, 50))
    assert region == thumbnail(tmp_path / "moved.png", 64, box=(0, 0, 50, 50))
    pictures.photograph().save(tmp_path / "moved.png")
    assert kept.get(tmp_path / "moved.png", 64) == thumbnail(tmp_path / "moved.png", 64)
    assert len(list((tmp_path / "index").rglob("*.jpg"))) == 4


@pytest.mark.parametrize("content", [b"", b"\xff\xd8 cut short"])
def test_a_kept_thumbnail_that_is_not_whole_is_made_anew(content: bytes, tmp_path: Path) -> None:
    path = quarters_file(tmp_path)
    kept = Thumbnails(tmp_path / "thumbnails")
    whole = kept.get(path, 64)
    (file,) = (tmp_path / "thumbnails").rglob("*.jpg")
    file.write_bytes(content)
    assert kept.get(path, 64) == whole
    assert file.read_bytes() == whole


def test_nothing_is_kept_without_a_folder(tmp_path: Path) -> None:
    path = quarters_file(tmp_path)
    assert Thumbnails(None).get(path, 64) == thumbnail(path, 64)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_means_only_that_nothing_is_kept() -> None:
    with pictures.folder_of_nobody() as folder:
        path = quarters_file(folder)
        (folder / "thumbnails").mkdir(mode=0o500)
        assert Thumbnails(folder / "thumbnails").get(path, 64) == thumbnail(path, 64)
        assert list((folder / "thumbnails").iterdir()) == []


def test_many_threads_make_the_same_thumbnail_at_once_and_leave_one_file(tmp_path: Path) -> None:
    path = quarters_file(tmp_path)
    kept = Thumbnails(tmp_path / "thumbnails")
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: kept.get(path, 64), range(32)))
    assert found == {thumbnail(path, 64)}
    files = [file for file in (tmp_path / "thumbnails").rglob("*") if file.is_file()]
    assert len(files) == 1


@pytest.mark.parametrize("bad", pictures.BAD, ids=lambda bad: bad.name)
def test_a_bad_file_has_no_thumbnail_and_leaves_nothing_behind(
    bad: pictures.Bad, tmp_path: Path
) -> None:
    bad.make(tmp_path / bad.name)
    with pytest.raises(PictureError, match=bad.says):
        Thumbnails(tmp_path / "thumbnails").get(tmp_path / bad.name)
    assert not (tmp_path / "thumbnails").exists()
