"""A folder that ``finetune --task detect`` wrote, as a detector."""

from __future__ import annotations

import json
from pathlib import Path

from embedsearch.enrichers.base import Enricher
from embedsearch.enrichers.detector_file import FILE
from embedsearch.errors import EnricherError
from embedsearch.settings import Device

TORCHVISION = "torchvision"
"""The key under which ``detector.json`` names a model of torchvision, whose checkpoint lies beside
it; without it, it is as :mod:`~embedsearch.enrichers.detector_file` has it."""
CHECKPOINT = "detector.pth"


def is_detector(spec: str) -> bool:
    """Whether ``spec`` names such a folder."""
    return (folder_of(spec) / FILE).is_file()


def folder_of(spec: str) -> Path:
    return Path(spec.partition("?")[0]).expanduser().absolute()


def torchvision_spec(spec: str) -> str | None:
    """``torchvision:MODEL@FILE`` for a folder with a model of torchvision; None for another.

    Raises :class:`~embedsearch.errors.EnricherError`.
    """
    folder, options = folder_of(spec), spec.partition("?")[2]
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        model = told.get(TORCHVISION)
    except (OSError, ValueError, AttributeError) as error:
        raise EnricherError(f"{folder / FILE}: cannot be read ({error}).") from error
    if model is None:
        return None
    told_options = f"size={told['size']}" if told.get("size") else ""
    asked = "&".join(each for each in (told_options, options) if each)
    return f"torchvision:{model}@{folder / CHECKPOINT}{'?' + asked if asked else ''}"


def load(spec: str, device: Device) -> Enricher:
    """Load it. Raises :class:`~embedsearch.errors.EnricherError`."""
    from embedsearch.enrichers import detect_onnx, detect_torchvision

    other = torchvision_spec(spec)
    if other is None:
        return detect_onnx.load(spec, device)
    return detect_torchvision.load(other, device)
