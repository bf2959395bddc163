"""What encoders there are, what each costs, and what each sees in a photo; and what else looks at
pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from embedsearch.encoders import compound_folder, registry
from embedsearch.encoders.base import Encoder
from embedsearch.enrichers import registry as enrichers
from embedsearch.errors import EmbedSearchError, EncoderError, PictureError, QueryError
from embedsearch.records import EncoderInfo, Model, Stage, StageModel, Trial
from embedsearch.settings import Device
from embedsearch.store.catalogue import Catalogue


def listed(specs: Sequence[str], catalogue: Catalogue | None, device: Device) -> list[Model]:
    """The encoders in the box, those of the index, and those that ``specs`` name; each once.

    Those that are named are loaded. Raises :class:`~embedsearch.errors.EncoderError` where one of
    them cannot be.
    """
    found: dict[str, Model] = {}
    for spec in registry.in_the_box():
        boxed = registry.load(spec)
        found[boxed.info.id] = _model(boxed, "box")
    if catalogue is not None:
        counts = catalogue.embedding_counts()
        for stored in catalogue.encoders():
            id_ = stored.info.id
            there = found.get(id_) or _stored(stored.info, catalogue.path.parent)
            found[id_] = replace(there, embeddings=counts[id_])
    for spec in specs:
        if not any(spec in (id_, model.info.spec) for id_, model in found.items()):
            named = registry.load(spec, device)
            found[named.info.id] = _model(named, "named")
    return list(found.values())


def stage_models(device: Device) -> list[StageModel]:
    """What each stage of ``index --enrich`` uses, without loading a network."""
    return [_stage_model(stage, spec, device) for stage, spec in enrichers.DEFAULTS.items()]


def _stage_model(stage: Stage, spec: str, device: Device) -> StageModel:
    others = tuple(enrichers.examples(stage))
    try:
        found = enrichers.find(stage, spec, device)
    except EmbedSearchError as error:
        return StageModel(stage, spec, None, str(error), None, others)
    size = getattr(found, "weight_bytes", None)
    return StageModel(stage, spec, getattr(found, "info", None), None, size, others)


def check_photo(photo: Path) -> None:
    """Raises :class:`~embedsearch.errors.QueryError` for a photo that nothing can be tried on."""
    from embedsearch.images.decode import decode

    try:
        decode(photo, 32)
    except PictureError as error:
        raise QueryError(f"{photo} cannot be tried: {error.reason}.") from error


def tried(model: Model, photo: Path, index_folder: Path | None, device: Device) -> Model:
    """``model`` with a trial on ``photo``: in a fresh process, so that neither time nor memory is
    another's. What goes wrong is told by ``trial.error``."""
    asked = {
        "info": asdict(model.info),
        "index": None if index_folder is None else str(index_folder.absolute()),
        "device": device,
        "photo": os.fsencode(photo.absolute()).decode("utf-8", "surrogateescape"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "embedsearch.explore.trial"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        # What this process can import, that one can.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        told = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return replace(model, trial=Trial(error=f"it ended with {done.returncode}: {said}"))
    words = told.pop("words")
    told["words"] = None if words is None else tuple((word, score) for word, score in words)
    return replace(model, trial=Trial(**told))


def _model(encoder: Encoder, where: str) -> Model:
    return Model(
        info=encoder.info,
        where="box" if where == "box" else "named",
        runs_on=getattr(encoder, "runs_on", "as its package says"),
        weight_bytes=getattr(encoder, "weight_bytes", None),
    )


def _stored(info: EncoderInfo, index_folder: Path) -> Model:
    """An encoder of the index, of which nothing is loaded."""
    places = [family.runs_on for family in registry.FAMILIES if f"{family.prefix}:" in info.spec]
    copies = _copies(info.id, index_folder / "encoders")
    own = "CPU" if copies else "as its package says"
    size = None if copies is None else sum(file.stat().st_size for file in copies)
    return Model(info, "index", places[0] if places else own, size)


def _copies(id_: str, encoders: Path) -> list[Path] | None:
    """The files of the copy in the index, and of its parts; None where one has no copy."""
    folder = encoders / id_
    if not (folder / "encoder.json").is_file():
        return None
    files = [file for file in folder.iterdir() if file.is_file()]
    try:
        parts = compound_folder.parts_of(folder)
    except EncoderError:  # it is for verify to say so
        return None
    for part, _ in parts:
        more = _copies(part, encoders)
        if more is None:
            return None
        files += more
    return files
