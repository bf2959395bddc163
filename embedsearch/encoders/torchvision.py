"""``torchvision:MODEL``: an image-only CNN of torchvision, with a choice of layer and pooling."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision import models

from embedsearch.encoders import model_spec
from embedsearch.encoders.feature_map import PooledMap
from embedsearch.encoders.model_spec import ModelSpec
from embedsearch.encoders.torch_tower import (
    Preprocessing,
    TorchEncoder,
    Towers,
    load_state,
    load_weights,
    weights_unavailable,
)
from embedsearch.errors import EncoderError
from embedsearch.settings import Device

OPTIONS = ("pool", "layer", "weights")
_LAST_MAPS = (
    "permute",  # Swin, whose features have their channels last
    "features",
    "trunk_output",
    "layer4",
    "conv5",
    "Mixed_7c",
    "inception5b",
    "layers",
    "blocks",
)
"""Modules that give the last feature map: the first of these that a model has."""
_CLASSIFIERS = ("classifier", "fc", "head", "heads", "aux1", "aux2", "AuxLogits")
_AS_TRAINED = {"transform_input": True, "init_weights": False}
"""How the Inception networks were trained; their pretrained weights set it, a checkpoint cannot."""


def load(spec: str, device: Device, *, weights: bool = True) -> TorchEncoder:
    """Load ``torchvision:MODEL?pool=...&layer=...&weights=...`` or ``torchvision:MODEL@FILE?...``.

    In ``spec``, ``weights`` is the name of one of the model's weights, such as ``IMAGENET1K_V1``;
    its preprocessing holds for a checkpoint too. Without ``weights`` they are as drawn, which is
    where training from scratch begins. Raises :class:`~embedsearch.errors.EncoderError`.
    """
    asked = model_spec.parse(spec, OPTIONS)
    known = models.list_models(module=torchvision.models)
    if asked.model not in known:
        raise model_spec.unknown_model(asked, known)
    trained = _weights(asked)
    model = bare(asked.model)
    if weights and asked.file is not None:
        load_weights(model, asked.file, _CLASSIFIERS)
    elif weights:
        _download(asked, model, trained)
    last = next((name for name in _LAST_MAPS if hasattr(model, name)), None)
    images = PooledMap(asked, model, model, last)
    return TorchEncoder(
        Towers(
            spec=asked,
            name=asked.model,
            model=model,
            images=images,
            preprocessing=_preprocessing(trained),
            pooling=images.pooling,
            licence="see where the weights are from",
            description=f"torchvision {asked.model}",
        ),
        device,
    )


def bare(name: str) -> nn.Module:
    """The network of that name without a classifier, its weights as drawn."""
    inception = name in ("googlenet", "inception_v3")
    model: nn.Module = models.get_model(name, weights=None, **(_AS_TRAINED if inception else {}))
    for part in _CLASSIFIERS:
        if getattr(model, part, None) is not None:
            setattr(model, part, nn.Identity())
    return model


def cached(repositories: Collection[str]) -> list[str]:
    """Specs whose weights are on this machine. (``repositories`` of the hub are not asked.)"""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    there = {file.name for file in folder.glob("*.pth")} if folder.is_dir() else set()
    return [
        f"torchvision:{model}?weights={name}"
        for model in models.list_models(module=torchvision.models)
        for name, weights in models.get_model_weights(model).__members__.items()
        if Path(weights.url).name in there
    ]


def _weights(spec: ModelSpec) -> Any:
    known = models.get_model_weights(spec.model)
    name = spec.options.get("weights", "DEFAULT")
    if name != "DEFAULT" and name not in known.__members__:
        raise EncoderError(
            f"{spec}: there are no weights {name!r}; there are {', '.join(known.__members__)}."
        )
    return known[name]


def _download(spec: ModelSpec, model: nn.Module, weights: Any) -> None:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        load_state(model, state, _CLASSIFIERS)
    except Exception as error:  # network, disk and format each raise errors of their own
        file = folder / Path(weights.url).name
        raise weights_unavailable(spec, weights.url, str(file), error) from error


def _preprocessing(weights: Any) -> Preprocessing:
    transform = weights.transforms()
    (size,), (resized,) = transform.crop_size, transform.resize_size
    return Preprocessing(
        size=size,
        resize="crop",
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        crop=size / resized,
        transform=transform,
    )
