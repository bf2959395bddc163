"""The folder of an encoder that is made of others: ``encoder.json`` and the arrays of its own.

The parts are named by id and spec. A part that has a folder of its own under its id beside this one
is taken from there: so an index keeps each encoder once, whatever else is made of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedsearch.encoders.base import Encoder
from embedsearch.encoders.compound import AXES, Axes, Compound, from_told
from embedsearch.encoders.folder import (
    DESCRIPTION,
    FORMAT,
    check_bytes,
    file_hashes,
    parsed_as,
    read_description,
)
from embedsearch.errors import EncoderError

Part = tuple[str, str]
"""Id and spec of a part."""


def is_compound(folder: Path) -> bool:
    """Whether ``folder`` describes an encoder made of others. Raises
    :class:`~embedsearch.errors.EncoderError` where it cannot be read."""
    return "kind" in read_description(folder)


def write(encoder: Compound, target: Path) -> None:
    """Write ``encoder`` into the folder ``target``, which appears whole or not at all."""
    told = {
        "format": FORMAT,
        "id": encoder.info.id,
        "spec": encoder.info.spec,
        **encoder.told(),
        "parts": [{"id": part.info.id, "spec": part.info.spec} for part in encoder.parts],
        "files": {name: hashlib.sha256(held).hexdigest() for name, held in encoder.files().items()},
    }
    beside = target.with_name(target.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, held in encoder.files().items():
        (beside / name).write_bytes(held)
    (beside / DESCRIPTION).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def read(folder: Path, spec: str | None, load_part: Callable[[Part], Encoder]) -> Compound:
    """The encoder that ``folder`` describes, under the name ``spec`` (by default its own).

    Raises :class:`~embedsearch.errors.EncoderError` for files that are missing, damaged or not
    understood, and where the parts are not those it was made of.
    """
    told = read_description(folder)
    parts = [load_part(part) for part in parts_of(folder)]
    made = parsed_as(
        folder,
        told,
        lambda told: from_told(told, lambda: read_axes(folder), parts, spec or told["spec"]),
    )
    if made.info.id != told.get("id"):
        raise EncoderError(
            f"{folder} holds {made.info.id}, not {told.get('id')} as its {DESCRIPTION} says. "
            "Copy the encoder anew."
        )
    return made


def parts_of(folder: Path) -> list[Part]:
    """What the encoder in ``folder`` is made of; nothing where it is not made of others. Raises
    :class:`~embedsearch.errors.EncoderError`."""
    told = read_description(folder)
    return parsed_as(folder, told, _parts) if "kind" in told else []


def reductions(encoders: Path) -> Iterator[tuple[Path, str, int]]:
    """The reduced encoders in the folder ``encoders`` of an index: where each lies, the id of what
    is reduced, and to how many dimensions. What cannot be read is left out."""
    for description in sorted(encoders.glob(f"*/{DESCRIPTION}")):
        try:
            told = read_description(description.parent)
            if told.get("kind") == "reduced":
                ((base, _),) = _parts(told)
                yield description.parent, base, told["dim"]
        except (EncoderError, KeyError, TypeError, ValueError):
            continue


def read_axes(folder: Path) -> Axes:
    """The axes of a reduced encoder, float32 (dim, D); never unpickled. Raises
    :class:`~embedsearch.errors.EncoderError`."""
    path = folder / AXES
    try:
        held = path.read_bytes()
    except OSError as error:
        raise EncoderError(
            f"{path}: cannot be read ({error.strerror}). Index the pictures anew with this encoder."
        ) from error
    hashes = parsed_as(folder, read_description(folder), file_hashes)
    if AXES not in hashes:
        raise EncoderError(f"{folder / DESCRIPTION} does not list {AXES}. Copy the encoder anew.")
    check_bytes(path, held, hashes[AXES])
    try:
        axes: Axes = np.load(io.BytesIO(held), allow_pickle=False)
    except ValueError as error:
        raise EncoderError(f"{path}: no array of numbers ({error}).") from error
    return axes


def _parts(told: dict[str, Any]) -> list[Part]:
    parts = [(part["id"], part["spec"]) for part in told["parts"]]
    # An id becomes part of a path.
    if not all(isinstance(id_, str) and Path(id_).name == id_ for id_, _ in parts):
        raise ValueError(f"'parts' is {told['parts']!r}, which is not understood")
    return parts
