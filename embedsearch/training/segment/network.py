"""The network of a segmenter: an encoder, and a decoder of segmentation-models-pytorch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders
from torch import Tensor, nn

from embedsearch.errors import DataError, EmbedSearchError
from embedsearch.training.networks.folding import FoldedMobileNetV2
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.mobilenetv2 import MEAN, STD, MobileNetV2
from embedsearch.training.segment.light import LIGHT, LightSegmenter
from embedsearch.training.segment.litert_start import PREFIX, read_mobilenetv2
from embedsearch.training.segment.pyramid import OwnPyramid, Pyramid, TensorFlowPyramid
from embedsearch.training.segment.reduced import REDUCED, ReducedSegmenter

LIBRARY = "smp:"
UNTRAINED = "none"
Scaling = tuple[Sequence[float], Sequence[float]]
"""Mean and deviation of RGB in [0, 1]."""


class SegmentationNetwork(nn.Module):
    """uint8 pictures (N, H, W, 3), sides multiples of 32, to logits (N, 1 + labels, h, w)."""

    grey: Tensor
    spread: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], *, trained: bool
    ) -> None:
        """``trained``: whether the encoder knows something; its BatchNorm then keeps its
        statistics, as is best for small batches."""
        super().__init__()
        self.network, self.keeps_statistics = network, trained
        self.register_buffer("grey", torch.tensor(list(mean), dtype=torch.float32))
        self.register_buffer("spread", torch.tensor(list(std), dtype=torch.float32))

    @property
    def encoder(self) -> nn.Module:
        return cast(nn.Module, self.network.encoder)

    @property
    def pyramid(self) -> Pyramid:
        """A MobileNetV2. Raises :class:`~embedsearch.errors.DataError` where it is another."""
        if not isinstance(self.encoder, Pyramid):
            raise DataError("freeze names stages of a MobileNetV2; another encoder has none")
        return self.encoder

    @property
    def first_map(self) -> int:
        """The first of the encoder's maps that the decoder uses; 0 are the pixels."""
        return int(getattr(self.network, "first_map", 1))

    def normalised(self, pixels: Tensor) -> Tensor:
        """From uint8 (N, H, W, 3) to what the encoder takes, float32 (N, 3, H, W)."""
        scaled = (pixels.float() / 255 - self.grey) / self.spread
        return scaled.permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.decoded(self.encoder(self.normalised(pixels)))

    def decoded(self, maps: list[Tensor]) -> Tensor:
        """From the encoder's maps to logits."""
        network: Any = self.network
        return cast(Tensor, network.segmentation_head(network.decoder(maps)))

    def train(self, mode: bool = True) -> SegmentationNetwork:
        super().train(mode)
        if self.keeps_statistics:
            self.encoder.eval()
        return self


def build(
    start: str, decoder: str, classes: int, options: Mapping[str, Any]
) -> SegmentationNetwork:
    """A network whose encoder has the weights of ``start`` and whose decoder is new, but for that
    of a LiteRT file that has the same.

    Raises :class:`~embedsearch.errors.EmbedSearchError` for what is unknown or cannot be had.
    """
    if start.startswith(LIBRARY):
        name, _, weights = start.removeprefix(LIBRARY).partition("@")
        wanted = None if weights == UNTRAINED else weights or "imagenet"
        made = _model(decoder, name, wanted, classes, options)
        return SegmentationNetwork(made, MEAN, STD, trained=wanted is not None)
    if start.startswith(PREFIX):
        read = read_mobilenetv2(Path(start.removeprefix(PREFIX)).expanduser())
        own = (read.mean, read.std)
        made = _started(TensorFlowPyramid, read.network, own, decoder, classes, options)
        if isinstance(made.network, ReducedSegmenter):
            made.network.take(read.behind)
        return made
    network, scaling = _mobilenetv2(start)
    return _started(OwnPyramid, network, scaling, decoder, classes, options)


def freeze(network: SegmentationNetwork, first: str | None) -> None:
    """Freeze the encoder's stages before ``first``. Raises
    :class:`~embedsearch.errors.DataError`."""
    if first is None:
        return
    encoder = network.pyramid
    names = [name for name, _ in encoder.stages]
    if first not in names:
        raise DataError(f"freeze: there is no stage {first!r}; there are {', '.join(names)}")
    encoder.first_trained = names.index(first)
    for _, stage in encoder.stages[: encoder.first_trained]:
        stage.requires_grad_(False)


def _started(
    encoder: type[Pyramid],
    network: nn.Module,
    scaling: Scaling,
    decoder: str,
    classes: int,
    options: Mapping[str, Any],
) -> SegmentationNetwork:
    made = _model(decoder, encoder.name, None, classes, options)
    made.encoder.take(network)
    return SegmentationNetwork(made, *scaling, trained=True)


def _mobilenetv2(start: str) -> tuple[MobileNetV2, Scaling]:
    encoder = load_trainable(start)
    network = encoder.image.network
    if isinstance(network, FoldedMobileNetV2):
        network = network.network
    if not isinstance(network, MobileNetV2):
        raise DataError(
            f"{start}: is no MobileNetV2 in our layout; name mini, mobilenetv2@FILE.npz, a folder "
            f"that finetune made of them, {PREFIX}FILE, or an encoder of the library: "
            f"{LIBRARY}resnet18"
        )
    return network, (encoder.mean, encoder.std)


def _model(
    decoder: str, encoder: str, weights: str | None, classes: int, options: Mapping[str, Any]
) -> Any:
    ours = {LIGHT: LightSegmenter, REDUCED: ReducedSegmenter}
    known: dict[str, Any] = {**ours, **smp.MODEL_ARCHITECTURES_MAPPING}
    if decoder not in known:
        raise DataError(f"there is no decoder {decoder!r}; there are {', '.join(known)}")
    taken = inspect.signature(known[decoder].__init__).parameters
    for name in options:
        if name not in taken or name in ("encoder_name", "encoder_weights", "classes"):
            names = ", ".join(each for each in taken if each.startswith(("decoder", "encoder_")))
            raise DataError(f"{decoder} has no option {name!r}; it has {names}, upsampling")
    if encoder not in encoders and not encoder.startswith("tu-"):
        raise DataError(f"{LIBRARY}{encoder}: segmentation-models-pytorch has no such encoder")
    try:
        return known[decoder](
            encoder_name=encoder,
            encoder_weights=weights,
            classes=classes,
            **{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()},
        )
    except KeyError as error:
        raise DataError(f"{LIBRARY}{encoder}@{weights}: {error.args[0]}") from error
    except (OSError, RuntimeError) as error:
        if weights is None:
            raise
        raise EmbedSearchError(
            f"{LIBRARY}{encoder}: its weights cannot be downloaded "
            f"({str(error).splitlines()[0]}). Offline name one that is here, --encoder mini, "
            f"or one that begins at random: --encoder {LIBRARY}{encoder}@{UNTRAINED}"
        ) from error
