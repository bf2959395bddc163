"""Any encoder, by its spec, as PyTorch trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import cast

import torch
from torch import nn

from embedsearch.encoders import model_spec, registry
from embedsearch.encoders.compound_spec import MEAN_OF_WEIGHTS, Joined, Single
from embedsearch.encoders.folder import read_folder
from embedsearch.encoders.preprocess import Interpolation
from embedsearch.errors import EncoderError
from embedsearch.training.networks import soup
from embedsearch.training.networks.architecture import (
    MOBILENETV2,
    Architecture,
    mobilenetv2_architecture,
)
from embedsearch.training.networks.building import PROBED, forget, image_tower, new_head
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.mobilenetv2 import load_mobilenetv2
from embedsearch.training.networks.pooling import make_pool
from embedsearch.training.networks.shortening import leave_out
from embedsearch.training.networks.token_table import read_potion
from embedsearch.training.networks.towers import BagText, FeatureHead, OpenClipText
from embedsearch.training.networks.trained_folder import read_trained


def load_trainable(
    spec: str,
    *,
    pool: str | None = None,
    dim: int | None = None,
    text: Path | None = None,
    hidden: int = 512,
    dropout: float = 0.0,
    size: int | None = None,
    scratch: bool = False,
    without: Sequence[str] = (),
) -> TrainableEncoder:
    """The encoder that ``spec`` names, for training.

    ``spec`` is ``mobilenetv2@FILE.npz`` (MXNet's ImageNet weights), ``openclip:``, ``timm:`` or
    ``torchvision:`` with what they take, an encoder in the box, or an encoder folder: one that was
    trained here, or a MobileNetV2 of which only ``image.onnx`` is there; or ``(A+B)?join=weights``,
    the mean of the weights of such (:mod:`~embedsearch.training.networks.soup`). ``pool`` replaces
    its pooling. ``dim`` puts a new linear head of so many dimensions behind the pooling; 0 takes
    the head away. ``text`` is a model2vec folder to start a text tower from, with ``hidden`` units.
    ``size`` is another input side. ``scratch`` forgets the weights of the image network, of which
    ``timm:MODEL`` and ``torchvision:MODEL`` then need none. ``without`` names stages to leave out
    (:mod:`~embedsearch.training.networks.shortening`).

    Raises :class:`~embedsearch.errors.EncoderError` and :class:`~embedsearch.errors.DataError`.
    """
    encoder = _load(spec, scratch)
    about = encoder.about
    if size is not None:
        about = replace(about, size=size)
    names = leave_out(encoder.image, without, max(about.size, PROBED))
    about = replace(about, without=tuple(dict.fromkeys([*about.without, *names])))
    encoder.is_changed |= bool(names or scratch)
    if pool is not None and pool != about.pool:
        if about.kind == "openclip":
            raise EncoderError(f"{spec}: open_clip models keep their own pooling.")
        encoder.image.pool = make_pool(pool)
        encoder.is_changed = True
        about = replace(about, pool=pool)
    if text is not None:
        dim = dim or about.dim or 256
    if (dim is not None and dim != about.dim) or (dim and text is not None):
        about = replace(about, dim=dim, dropout=dropout)
        encoder.image.head = new_head(encoder.image, about)
        encoder.has_new_head, encoder.is_changed = bool(dim), True
    _set_dropout(encoder.image.head, dropout)
    if text is not None:
        table = read_potion(text)
        rows = torch.from_numpy(table.rows)
        encoder.text = BagText(table.tokens, rows, hidden, cast(int, dim))
        about = replace(about, text="bag", hidden=hidden)
    encoder.about = replace(about, dropout=dropout)
    if scratch:
        forget(encoder.image.network)
        encoder.image.frozen_norm = False
    encoder.requires_grad_(True).eval()
    return encoder


def _load(spec: str, scratch: bool = False) -> TrainableEncoder:
    family, at, file = spec.partition("@")
    if family == MOBILENETV2 and at:
        about = mobilenetv2_architecture()
        network = load_mobilenetv2(Path(file).expanduser())
        return TrainableEncoder(about, image_tower(about, network, "forward"), None)
    prefix = spec.partition(":")[0]
    if prefix in {known.prefix for known in registry.FAMILIES} and ":" in spec:
        return _of_library(prefix, spec, scratch)
    tree = registry.taken_apart(spec)
    if isinstance(tree, Joined) and tree.way == MEAN_OF_WEIGHTS:
        specs = [part.spec for part in tree.parts if isinstance(part, Single)]
        if len(specs) < len(tree.parts):
            raise EncoderError(f"{spec!r}: weights are averaged of encoders by themselves.")
        return soup.mean_of_weights([_load(part) for part in specs], tree.weights, specs)
    folder = registry.WEIGHTS / spec if spec in registry.in_the_box() else Path(spec).expanduser()
    if not (folder / "encoder.json").is_file():
        raise EncoderError(
            f"There is nothing to train at {spec!r}. Name mobilenetv2@FILE.npz, an encoder in the "
            f"box ({', '.join(registry.in_the_box())}), a folder that holds an encoder.json, or "
            "openclip:, timm: or torchvision: and a model."
        )
    encoder = read_trained(folder)
    told = read_folder(folder)
    encoder.told_hubs = told if told.hub_mean is not None else None
    return encoder


def _of_library(prefix: str, spec: str, scratch: bool) -> TrainableEncoder:
    """A model that a library loads, as ``encoders/`` does; from ``scratch`` without weights, but
    for open_clip's, whose text tower needs its own."""
    module = import_module(f"embedsearch.encoders.{prefix}")
    options = getattr(module, "OPTIONS", ())
    asked = model_spec.parse(spec, options)
    if "layer" in asked.options:
        raise EncoderError(f"{spec}: a network is trained whole; leave ?layer= out.")
    pool = asked.options.get("pool", "avg")
    told = {"weights": False} if scratch and prefix != "openclip" else {}
    towers = module.load(spec, "cpu", **told).towers
    last = towers.images.release() if hasattr(towers.images, "release") else None
    if getattr(towers.model, "output_fmt", "NCHW") == "NHWC":
        raise EncoderError(
            f"{spec}: this network gives its maps as (N, height, width, channels), which cannot be "
            "trained here. It can be an encoder and a teacher; take another network to train."
        )
    prepared = towers.preprocessing
    about = Architecture(
        kind=prefix,
        model=towers.name,
        size=prepared.size,
        resize=prepared.resize,
        interpolation=_known(prepared.interpolation),
        mean=prepared.mean,
        std=prepared.std,
        pool="own" if prefix == "openclip" else pool,
        dim=0,
        text="openclip" if prefix == "openclip" else "none",
        licence=towers.licence,
        last=last or "",
    )
    model = towers.model
    if prefix != "openclip":
        run = "forward_features" if prefix == "timm" else "forward"
        return TrainableEncoder(about, image_tower(about, model, run), None)
    image = image_tower(about, model.visual, "forward")
    del model.visual
    return TrainableEncoder(about, image, OpenClipText(model, towers.name))


def _known(interpolation: str) -> Interpolation:
    known = ("bilinear", "bicubic", "lanczos")
    return cast(Interpolation, interpolation if interpolation in known else "bilinear")


def _set_dropout(head: nn.Module, dropout: float) -> None:
    if isinstance(head, FeatureHead):
        head.projection.dropout.p = dropout
