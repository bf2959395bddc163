"""An encoder as PyTorch trains it, from any spec."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from embedsearch.encoders import model_spec, registry
from embedsearch.encoders.compound_spec import MEAN_OF_WEIGHTS, Joined, Single
from embedsearch.encoders.preprocess import Interpolation
from embedsearch.errors import DataError, EncoderError
from embedsearch.training import soup
from embedsearch.training.architecture import (
    FOLDED,
    MOBILENETV2,
    Architecture,
    mobilenetv2_architecture,
)
from embedsearch.training.folding import FoldedMobileNetV2
from embedsearch.training.mobilenetv2 import MobileNetV2, load_mobilenetv2
from embedsearch.training.pooling import make_pool
from embedsearch.training.shortening import leave_out
from embedsearch.training.stages import mobilenetv2_stages, split
from embedsearch.training.token_table import read_potion
from embedsearch.training.towers import BagText, FeatureHead, ImageTower, OpenClipText

_PROBED = 64
"""Side of the picture of noise by which the number of channels is found out."""


class TrainableEncoder(nn.Module):
    """Both towers, how pictures are prepared for them, and how they are built anew."""

    grey: Tensor
    spread: Tensor

    def __init__(self, about: Architecture, image: ImageTower, text: nn.Module | None) -> None:
        super().__init__()
        self.about, self.image, self.text = about, image, text
        self.has_new_head = False
        """Whether the head is drawn at random, and has yet to see features."""
        self.register_buffer("grey", torch.tensor(about.mean), persistent=False)
        self.register_buffer("spread", torch.tensor(about.std), persistent=False)

    @property
    def size(self) -> int:
        return self.about.size

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.about.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.about.std

    @property
    def dim(self) -> int:
        """Of the embeddings."""
        return channels(self.image, self.size)

    def normalised(self, pixels: Tensor) -> Tensor:
        """From uint8 (N, H, W, 3) to what the image tower takes, float32 (N, 3, H, W)."""
        grey, spread = self.grey.to(pixels.device), self.spread.to(pixels.device)
        scaled = (pixels.float() / 255 - grey) / spread
        # The strides stay those of NHWC, which is PyTorch's channels_last.
        return scaled.permute(0, 3, 1, 2)

    def entering(self, images: Tensor) -> Tensor:
        """What enters the first stage that is run: pixels normalised, activations as they are."""
        return self.normalised(images) if images.dtype == torch.uint8 else images


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
    the mean of the weights of such (:mod:`~embedsearch.training.soup`). ``pool`` replaces its
    pooling. ``dim`` puts a new linear head of so many dimensions behind the pooling; 0 takes the
    head away. ``text`` is a model2vec folder to start a text tower from, with ``hidden`` units.
    ``size`` is another input side. ``scratch`` forgets the weights of the image network, of which
    ``timm:MODEL`` and ``torchvision:MODEL`` then need none. ``without`` names stages to leave out
    (:mod:`~embedsearch.training.shortening`).

    Raises :class:`~embedsearch.errors.EncoderError` and :class:`~embedsearch.errors.DataError`.
    """
    encoder = _load(spec, scratch)
    about = encoder.about
    if size is not None:
        about = replace(about, size=size)
    names = leave_out(encoder.image, without, max(about.size, _PROBED))
    about = replace(about, without=tuple(dict.fromkeys([*about.without, *names])))
    if pool is not None and pool != about.pool:
        if about.kind == "openclip":
            raise EncoderError(f"{spec}: open_clip models keep their own pooling.")
        encoder.image.pool = make_pool(pool)
        about = replace(about, pool=pool)
    if text is not None:
        dim = dim or about.dim or 256
    if (dim is not None and dim != about.dim) or (dim and text is not None):
        about = replace(about, dim=dim, dropout=dropout)
        encoder.image.head = new_head(encoder.image, about)
        encoder.has_new_head = bool(dim)
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


def build(about: Architecture, tokens: Sequence[str] = (), width: int = 0) -> TrainableEncoder:
    """An encoder of this architecture with weights of no meaning. ``tokens`` and ``width`` are of
    the table of a text tower of kind ``bag``."""
    network, run = _bare(about)
    clip = network if about.kind == "openclip" else None
    if clip is not None:
        network, run = cast(nn.Module, clip.visual), "forward"
    image = _tower(about, network, run)
    leave_out(image, about.without, max(about.size, _PROBED))
    image.head = new_head(image, about)
    text: nn.Module | None = None
    if about.text == "bag":
        text = BagText(tokens, torch.zeros(len(tokens), width), about.hidden, about.dim)
    elif clip is not None and about.text == "openclip":
        del clip.visual
        text = OpenClipText(clip, about.model)
    return TrainableEncoder(about, image, text)


