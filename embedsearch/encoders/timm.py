"""``timm:MODEL``: an image-only CNN of timm, with a choice of layer and pooling."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import timm
from timm.data import create_transform, resolve_model_data_config

from embedsearch.encoders import model_spec
from embedsearch.encoders.feature_map import PooledMap
from embedsearch.encoders.model_spec import ModelSpec
from embedsearch.encoders.preprocess import ResizeWay
from embedsearch.encoders.torch_tower import (
    Preprocessing,
    TorchEncoder,
    Towers,
    cached_hub_file,
    hub_cache,
    load_weights,
    weights_unavailable,
)
from embedsearch.errors import EncoderError
from embedsearch.settings import Device

OPTIONS = ("pool", "layer")
_RESIZE: dict[str, ResizeWay] = {"center": "crop", "squash": "squash", "border": "pad"}
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load(spec: str, device: Device, *, weights: bool = True) -> TorchEncoder:
    """Load ``timm:MODEL?pool=...&layer=...`` or ``timm:MODEL@FILE?...``.

    Without ``weights`` they are as drawn, which is where training from scratch begins. Raises
    :class:`~embedsearch.errors.EncoderError`.
    """
    asked = model_spec.parse(spec, OPTIONS)
    if not timm.is_model(asked.model):
        raise model_spec.unknown_model(asked, timm.list_models(pretrained=True))
    if not weights:
        model = bare(asked.model)
    else:
        model = _pretrained(asked) if asked.file is None else _from_file(asked)
    about = model.pretrained_cfg
    images = PooledMap(
        asked,
        model,
        model.forward_features,
        channels_last=getattr(model, "output_fmt", "NCHW") == "NHWC",
    )
    return TorchEncoder(
        Towers(
            spec=asked,
            name=asked.model,
            model=model,
            images=images,
            preprocessing=_preprocessing(asked, model),
            pooling=images.pooling,
            licence=(asked.file is None and about.get("license"))
            or "see where the weights are from",
            description=f"timm {asked.model}",
        ),
        device,
    )


def bare(name: str) -> Any:
    """The network of that name without a classifier, its weights as drawn."""
    return timm.create_model(name, pretrained=False, num_classes=0)


def cached(repositories: Collection[str]) -> list[str]:
    """Specs whose weights are on this machine; ``repositories`` are those in the hub's cache."""
    found = []
    for name in timm.list_pretrained():
        repository = timm.get_pretrained_cfg(name).hf_hub_id
        if repository in repositories and cached_hub_file(repository, _HUB_FILES):
            found.append(f"timm:{name}")
    return found


def _pretrained(spec: ModelSpec) -> Any:
    known = timm.get_pretrained_cfg(spec.model)
    if known is None or not known.has_weights:
        raise EncoderError(
            f"{spec}: timm has no weights for this model. Name a checkpoint: "
            f"timm:{spec.model}@/path/to/FILE"
        )
    repository = known.hf_hub_id
    file = cached_hub_file(repository, _HUB_FILES) if repository else None
    try:
        return timm.create_model(
            spec.model,
            pretrained=True,
            num_classes=0,
            pretrained_cfg_overlay={"file": file} if file else None,
        )
    except Exception as error:  # each way of downloading raises errors of its own
        raise weights_unavailable(spec, repository or known.url, hub_cache(), error) from error


def _from_file(spec: ModelSpec) -> Any:
    assert spec.file is not None
    model = bare(spec.model)
    classifier = model.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    load_weights(model, spec.file, names)
    return model


def _preprocessing(spec: ModelSpec, model: Any) -> Preprocessing:
    config = resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise EncoderError(f"{spec}: takes no square RGB pictures, but {config['input_size']}.")
    return Preprocessing(
        size=height,
        resize=_RESIZE[config["crop_mode"]],
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop=config["crop_pct"],
        transform=create_transform(**config, is_training=False),
    )
