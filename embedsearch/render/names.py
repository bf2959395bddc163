"""File names made safe to show: nothing in a name may steer a terminal or mislead a reader."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import quote

# Arabic letter mark, the two direction marks, the embeddings and overrides, the isolates. They
# reorder what stands around them, so "gpj.exe" can be made to read "exe.jpg".
_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""A path, or any text, as one line that is safe on a terminal and encodable as UTF-8.

    A byte of a path that is not UTF-8 (a lone surrogate, as ``os.fsdecode`` leaves it) becomes
    ``\xNN``; control characters, line separators and direction controls become ``\n``, ``\x1b``,
    ``\u202e``. All else, wide and combining characters too, stays. This is for people: it cannot
    be turned back, since a backslash in a name stays as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def file_url(path: str) -> str:
    """The ``file://`` URL of an absolute path: its bytes, percent-encoded (RFC 8089, RFC 3986)."""
    return "file://" + quote(os.fsencode(path), safe="/")


def _shown(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: 0xDC00 + the byte
        return f"\\x{code - 0xDC00:02x}"
    if character in _BIDI_CONTROLS or unicodedata.category(character) in _ESCAPED_CATEGORIES:
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
    return character