def new_head(image: ImageTower, about: Architecture) -> nn.Module:
    """What stands behind the pooling: a linear head, or nothing."""
    if not about.dim or about.kind == "openclip":
        return nn.Identity()
    image.head = nn.Identity()
    return FeatureHead(channels(image, max(about.size, _PROBED)), about.dim, about.dropout)


def channels(image: ImageTower, size: int) -> int:
    """Columns of what the tower gives."""
    head = image.head
    if isinstance(head, FeatureHead):
        return cast(int, head.projection.linear.out_features)
    training = image.training
    with torch.no_grad():
        device = next(image.parameters()).device
        found: int = image.eval()(torch.zeros((1, 3, size, size), device=device)).shape[1]
    image.train(training)
    return found


def forget(network: nn.Module) -> None:
    """Draw all weights anew, as their layers do when they are made."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()


def used_at(encoder: TrainableEncoder, size: int | None) -> TrainableEncoder:
    """The same encoder, to be used on squares of ``size`` where one is given."""
    if size is not None:
        encoder.about = replace(encoder.about, size=size)
    return encoder


def copied(encoder: TrainableEncoder) -> TrainableEncoder:
    """A copy that shares no weight."""
    return copy.deepcopy(encoder)


def _load(spec: str, scratch: bool = False) -> TrainableEncoder:
    family, at, file = spec.partition("@")
    if family == MOBILENETV2 and at:
        about = mobilenetv2_architecture()
        network = load_mobilenetv2(Path(file).expanduser())
        return TrainableEncoder(about, _tower(about, network, "forward"), None)
    prefix = spec.partition(":")[0]
    if prefix in {known.prefix for known in registry.FAMILIES} and ":" in spec:
        return _of_library(prefix, spec, scratch)
    from embedsearch.training.trained_folder import read_trained

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
    return read_trained(folder)


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
        return TrainableEncoder(about, _tower(about, model, run), None)
    image = _tower(about, model.visual, "forward")
    del model.visual
    return TrainableEncoder(about, image, OpenClipText(model, towers.name))


def _bare(about: Architecture) -> tuple[nn.Module, str]:
    """A network without trained weights, and the method that gives its maps."""
    if about.kind == MOBILENETV2:
        return MobileNetV2(about.expanded, about.stem), "forward"
    if about.kind == FOLDED:
        return FoldedMobileNetV2(MobileNetV2(about.expanded, about.stem)), "forward"
    if about.kind == "timm":
        from embedsearch.encoders import timm

        return timm.bare(about.model), "forward_features"
    if about.kind == "torchvision":
        from embedsearch.encoders import torchvision

        return torchvision.bare(about.model), "forward"
    if about.kind == "openclip":
        import open_clip

        return open_clip.create_model(about.model), "forward"
    raise DataError(f"there is no architecture {about.kind!r}")


def _tower(about: Architecture, network: nn.Module, run: str) -> ImageTower:
    if about.kind in (MOBILENETV2, FOLDED):
        inner = network.network if isinstance(network, FoldedMobileNetV2) else network
        stages, sequential = mobilenetv2_stages(cast(MobileNetV2, inner)), True
    else:
        own = about.kind == "openclip"
        size = max(about.size, _PROBED) if not own else about.size
        stages, sequential = split(network, run, size, last=about.last or None, whole=own)
        if about.last and not sequential:
            raise EncoderError(
                f"torchvision:{about.model}: its parts do not follow one another, so it cannot be "
                "trained here; timm has most networks too."
            )
    pool = nn.Identity() if about.pool == "own" else make_pool(about.pool)
    return ImageTower(network, stages, pool, nn.Identity(), run=run, sequential=sequential)


def _known(interpolation: str) -> Interpolation:
    known = ("bilinear", "bicubic", "lanczos")
    return cast(Interpolation, interpolation if interpolation in known else "bilinear")


def _set_dropout(head: nn.Module, dropout: float) -> None:
    if isinstance(head, FeatureHead):
        head.projection.dropout.p = dropout


def standardise(encoder: TrainableEncoder, features: np.ndarray[Any, Any] | Tensor) -> None:
    """Let a new head take over mean and deviation of pooled features, float32 (N, channels)."""
    if isinstance(encoder.image.head, FeatureHead):
        encoder.image.head.standardise(torch.as_tensor(features))
