"""From what a recipe names to a detector that can be trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from embedsearch.enrichers import detect_folder, detect_torchvision
from embedsearch.enrichers.detect_onnx import detector_file
from embedsearch.training.detect.network import Network
from embedsearch.training.detect.recipe import Model
from embedsearch.training.detect.torchvision_network import TorchvisionNetwork
from embedsearch.training.detect.yolox_network import YoloxNetwork


def load(model: Model, met: Sequence[str], own: bool, device: torch.device) -> Network:
    """The detector that ``model.start`` names, for the labels ``met``, and unless ``own`` those it
    knows.

    Raises :class:`~embedsearch.errors.EnricherError` and :class:`~embedsearch.errors.DataError`.
    """
    named = _torchvision(model)
    if named is not None:
        return TorchvisionNetwork(
            detect_torchvision.parse(named),
            met,
            own=own,
            size=model.size,
            scratch=model.scratch,
            device=device,
        )
    file = detector_file(model.start)
    return YoloxNetwork(file, met, own=own, size=model.size, scratch=model.scratch, device=device)


def licence_of(model: Model) -> str:
    """The licence of what it starts from."""
    if _torchvision(model) is not None:
        return "see where the weights it started from are from"
    return detector_file(model.start).licence


def _torchvision(model: Model) -> str | None:
    """The spec of a detector of torchvision, where that is what it starts from."""
    if detect_folder.is_detector(model.start):
        return detect_folder.torchvision_spec(model.start)
    return model.start if model.start.startswith("torchvision:") else None
