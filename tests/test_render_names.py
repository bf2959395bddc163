"""Names are shown on one line, harmless, and their URLs lead back to the very bytes."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedsearch.render.names import file_url, printable

paths = st.binary(min_size=1).map(lambda raw: os.fsdecode(b"/" + raw.replace(b"\0", b"")))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/a/plain name.jpg", "/a/plain name.jpg"),
        ("/a/日本 é 👩‍👩‍👧.jpg", "/a/日本 é 👩‍👩‍👧.jpg"),
        ("/a/new\nline\ttab\r.jpg", r"/a/new\nline\ttab\r.jpg"),
        ("/a/\x1b[31mred\x07.jpg", r"/a/\x1b[31mred\x07.jpg"),
        ("/a/\x9b31m.jpg", r"/a/\u009b31m.jpg"),  # C1: an escape sequence in one character
        (os.fsdecode(b"/a/\xff\xfecaf\xe9.jpg"), r"/a/\xff\xfecaf\xe9.jpg"),
        ("/a/\u202egpj.exe", r"/a/\u202egpj.exe"),  # would read as "exe.jpg"
        ("/a/\u2028b", r"/a/\u2028b"),
        ("back\\slash", "back\\slash"),
        ("", ""),
    ],
)
def test_a_name_is_shown_with_its_unsafe_characters_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown


@settings(deadline=None)
@given(paths | st.text())
def test_no_name_can_carry_a_control_character_or_a_lone_surrogate(name: str) -> None:
    shown = printable(name)
    shown.encode("utf-8")
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]


@settings(deadline=None)
@given(paths)
def test_a_file_url_leads_back_to_the_bytes_of_the_path(path: str) -> None:
    url = file_url(path)
    assert url.isascii()
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file", "", "", "")
    assert unquote_to_bytes(parts.path) == os.fsencode(path)


def test_a_file_url_encodes_what_would_end_the_path_or_the_attribute() -> None:
    assert file_url("/a b/#1?.jpg") == "file:///a%20b/%231%3F.jpg"
    assert file_url("/50%\"'<\n>.jpg") == "file:///50%25%22%27%3C%0A%3E.jpg"
    assert file_url(os.fsdecode(b"/\xff.jpg")) == "file:///%FF.jpg"
