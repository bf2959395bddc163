from __future__ import annotations

import os

import pytest

from embedsearch.errors import DataError
from embedsearch.images.exclude import Exclude


@pytest.mark.parametrize(
    ("pattern", "path", "folder", "matches"),
    [
        # a name anywhere
        ("*.gif", "a.gif", False, True),
        ("*.gif", "x/y/a.gif", False, True),
        ("*.gif", "a.gif.jpg", False, False),
        ("*.gif", "a.GIF", False, False),
        ("raw", "x/raw", True, True),
        ("raw", "x/raw", False, True),
        ("raw", "x/rawer", True, False),
        # folders only
        ("raw/", "x/raw", True, True),
        ("raw/", "x/raw", False, False),
        # a path from the scanned folder
        ("/raw", "raw", True, True),
        ("/raw", "x/raw", True, False),
        ("./raw", "raw", True, True),
        ("./raw", "x/raw", True, False),
        ("2019/*/raw", "2019/may/raw", True, True),
        ("2019/*/raw", "2019/may/1/raw", True, False),
        ("2019/*/raw", "x/2019/may/raw", True, False),
        # any number of folders
        ("**/cache/*.png", "cache/a.png", False, True),
        ("**/cache/*.png", "x/y/cache/a.png", False, True),
        ("**/cache/*.png", "x/cache/y/a.png", False, False),
        ("a/**/b", "a/b", True, True),
        ("a/**/b", "a/x/y/b", True, True),
        ("a/**/b", "ax/b", True, False),
        ("a/**", "a/x/y.jpg", False, True),
        ("a/**", "a", True, False),
        # one character
        ("IMG_????.jpg", "IMG_1234.jpg", False, True),
        ("IMG_????.jpg", "IMG_123.jpg", False, False),
        ("a?b", "a/b", False, False),
        ("?.jpg", "é.jpg", False, True),
        ("[abc].jpg", "b.jpg", False, True),
        ("[!abc].jpg", "b.jpg", False, False),
        ("[!abc].jpg", "d.jpg", False, True),
        ("[]].jpg", "].jpg", False, True),
        ("[!]]x", "]x", False, False),
        ("[0-9]*", "7 a", False, True),
        # the rest means itself
        ("a.b", "axb", False, False),
        ("a+(b)|c$", "a+(b)|c$", False, True),
        ("[half", "[half", False, True),
        ("new\nline*", "new\nline.jpg", False, True),
        ("*", "any\nthing", False, True),
    ],
)
def test_patterns_match_as_in_gitignore(
    pattern: str, path: str, folder: bool, matches: bool
) -> None:
    assert Exclude([pattern])(os.fsencode(path), folder=folder) is matches
    assert Exclude(["nothing", pattern])(os.fsencode(path), folder=folder) is matches


def test_names_that_are_not_utf_8_can_be_excluded() -> None:
    assert Exclude(["*.jpg"])(b"\xff\xfe.jpg")
    assert not Exclude(["?.jpg"])(b"\xff\xfe.jpg")


@pytest.mark.parametrize("pattern", ["", "/", "./", "!keep.jpg", "[z-a]"])
def test_patterns_without_sense_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(DataError, match="exclude pattern"):
        Exclude([pattern])


def test_no_patterns_exclude_nothing() -> None:
    assert not Exclude([])
    assert not Exclude([])(b"a.jpg", folder=True)
