"""Finding the picture files under a folder."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from embedsearch.images.exclude import Exclude
from embedsearch.images.files import explain, no_picture
from embedsearch.images.frame_folder import MARKS, frame_folder

EXTENSIONS = frozenset(
    b"jpg jpeg jpe jfif mpo png apng webp gif bmp dib tif tiff "
    b"avif avifs heic heics heif heifs hif "
    b"mp4 m4v mov mkv webm".split()
)
"""Names with these after their last dot, in any case, are looked at. What they hold decides the
format later. Without such a name, a folder of frames is found too, see
:mod:`~embedsearch.images.frame_folder`."""

_INDEX_FILES = {b"catalogue.db", b"index.lock"}
"""A folder that holds both is an index of ours; its thumbnails are nobody's pictures."""
_DOT = ord(".")


class ScannedFile(NamedTuple):
    """A file that may be a picture or a video, or a folder of frames."""

    path: bytes
    """Relative to the folder that was scanned."""
    size: int
    mtime_ns: int


OnFailure = Callable[[bytes, str], object]
"""Called with an absolute path and the reason why it, and what is in it, could not be seen."""


def scan(
    path: bytes,
    *,
    on_failure: OnFailure,
    exclude: Sequence[str] = (),
    skip: Collection[bytes] = (),
) -> Iterator[ScannedFile]:
    """Find the picture files at or under the absolute ``path``.

    A file that is named itself is taken whatever its extension, with its name as path. In a folder
    everything with one of :data:`EXTENSIONS` is found, at any depth, sorted by name within its
    folder. Left out are hidden names (a leading dot), what ``exclude`` matches (see
    :class:`~embedsearch.images.exclude.Exclude`), the folders ``skip`` (absolute), and every
    folder that is an index. Links are followed; a folder that can be reached in several ways is
    entered once, by its own name rather than by a link, so that loops end.

    What cannot be seen (also ``path`` itself) goes to ``on_failure``, and the scan goes on. A file
    that vanishes in the middle is left out without a word.
    """
    excluded = Exclude(exclude)
    try:
        status = os.stat(path)
        frames = frame_folder(path)
    except OSError as fault:
        on_failure(path, explain(fault))
        return
    if frames is not None:
        yield ScannedFile(os.path.basename(path), frames.size, frames.mtime_ns)
    elif stat.S_ISDIR(status.st_mode):
        yield from _Walk(path, excluded, _identities(skip), on_failure).files()
    elif stat.S_ISREG(status.st_mode):
        yield ScannedFile(os.path.basename(path), status.st_size, status.st_mtime_ns)
    else:
        on_failure(path, no_picture(status.st_mode))


def _identities(folders: Collection[bytes]) -> set[tuple[int, int]]:
    found = set()
    for folder in folders:
        with suppress(OSError):
            status = os.stat(folder)
            found.add((status.st_dev, status.st_ino))
    return found


class _Names(NamedTuple):
    pictures: list[bytes]
    folders: list[bytes]
    links: list[bytes]
    marked: bool = False
    """Whether the file is there that makes a folder of frames a video."""


class _Walk:
    def __init__(
        self,
        root: bytes,
        excluded: Exclude,
        entered: set[tuple[int, int]],
        on_failure: OnFailure,
    ) -> None:
        self._root = root.rstrip(b"/") + b"/"
        self._excluded = excluded
        self._entered = entered
        """(st_dev, st_ino) of the folders that were entered, or are never to be."""
        self._on_failure = on_failure
        self._folders = [b""]
        """Still to enter; relative, each with a slash at its end; the next one last."""
        self._links: deque[bytes] = deque()
        """Links to folders, entered when all real folders have been."""

    def files(self) -> Iterator[ScannedFile]:
        while self._folders or self._links:
            prefix = self._folders.pop() if self._folders else self._links.popleft()
            try:
                # O_DIRECTORY: a named pipe that took the folder's place is not waited for.
                folder = os.open(self._root + prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as fault:
                self._on_failure((self._root + prefix).rstrip(b"/"), explain(fault))
                continue
            try:
                yield from self._folder(folder, prefix)
            finally:
                os.close(folder)

    def _folder(self, folder: int, prefix: bytes) -> Iterator[ScannedFile]:
        status = os.fstat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in self._entered:
            return
        self._entered.add(identity)
        try:
            names = self._names(prefix)
            frames = frame_folder(self._root + prefix) if names.marked else None
        except OSError as fault:
            self._on_failure((self._root + prefix).rstrip(b"/"), explain(fault))
            return
        if frames is not None:
            yield ScannedFile(prefix.rstrip(b"/"), frames.size, frames.mtime_ns)
            names.pictures.clear()
            for known in (names.folders, names.links):
                if frames.inner in known:
                    known.remove(frames.inner)
        below = names.folders
        # Each file is asked for by the descriptor of its folder: quicker than by its whole path.
        for name in names.pictures:
            try:
                status = os.stat(name, dir_fd=folder)
            except OSError as fault:
                self._unseen(folder, prefix + name, fault)
                continue
            if stat.S_ISREG(status.st_mode):
                yield ScannedFile(prefix + name, status.st_size, status.st_mtime_ns)
            elif stat.S_ISDIR(status.st_mode):
                is_link = os.path.islink(self._root + prefix + name)
                (names.links if is_link else below).append(name)
            else:
                self._on_failure(self._root + prefix + name, no_picture(status.st_mode))
        self._follow(folder, prefix, names.links)
        below.sort(reverse=True)
        self._folders += (
            prefix + name + b"/" for name in below if not self._excluded(prefix + name, folder=True)
        )

    def _names(self, prefix: bytes) -> _Names:
        """What is of interest in a folder; names only, as a million entries would be heavy."""
        names = _Names([], [], [])
        index_files, marked = 0, False
        excluded = self._excluded if self._excluded else None
        with os.scandir(self._root + prefix) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == _DOT:
                    continue
                dot = name.rfind(b".")
                is_picture = dot > 0 and name[dot + 1 :].lower() in EXTENSIONS
                if not is_picture and name in _INDEX_FILES:
                    index_files += 1
                elif name in MARKS:
                    marked = True
                elif excluded is not None and excluded(prefix + name):
                    continue
                elif is_picture:
                    names.pictures.append(name)
                elif entry.is_symlink():
                    names.links.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    names.folders.append(name)
        if index_files == len(_INDEX_FILES):
            return _Names([], [], [])
        names.pictures.sort()
        return names._replace(marked=marked)

    def _follow(self, folder: int, prefix: bytes, links: list[bytes]) -> None:
        """Note the links that lead to folders, and report those that lead nowhere."""
        for name in sorted(links):
            try:
                mode = os.stat(name, dir_fd=folder).st_mode
            except OSError as fault:
                self._unseen(folder, prefix + name, fault)
                continue
            if stat.S_ISDIR(mode) and not self._excluded(prefix + name, folder=True):
                self._links.append(prefix + name + b"/")

    def _unseen(self, folder: int, path: bytes, fault: OSError) -> None:
        reason = explain(fault)
        if isinstance(fault, FileNotFoundError):
            try:
                os.lstat(os.path.basename(path), dir_fd=folder)
            except FileNotFoundError:
                return  # it vanished after the folder was listed
            reason = "the link leads nowhere: what it names is not there"
        self._on_failure(self._root + path, reason)
