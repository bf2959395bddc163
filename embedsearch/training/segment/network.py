"""The network of a segmenter: an encoder, and a decoder of segmentation-models-pytorch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

from embedsearch.errors import DataError, EmbedSearchError
from embedsearch.training.folding import FoldedMobileNetV2
from embedsearch.training.mobilenetv2 import MEAN, STD, MobileNetV2
from embedsearch.training.segment.light import LIGHT, LightSegmenter
from embedsearch.training.stages import mobilenetv2_stages
from embedsearch.training.towers import Stage
from embedsearch.training.trainable import load_trainable

LIBRARY = "smp:"
UNTRAINED = "none"
_OURS = "embedsearch_mobilenetv2"
_ENDS = ("blocks.0", "blocks.2", "blocks.9", "blocks.12", "blocks.16")
"""The last stages before the maps become half as large, and of the network."""
_STRIDE = 32
"""Pixels between neighbours of the last maps."""
_CHANNELS = [3, 16, 24, 64, 96, 320]


class MobileNetV2Pyramid(nn.Module, EncoderMixin):
    """Normalised pixels to the maps of every resolution, as the library's encoders give them."""

    def __init__(self, out_channels: list[int], depth: int = 5, output_stride: int = 32) -> None:
        super().__init__()
        self._depth, self._in_channels, self._out_channels = depth, 3, out_channels
        self._output_stride = output_stride
        self.first_trained = 0
        """The stages before this one are frozen."""
        self.take(MobileNetV2())

    def take(self, network: MobileNetV2) -> None:
        """Have this network, with the strides that the decoder asked for."""
        network.last = cast(Any, nn.Identity())
        self.network = network
        if self._output_stride != _STRIDE:
            self.make_dilated(self._output_stride)

    def get_stages(self) -> dict[int, Sequence[nn.Module]]:
        blocks = list(self.network.blocks)
        return {16: blocks[10:13], _STRIDE: blocks[13:]}

    @property
    def stages(self) -> list[Stage]:
        return mobilenetv2_stages(self.network)[:-1]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        with torch.set_grad_enabled(False):
            frozen = self.frozen(pixels)
        return self.trained(frozen)

    def frozen(self, pixels: Tensor) -> list[Tensor]:
        """The maps before the first stage that is trained; the last are what enters it."""
        return self._run([pixels], pixels, 0, self.first_trained)

    def trained(self, maps: list[Tensor]) -> list[Tensor]:
        """From what :meth:`frozen` gives to the maps of every resolution."""
        known, entering = maps[:-1], maps[-1]
        made = self._run(known, entering, self.first_trained, len(self.stages))
        return made[:-1][: self._depth + 1]

    def packed(self, maps: list[Tensor], first: int) -> list[Tensor]:
        """Of what :meth:`frozen` gives, what a decoder that uses the maps from ``first`` on needs,
        each once."""
        return maps[first:-1] if self._enters_as_map else maps[first:]

    def unpacked(self, kept: list[Tensor], first: int) -> list[Tensor]:
        """What was packed, in its place."""
        unused = [kept[0]] * first
        return [*unused, *kept, *kept[-1:]] if self._enters_as_map else [*unused, *kept]

    @property
    def _enters_as_map(self) -> bool:
        return self.first_trained > 0 and self.stages[self.first_trained - 1][0] in _ENDS

    def _run(self, known: list[Tensor], values: Tensor, first: int, last: int) -> list[Tensor]:
        maps = list(known)
        for name, stage in self.stages[first:last]:
            values = stage(values)
            if name in _ENDS:
                maps.append(values)
        return [*maps, values]


encoders[_OURS] = {
    "encoder": MobileNetV2Pyramid,
    "pretrained_settings": {},
    "params": {"out_channels": _CHANNELS},
}


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
    def pyramid(self) -> MobileNetV2Pyramid:
        """Our own encoder. Raises :class:`~embedsearch.errors.DataError` where it is another."""
        if not isinstance(self.encoder, MobileNetV2Pyramid):
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
    """A network whose encoder has the weights of ``start`` and whose decoder is new.

    Raises :class:`~embedsearch.errors.EmbedSearchError` for what is unknown or cannot be had.
    """
    if start.startswith(LIBRARY):
        name, _, weights = start.removeprefix(LIBRARY).partition("@")
        wanted = None if weights == UNTRAINED else weights or "imagenet"
        made = _model(decoder, name, wanted, classes, options)
        return SegmentationNetwork(made, MEAN, STD, trained=wanted is not None)
    network, mean, std = _mobilenetv2(start)
    made = _model(decoder, _OURS, None, classes, options)
    made.encoder.take(network)
    return SegmentationNetwork(made, mean, std, trained=True)


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


def _mobilenetv2(start: str) -> tuple[MobileNetV2, Sequence[float], Sequence[float]]:
    encoder = load_trainable(start)
    network = encoder.image.network
    if isinstance(network, FoldedMobileNetV2):
        network = network.network
    if not isinstance(network, MobileNetV2):
        raise DataError(
            f"{start}: is no MobileNetV2 in our layout; name mini, mobilenetv2@FILE.npz, a folder "
            f"that finetune made of them, or an encoder of the library: {LIBRARY}resnet18"
        )
    return network, encoder.mean, encoder.std


def _model(
    decoder: str, encoder: str, weights: str | None, classes: int, options: Mapping[str, Any]
) -> Any:
    known: dict[str, Any] = {LIGHT: LightSegmenter, **smp.MODEL_ARCHITECTURES_MAPPING}
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
