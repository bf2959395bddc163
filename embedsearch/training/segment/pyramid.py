"""MobileNetV2 as an encoder of segmentation-models-pytorch: maps of five resolutions, frozen up to
any stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn
from torchvision.models import MobileNetV2 as TorchvisionMobileNetV2

from embedsearch.training.networks.mobilenetv2 import ConvNorm, MobileNetV2
from embedsearch.training.networks.stages import mobilenetv2_stages
from embedsearch.training.networks.towers import Stage

STRIDE = 32
"""Pixels between neighbours of the last maps."""


class Pyramid(nn.Module, EncoderMixin):
    """Normalised pixels to the maps of every resolution, as the library's encoders give them."""

    ends: tuple[str, ...]
    """The last stages before the maps become half as large, and of the network."""
    name: str
    """Among the library's encoders."""
    channels: tuple[int, ...]
    """Of the pixels and of the maps."""

    def __init__(self, out_channels: list[int], depth: int = 5, output_stride: int = 32) -> None:
        super().__init__()
        self._depth, self._in_channels, self._out_channels = depth, 3, out_channels
        self._output_stride = output_stride
        self.first_trained = 0
        """The stages before this one are frozen."""
        self.take(self.untrained())

    def untrained(self) -> nn.Module:
        raise NotImplementedError

    def stages_of(self, network: nn.Module) -> list[Stage]:
        """The stages up to the last maps, ``stem`` and ``blocks.0`` to ``blocks.16``."""
        raise NotImplementedError

    def take(self, network: nn.Module) -> None:
        """Have this network, with the strides that the decoder asked for."""
        self.network = network
        if self._output_stride != STRIDE:
            self.make_dilated(self._output_stride)

    def get_stages(self) -> dict[int, Sequence[nn.Module]]:
        """The stages whose maps are a sixteenth and a thirty-second of the picture."""
        names = [name for name, _ in self.stages]
        eighth, sixteenth = (names.index(self.ends[place]) + 1 for place in (2, 3))
        modules = [module for _, module in self.stages]
        return {16: modules[eighth:sixteenth], STRIDE: modules[sixteenth:]}

    def make_dilated(self, output_stride: int) -> None:
        """Let no maps be smaller than this part of the picture: where a stride falls away, what
        comes behind it reaches as many times as far (Chen et al., "Rethinking Atrous Convolution",
        2017, section 3.1)."""
        reach = 1
        for stride, stages in sorted(self.get_stages().items()):
            if stride <= output_stride:
                continue
            for module in (part for stage in stages for part in stage.modules()):
                if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
                    module.dilation = (reach, reach)
                    module.padding = (reach, reach)
                    reach *= module.stride[0]
                    module.stride = (1, 1)

    @property
    def stages(self) -> list[Stage]:
        return self.stages_of(self.network)

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
        return maps[first:-1] if self._enters_as_map(first) else maps[min(first, self._known) :]

    def unpacked(self, kept: list[Tensor], first: int) -> list[Tensor]:
        """What was packed, in its place."""
        unused = [kept[0]] * min(first, self._known)
        again = kept[-1:] if self._enters_as_map(first) else []
        return [*unused, *kept, *again]

    @property
    def _known(self) -> int:
        """How many maps the frozen stages give, the pixels among them."""
        return 1 + sum(name in self.ends for name, _ in self.stages[: self.first_trained])

    def _enters_as_map(self, first: int) -> bool:
        """Whether what enters the first stage that is trained is one of the maps from ``first``."""
        if self.first_trained == 0 or first >= self._known:
            return False
        return self.stages[self.first_trained - 1][0] in self.ends

    def _run(self, known: list[Tensor], values: Tensor, first: int, last: int) -> list[Tensor]:
        maps = list(known)
        for name, stage in self.stages[first:last]:
            values = stage(values)
            if name in self.ends:
                maps.append(values)
        return [*maps, values]


class OwnPyramid(Pyramid):
    """``mini``'s network, in our layout."""

    name = "embedsearch_mobilenetv2"
    ends = ("blocks.0", "blocks.2", "blocks.9", "blocks.12", "blocks.16")
    channels = (3, 16, 24, 64, 96, 320)

    def untrained(self) -> MobileNetV2:
        return MobileNetV2()

    def take(self, network: nn.Module) -> None:
        """Have this network, without its last convolution."""
        cast(MobileNetV2, network).last = cast(ConvNorm, nn.Identity())
        super().take(network)

    def stages_of(self, network: nn.Module) -> list[Stage]:
        return mobilenetv2_stages(cast(MobileNetV2, network))[:-1]


class TensorFlowPyramid(Pyramid):
    """The layout of the paper, of TensorFlow and torchvision."""

    name = "embedsearch_tensorflow_mobilenetv2"
    ends = ("blocks.0", "blocks.2", "blocks.5", "blocks.12", "blocks.16")
    channels = (3, 16, 24, 32, 96, 320)

    def untrained(self) -> nn.Sequential:
        return tensorflow_mobilenetv2()

    def stages_of(self, network: nn.Module) -> list[Stage]:
        stem, *blocks = cast(nn.Sequential, network)
        return [("stem", stem), *((f"blocks.{n}", block) for n, block in enumerate(blocks))]


def tensorflow_mobilenetv2() -> nn.Sequential:
    """The stem and the 17 blocks, of random weights."""
    *stages, _ = TorchvisionMobileNetV2().features
    return nn.Sequential(*stages)


for _kind in (OwnPyramid, TensorFlowPyramid):
    encoders[_kind.name] = {
        "encoder": _kind,
        "pretrained_settings": {},
        "params": {"out_channels": list(_kind.channels)},
    }
