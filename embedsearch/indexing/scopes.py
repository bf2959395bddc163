"""From the PATHs of a run to what of which root is scanned, and how far that is trusted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

from embedsearch.errors import DataError
from embedsearch.images.frame_folder import is_one
from embedsearch.store.catalogue import Root, is_inside
from embedsearch.store.ledger import Ledger
from embedsearch.store.scan_plan import Scope


@dataclass(frozen=True, slots=True)
class Resolved:
    """The scopes of a run, and what the user should be told about them."""

    scopes: tuple[Scope, ...]
    warnings: tuple[str, ...]


def resolve(ledger: Ledger, paths: Iterable[bytes]) -> Resolved:
    """Find or make the root of every path, inside a transaction of ``ledger``.

    A path that does not exist is an error, unless the index knows it: then a disk may not be
    mounted, which is a warning, and nothing there counts as vanished.
    """
    absolute = list(dict.fromkeys(os.path.abspath(path) for path in paths))
    warnings: list[str] = []
    for path in absolute:
        if not os.path.lexists(path) and not ledger.knows_under(path):
            raise DataError(f"There is no file or folder {os.fsdecode(path)}.")
    given = set(absolute)
    absolute = [path for path in absolute if not _covered(path, given)]
    # All roots first: a later path may fold the root of an earlier one into its own.
    for path in absolute:
        folder = os.path.dirname(path) if is_one(path) else path
        if _root_of(ledger, path) is None:
            ledger.add_root(folder, os.stat(folder).st_dev)
    scopes = []
    for path in absolute:
        root = _root_of(ledger, path)
        assert root is not None
        scope, warning = _judge(root, path)
        scopes.append(scope)
        warnings += [warning] if warning else []
    return Resolved(tuple(scopes), tuple(warnings))


def distrust_empty(scope: Scope, files_seen: int) -> tuple[Scope, str | None]:
    """After the scan: a root without a single picture is more likely an unmounted disk."""
    if scope.trusted and not scope.below and files_seen == 0:
        name = os.fsdecode(scope.root.path)
        return replace(scope, trusted=False), (
            f"{name} holds no pictures now; nothing was marked as vanished. If they are really "
            f'gone: embedsearch forget "{name}"'
        )
    return scope, None


def is_gone(root: Root, path: bytes) -> bool:
    """Whether the file is certainly not at (root, relative path) any more."""
    absolute = root.absolute(path)
    return not os.path.lexists(absolute) and _distrust(root) is None


def _judge(root: Root, path: bytes) -> tuple[Scope, str | None]:
    below = root.relative(path)
    single_file = os.path.lexists(path) and is_one(path)
    warning = None if single_file else _distrust(root)
    return Scope(root, below, trusted=warning is None, single_file=single_file), warning


def _distrust(root: Root) -> str | None:
    """Why a file that is not seen under ``root`` may still exist; None where it is gone."""
    name = os.fsdecode(root.path)
    try:
        device = os.stat(root.path).st_dev
        with os.scandir(root.path) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        said = error.strerror or error
        return f"{name} cannot be opened ({said}); nothing there was marked as vanished."
    if empty:
        return f"{name} is empty; nothing there was marked as vanished. Is a disk not mounted?"
    if device != root.device:
        return (
            f"{name} lies on another device than before; nothing there was marked as vanished "
            "this time."
        )
    return None


def _root_of(ledger: Ledger, path: bytes) -> Root | None:
    """The root that holds ``path``, or is it. A folder of frames is held by one above it, like a
    file."""
    held = os.path.isdir(path) and is_one(path)
    for root in ledger.roots():
        if is_inside(path, root.path) or (path == root.path and not held):
            return root
    return None


def _covered(path: bytes, given: Set[bytes]) -> bool:
    """Whether another of the paths ``given`` is a folder that holds ``path``."""
    while (above := os.path.dirname(path)) != path:
        if above in given and os.path.isdir(above):
            return True
        path = above
    return False
