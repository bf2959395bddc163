"""From a stage and a spec to an enricher: one in the box, a file, a model of another library, or
what another package brings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from embedsearch.enrichers.base import Enricher, NeedsEncoder
from embedsearch.errors import EnricherError
from embedsearch.records import Stage
from embedsearch.settings import Device

STAGES: tuple[Stage, ...] = get_args(Stage)
ENTRY_POINTS = "embedsearch.enrichers"


@dataclass(frozen=True, slots=True)
class Family:
    """Enrichers named by one prefix."""

    stage: Stage
    prefix: str
    """What specs begin with: ``PREFIX`` or ``PREFIX:...``."""
    module: str
    """The module here whose ``load(spec, device)`` makes them."""
    example: str


FAMILIES: tuple[Family, ...] = (
    Family("ocr", "rapidocr", "ocr", "rapidocr:LANG"),
    Family("detect", "yolox", "detect_onnx", "yolox"),
    Family("detect", "yolo", "detect_onnx", "yolo:MODEL.onnx"),
    Family("detect", "torchvision", "detect_torchvision", "torchvision:MODEL"),
    Family("detect", "rcnn", "open_vocabulary", "rcnn?labels=dog,red umbrella"),
    Family("detect", "fast-rcnn", "open_vocabulary", "fast-rcnn?labels=dog,red umbrella"),
    Family("track", "botsort", "track", "botsort?detector=yolo:MODEL.onnx"),
    Family("segment", "raspp", "segment_onnx", "raspp"),
    Family("segment", "torchvision", "segment_torchvision", "torchvision:MODEL"),
    Family("segment", "panoptic", "panoptic", "panoptic:INSTANCES+SEMANTIC"),
    Family("segment", "litert", "segment_litert", "litert:MODEL.tflite"),
)

FOLDERS: dict[Stage, tuple[str, str]] = {
    "ocr": ("reader.json", "ocr"),
    "detect": ("detector.json", "detect_folder"),
    "segment": ("segmenter.json", "segment_onnx"),
}
"""By stage, the file that makes a folder an enricher of it, and the module that loads it."""

DEFAULTS: dict[Stage, str] = {
    "ocr": "rapidocr",
    "detect": "yolox",
    "track": "botsort",
    "segment": "raspp",
}
"""What a stage uses where nothing is named."""


def examples(stage: Stage) -> list[str]:
    """Specs of every kind that the stage knows, but for its own."""
    known = [family.example for family in FAMILIES if family.stage == stage]
    known += [f"a folder with {FOLDERS[stage][0]}"] if stage in FOLDERS else []
    return [spec for spec in known if spec != DEFAULTS.get(stage)]


def load(
    stage: Stage, spec: str | None = None, device: Device = "auto", encoder: Any = None
) -> Enricher:
    """Load the enricher of ``stage`` that ``spec`` names, or the stage's own. Those that name what
    they see with an encoder use ``encoder``.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    made = find(stage, spec, device)
    if not isinstance(made, NeedsEncoder):
        return made
    if encoder is None:
        raise EnricherError(f"{spec!r} names what it sees with an encoder, and here is none.")
    return made.using(encoder)


def find(stage: Stage, spec: str | None, device: Device) -> Enricher | NeedsEncoder:
    """As :func:`load`, where no encoder is at hand yet."""
    spec = spec or DEFAULTS.get(stage)
    if spec is None:
        raise EnricherError(f"There is nothing for --enrich {stage} in this version.")
    prefix = re.split("[:?]", spec, maxsplit=1)[0]
    for family in FAMILIES:
        if (family.stage, family.prefix) == (stage, prefix):
            module = import_module(f"{__package__}.{family.module}")
            made: Enricher | NeedsEncoder = module.load(spec, device)
            return made
    _, loader = FOLDERS.get(stage, ("", ""))
    if loader and Path(spec.partition("?")[0]).expanduser().is_dir():
        of_folder: Enricher = import_module(f"{__package__}.{loader}").load(spec, device)
        return of_folder
    from importlib.metadata import entry_points

    entries = [entry for entry in entry_points(group=ENTRY_POINTS) if entry.name == prefix]
    for entry in entries:
        brought = entry.load()(spec, device)
        if isinstance(brought, Enricher) and brought.info.stage == stage:
            return brought
    known = ", ".join([DEFAULTS[stage], *examples(stage)])
    raise EnricherError(f"There is no {spec!r} for --enrich {stage}. There is: {known}.")
