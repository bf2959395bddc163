"""The pictures of ``demo`` are sound but for two, and are the same at every call."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from embedsearch.commands.demo_pictures import make_pictures
from embedsearch.errors import MissingExtraError, OutputError

pillow_heif.register_heif_opener()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("demo") / "photos"
    make_pictures(made)
    return made


def shown(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def colours(path: Path, side: int = 16) -> np.ndarray:
    return np.asarray(shown(path).resize((side, side)), np.float64)


def test_every_picture_but_the_two_broken_ones_can_be_opened(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert 40 <= len(files) <= 60
    assert sum(path.stat().st_size for path in files) < 6e6
    broken = []
    for path in files:
        try:
            assert min(shown(path).size) >= 100
        except (UnidentifiedImageError, OSError):
            broken.append(path.relative_to(folder).as_posix())
    assert broken == ["broken/notes.jpg", "broken/truncated.jpg"]


def test_the_folder_holds_every_format_that_is_indexed(folder: Path) -> None:
    suffixes = Counter(path.suffix for path in folder.rglob("*") if path.is_file())
    for suffix in (".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".avif", ".heic"):
        assert suffixes[suffix] >= 1
    for suffix, form in ((".heic", "HEIF"), (".avif", "AVIF"), (".webp", "WEBP")):
        (path,) = folder.rglob(f"*{suffix}")
        with Image.open(path) as image:
            assert image.format == form


def test_a_second_call_writes_nothing_and_names_the_same_files(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert make_pictures(folder) == sorted(before)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_file_that_was_changed_is_made_anew(folder: Path) -> None:
    path = folder / "shapes" / "red square.png"
    whole = path.read_bytes()
    path.write_bytes(b"something else")
    make_pictures(folder)
    assert path.read_bytes() == whole


def test_the_phone_picture_lies_on_its_side_and_its_tag_turns_it_upright(folder: Path) -> None:
    path = folder / "phone" / "IMG_0001.jpg"
    with Image.open(path) as image:
        assert image.size == (300, 451)
    assert shown(path).size == (451, 300)
    difference = np.abs(colours(path) - colours(folder / "animals" / "cat.jpg"))
    assert difference.mean() < 3


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("phone/IMG_0002.heic", "travel/pagoda.jpg"),
        ("phone/IMG_0003.avif", "garden/dahlia.jpg"),
        ("phone/IMG_0004.webp", "food/coffee.jpg"),
        ("food/coffee small.jpg", "food/coffee.jpg"),
    ],
)
def test_other_formats_and_sizes_show_the_same_picture(
    folder: Path, copy: str, original: str
) -> None:
    assert np.abs(colours(folder / copy) - colours(folder / original)).mean() < 6


def test_a_copy_has_the_very_bytes_of_its_original(folder: Path) -> None:
    copy, original = folder / "food" / "coffee (copy).jpg", folder / "food" / "coffee.jpg"
    assert copy.read_bytes() == original.read_bytes()


def test_some_pictures_carry_the_date_they_were_taken(folder: Path) -> None:
    with Image.open(folder / "animals" / "cat.jpg") as image:
        exif = image.getexif()
        assert exif.get_ifd(34665)[36867] == "2015:02:14 16:20:00"
    with Image.open(folder / "phone" / "IMG_0002.heic") as image:
        assert image.getexif().get_ifd(34665)[36867] == "2006:10:03 14:00:07"


def test_the_drawn_shapes_have_the_colours_they_are_named_after(folder: Path) -> None:
    for name, channel in (("red square", 0), ("green triangle", 1), ("blue circle", 2)):
        red_green_blue = np.asarray(shown(folder / "shapes" / f"{name}.png"))[260, 240]
        assert red_green_blue.argmax() == channel
        assert np.asarray(shown(folder / "shapes" / f"{name}.png"))[5, 5].tolist() == [255] * 3


def test_no_library_of_photos_is_imported(tmp_path: Path) -> None:
    """Only their files are read: the libraries would take seconds."""
    code = (
        "import sys; from pathlib import Path;"
        "from embedsearch.commands.demo_pictures import make_pictures;"
        "make_pictures(Path(sys.argv[1]));"
        "print({'skimage', 'sklearn', 'matplotlib', 'torch'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "skimage" else found(name)
    )
    with pytest.raises(MissingExtraError, match=r'pip install "embedsearch\[demo\]"'):
        make_pictures(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_named_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"Cannot write the demo picture .*Not a directory"):
        make_pictures(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]
