"""What the pictures of a map are coloured by: a category for each, with a name and a colour."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import QueryError
from embedsearch.records import MapPoint
from embedsearch.render.names import printable

Colour = Literal["cluster", "folder", "date", "label", "tag", "none"]
COLOURS: tuple[Colour, ...] = ("cluster", "folder", "date", "label", "tag", "none")

PALETTE = (
    "#4c78d8", "#e8743b", "#35a26a", "#c94f7c", "#8d68d0", "#c79a1e",
    "#2a9db0", "#d65252", "#79a83a", "#b565b5", "#5b8fb9", "#a8754a",
    "#5f6fb2", "#e29a55", "#4fb39a", "#d77fa1",
)  # fmt: skip
"""Told apart on light and on dark ground alike."""
UNCOLOURED = "#9a9aa1"
"""Of pictures that have none, such as those outside all clusters."""
_RAMP = ((68, 58, 140), (42, 130, 160), (90, 180, 110), (230, 190, 60))
"""Old to new."""
_LACKING: dict[Colour, str] = {
    "cluster": "is in a cluster. Make clusters: embedsearch cluster",
    "date": "says when it was taken. Colour by another: --colour folder",
    "label": "has a label. Colour by another: --colour folder",
    "tag": "has a tag. Give some: embedsearch tag",
}


@dataclass(frozen=True, slots=True)
class Colouring:
    """``of`` holds for each picture the position of its category in ``labels``, or -1."""

    name: Colour
    labels: tuple[str, ...]
    colours: tuple[str, ...]
    """``#rrggbb`` of each label."""
    of: NDArray[np.int32]

    def counts(self) -> list[int]:
        """Pictures of each category."""
        counts: list[int] = np.bincount(self.of[self.of >= 0], minlength=len(self.labels)).tolist()
        return counts


def colourings(points: Sequence[MapPoint]) -> dict[Colour, Colouring]:
    """All that these pictures can be coloured by, ``none`` always among them."""
    made = {
        "cluster": _clusters(points),
        "folder": _by_size("folder", _folders(points)),
        "date": _dates([point.image.taken_at for point in points]),
        "label": _by_size("label", [point.label for point in points]),
        "tag": _by_size("tag", [point.tags[0] if point.tags else None for point in points]),
        "none": Colouring("none", (), (), np.full(len(points), -1, np.int32)),
    }
    return {name: one for name, one in made.items() if name == "none" or one.labels}  # type: ignore[misc]


def chosen(made: dict[Colour, Colouring], colour: Colour | None) -> Colouring:
    """The one that was asked for; by default clusters where there are some, else folders.

    Raises :class:`~embedsearch.errors.QueryError` where no picture has what was asked for.
    """
    if colour is None:
        colour = "cluster" if "cluster" in made else "folder"
    if colour not in made:
        raise QueryError(f"--colour {colour}: no picture of this map {_LACKING[colour]}.")
    return made[colour]


def _clusters(points: Sequence[MapPoint]) -> Colouring:
    names = {point.cluster: point.cluster_name for point in points if point.cluster is not None}
    numbers = sorted(names)
    position = {number: at for at, number in enumerate(numbers)}
    return Colouring(
        "cluster",
        tuple(printable(names[number] or f"cluster {number}") for number in numbers),
        # By number, which a cluster keeps when pictures are added.
        tuple(PALETTE[(number - 1) % len(PALETTE)] for number in numbers),
        np.array(
            [-1 if point.cluster is None else position[point.cluster] for point in points],
            np.int32,
        ),
    )


def _folders(points: Sequence[MapPoint]) -> list[str | None]:
    """Folders without what all of them share."""
    folders = [posixpath.dirname(point.image.path) for point in points]
    shared = posixpath.commonpath(set(folders)) if folders else ""
    own = posixpath.basename(shared) or "/"
    return [own if folder == shared else posixpath.relpath(folder, shared) for folder in folders]


def _by_size(name: Colour, values: Sequence[str | None]) -> Colouring:
    """The largest category first."""
    counts = Counter(value for value in values if value is not None)
    ordered = sorted(counts, key=lambda value: (-counts[value], value))
    position = {value: at for at, value in enumerate(ordered)}
    return Colouring(
        name,
        tuple(printable(value) for value in ordered),
        tuple(PALETTE[at % len(PALETTE)] for at in range(len(ordered))),
        np.array([-1 if value is None else position[value] for value in values], np.int32),
    )


def _dates(taken: Sequence[str | None]) -> Colouring:
    """Years; months or days where a collection is younger than that."""
    known = [date for date in taken if date]
    digits = next((n for n in (4, 7) if len({date[:n] for date in known}) > 2), 10)
    labels = sorted({date[:digits] for date in known})
    position = {label: at for at, label in enumerate(labels)}
    return Colouring(
        "date",
        tuple(printable(label) for label in labels),
        tuple(_ramp(at / max(len(labels) - 1, 1)) for at in range(len(labels))),
        np.array([position[date[:digits]] if date else -1 for date in taken], np.int32),
    )


def _ramp(part: float) -> str:
    at = part * (len(_RAMP) - 1)
    low = min(int(at), len(_RAMP) - 2)
    mixed = (
        round(a + (b - a) * (at - low)) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True)
    )
    return "#{:02x}{:02x}{:02x}".format(*mixed)
