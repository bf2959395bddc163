"""Which files and folders a scan leaves out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from embedsearch.errors import DataError

_TOKEN = re.compile(r"(^|/)\*\*(?:/|$)|\*+|\?|\[!?\]?[^\]]*\]|[^*?\[]|\[")


class Exclude:
    """Glob patterns with the rules of ``.gitignore``, except that none can be negated.

    - ``*`` stands for any characters but ``/``, ``?`` for one, ``[a-z]`` and ``[!a-z]`` for one of
      a set or outside it; ``**`` between slashes stands for any number of folders, also none.
    - A pattern without a slash is held against the name of every file and folder: ``*.gif``.
    - A pattern with a slash at its start or inside is held against the whole path, counted from
      the folder that is scanned: ``/drafts`` (or ``./drafts``), ``2019/*/raw``, ``**/cache/*.png``.
    - A slash at the end makes it match folders only: ``private/``.

    A folder that matches is not entered. Upper and lower case differ.

    Raises :class:`~embedsearch.errors.DataError` for a pattern that cannot be understood.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        anything: list[str] = []
        folders: list[str] = []
        for pattern in patterns:
            only_folders = pattern.endswith("/")
            (folders if only_folders else anything).append(_regex(pattern))
        self._anything = re.compile("|".join(anything), re.DOTALL) if anything else None
        self._folders = re.compile("|".join(folders), re.DOTALL) if folders else None

    def __bool__(self) -> bool:
        return self._anything is not None or self._folders is not None

    def __call__(self, path: bytes, *, folder: bool = False) -> bool:
        """Whether ``path``, relative to the scanned folder, is left out."""
        text = os.fsdecode(path)
        if self._anything is not None and self._anything.fullmatch(text):
            return True
        return folder and self._folders is not None and bool(self._folders.fullmatch(text))


def _regex(pattern: str) -> str:
    if pattern.startswith("!"):
        raise DataError(
            f"The exclude pattern {pattern!r} cannot be used: patterns cannot be negated. "
            f"For a name that starts with an exclamation mark write {'[!]' + pattern[1:]!r}."
        )
    body = (pattern[1:] if pattern.startswith("./") else pattern).rstrip("/")
    anywhere = "/" not in body
    body = body.removeprefix("/")
    if not body:
        raise DataError(f"The exclude pattern {pattern!r} is empty: it would match nothing.")
    regex = ("(?:.*/)?" if anywhere else "") + _TOKEN.sub(_translate, body)
    try:
        re.compile(regex)
    except re.error as fault:
        raise DataError(f"The exclude pattern {pattern!r} cannot be used: {fault}.") from fault
    return f"(?:{regex})"


def _translate(token: re.Match[str]) -> str:
    text = token.group()
    match text[0]:
        case _ if "**" in text and token.group(1) is not None:
            at_end = not text.endswith("/")
            return token.group(1) + (".+" if at_end else "(?:[^/]+/)*")
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case "[" if len(text) > 1:
            inside = text[1:-1].replace("\\", "\\\\")
            return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return re.escape(text)
