"""Whether the encoder that an index was made with has been overtaken: what its spec names now."""

from __future__ import annotations

import os
from pathlib import Path

from embedsearch.encoders import compound_folder, registry
from embedsearch.encoders.folder import DESCRIPTION, described_id
from embedsearch.errors import EncoderError
from embedsearch.records import EncoderInfo


def newer_than(info: EncoderInfo, index_folder: Path) -> str | None:
    """Id of the encoder that ``info.spec`` leads to now, where that is not ``info.id`` any more.

    Of an encoder made of others it is the first newer part. No weight is read, so models of other
    libraries, which tell their ids only when loaded, never have a newer one; neither has a spec
    that leads nowhere: the copy in the index serves.
    """
    return _newer(info.id, info.spec, index_folder / "encoders")


def _newer(id_: str, spec: str, encoders: Path) -> str | None:
    copy = encoders / id_
    try:
        parts = compound_folder.parts_of(copy) if (copy / DESCRIPTION).is_file() else []
        if parts:
            newer = (_newer(part, part_spec, encoders) for part, part_spec in parts)
            return next((found for found in newer if found is not None), None)
        place = _place(spec)
        now = id_ if place is None else described_id(place)
    except EncoderError:  # damaged: no reason to leave the one that the index has
        return None
    return None if now == id_ else now


def _place(spec: str) -> Path | None:
    """The folder that ``spec`` names, in the box or elsewhere."""
    if spec in registry.in_the_box():
        return registry.WEIGHTS / spec
    folder = Path(os.path.expanduser(spec))
    return folder if os.path.isfile(folder / DESCRIPTION) else None
