"""``openclip:ARCH/PRETRAINED``: an image and a text tower of open_clip."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from typing import Any

import open_clip
import torch
from open_clip.pretrained import (
    download_pretrained,
    get_pretrained_cfg,
    list_pretrained_tags_by_model,
)
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor

from embedsearch.encoders import model_spec
from embedsearch.encoders.model_spec import ModelSpec
from embedsearch.encoders.preprocess import ResizeWay
from embedsearch.encoders.torch_tower import (
    Preprocessing,
    TorchEncoder,
    Towers,
    cached_hub_file,
    hub_cache,
    weights_unavailable,
)
from embedsearch.errors import EncoderError
from embedsearch.settings import Device

_RESIZE: dict[str, ResizeWay] = {"shortest": "crop", "squash": "squash", "longest": "pad"}
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def load(spec: str, device: Device) -> TorchEncoder:
    """Load ``openclip:ARCH/PRETRAINED``, ``openclip:ARCH@FILE`` or, where the preprocessing depends
    on how ARCH was trained, ``openclip:ARCH/PRETRAINED@FILE``.

    Raises :class:`~embedsearch.errors.EncoderError`.
    """
    _keep_root_logger_quiet()
    asked = model_spec.parse(spec)
    arch, tag = _arch_and_tag(asked)
    trained = _trained(asked, arch, tag)
    file = str(asked.file) if asked.file is not None else _pretrained(asked, trained)
    try:
        model = open_clip.create_model(
            arch,
            pretrained=file,
            weights_only=True,
            # Else open_clip only warns that the weights were trained with the other activation.
            force_quick_gelu=bool(trained.get("quick_gelu")),
            force_preprocess_cfg={key: trained[key] for key in _PREPROCESSING if key in trained},
        )
    except Exception as error:  # the libraries raise nearly every type there is
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise EncoderError(
            f"{file}: cannot be loaded into {arch} ({first}). It must be a .safetensors file, or a "
            "state dict that torch.save wrote, of the very same architecture."
        ) from error
    return TorchEncoder(
        Towers(
            spec=asked,
            name=arch,
            model=model,
            images=model.encode_image,
            preprocessing=_preprocessing(asked, model),
            pooling="the model's own",
            licence="see where the weights are from",
            description=f"open_clip {arch}" + (f", {tag}" if tag else ""),
            variant="QuickGELU" if trained.get("quick_gelu") else "",
            texts=_Texts(asked, arch, model),
        ),
        device,
    )


def cached(repositories: Collection[str]) -> list[str]:
    """Specs whose weights are on this machine; ``repositories`` are those in the hub's cache."""
    return [
        f"openclip:{arch}/{tag}"
        for arch, tag in open_clip.list_pretrained()
        if _cached_file(get_pretrained_cfg(arch, tag), repositories)
    ]


def _cached_file(known: Mapping[str, Any], repositories: Collection[str]) -> str | None:
    repository, _, name = known.get("hf_hub", "").rpartition("/")
    if repository not in repositories:
        return None
    return cached_hub_file(repository, (name,) if name else _HUB_FILES)


class _Texts:
    """The text tower. Its tokenizer is loaded when first needed: some must be downloaded."""

    def __init__(self, spec: ModelSpec, arch: str, model: Any) -> None:
        self._spec, self._arch, self._model = spec, arch, model
        self._loading = threading.Lock()
        self._tokenizer: Any = None

    def __call__(self, texts: list[str], device: torch.device) -> Tensor:
        """From texts to (N, dim)."""
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = self._load_tokenizer()
        rows: Tensor = self._model.encode_text(self._tokenizer(texts).to(device))
        return rows

    def _load_tokenizer(self) -> Any:
        try:
            return open_clip.get_tokenizer(self._arch)
        except Exception as error:  # as when weights are downloaded
            name = open_clip.get_model_config(self._arch)["text_cfg"].get("hf_tokenizer_name")
            raise EncoderError(
                f"{self._spec}: the tokenizer {name or self._arch} cannot be had: "
                f"{str(error).strip().splitlines()[0][:300]}\nIt was sought in {hub_cache()}, then "
                "on the network. Run this once with a network, or copy that folder from a machine "
                "that has it (HF_HUB_CACHE says where it lies)."
            ) from error


def _arch_and_tag(spec: ModelSpec) -> tuple[str, str | None]:
    """open_clip writes ``ViT-B/32`` as ``ViT-B-32``; whatever follows an architecture is a tag."""
    known = open_clip.list_models()
    if (whole := spec.model.replace("/", "-")) in known:
        return whole, None
    arch, slash, tag = spec.model.rpartition("/")
    if slash and (arch := arch.replace("/", "-")) in known:
        return arch, tag
    raise model_spec.unknown_model(spec, known)


def _trained(spec: ModelSpec, arch: str, tag: str | None) -> Mapping[str, Any]:
    """What open_clip knows of how the weights were trained: preprocessing and activation."""
    tags = list_pretrained_tags_by_model(arch)
    if tag is not None:
        if tag not in tags:
            raise EncoderError(f"{spec}: {arch} has no weights {tag!r}; {_choice(arch, tags)}")
        return dict(get_pretrained_cfg(arch, tag))
    if spec.file is None:
        raise EncoderError(f"{spec}: which weights? {_choice(arch, tags)}")
    ways = [_way(get_pretrained_cfg(arch, one)) for one in tags]
    if any(way != ways[0] for way in ways):
        raise EncoderError(
            f"{spec}: weights of {arch} were trained in ways that differ in how pictures are "
            f"prepared. Name those that the checkpoint is like: openclip:{arch}/TAG@{spec.file}, "
            f"where TAG is one of {', '.join(tags)}."
        )
    return ways[0] if ways else {}


def _way(known: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in known.items() if key not in ("url", "hf_hub")}


def _choice(arch: str, tags: list[str]) -> str:
    named = f"openclip:{arch}/TAG, where TAG is one of {', '.join(tags)}, or " if tags else ""
    return f"write {named}openclip:{arch}@/path/to/checkpoint"


def _pretrained(spec: ModelSpec, trained: Mapping[str, Any]) -> str:
    """Path of the weights, downloaded where need be."""
    repository, _, name = trained.get("hf_hub", "").rpartition("/")
    names = (name,) if name else _HUB_FILES
    if repository and (cached := cached_hub_file(repository, names)):
        return cached
    try:
        return str(download_pretrained(dict(trained)))
    except Exception as error:  # each way of downloading raises errors of its own
        what = repository or str(trained.get("url"))
        sought = hub_cache() if repository else "~/.cache/clip"
        raise weights_unavailable(spec, f"{what}: {names[0]}", sought, error) from error


def _preprocessing(spec: ModelSpec, model: Any) -> Preprocessing:
    config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    sides = {config.size} if isinstance(config.size, int) else set(config.size)
    if len(sides) != 1:
        raise EncoderError(f"{spec}: takes no square pictures, but {config.size}.")
    return Preprocessing(
        size=sides.pop(),
        resize=_RESIZE[config.resize_mode],
        interpolation=config.interpolation,
        mean=_triple(config.mean),
        std=_triple(config.std),
        crop=1.0,
        transform=image_transform_v2(config, is_train=False),
    )


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values if isinstance(values, tuple | list) else (values,) * 3
    return red, green, blue


def _keep_root_logger_quiet() -> None:
    """open_clip logs through the root logger, which without a handler gets one that prints."""
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
