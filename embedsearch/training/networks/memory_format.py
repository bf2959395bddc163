"""Convolutions as CPUs train them fastest: channels last in memory, wherever that is safe, and in
the numbers in which their gradient is quick."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
_BLOCK = 16
"""Channels that oneDNN takes at once, at most."""


class Float32Depthwise(nn.Conv2d):
    """A convolution of each channel by itself, in float32 where a CPU computes with bf16.

    Where it is strided or larger than 3x3, oneDNN's gradient in bf16 took 3 to 24 times as long as
    in float32, layer by layer. ``benchmarks/training_steps.py`` has what that is of a whole step.
    """

    def forward(self, values: Tensor) -> Tensor:
        if values.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(values)
        with torch.autocast("cpu", enabled=False):
            given = super().forward(values.float())
        return given.to(torch.get_autocast_dtype("cpu"))


def channels_last(network: Network) -> Network:
    """Put the weights of ``network`` in that order. Returns it.

    The gradient of a strided 1x1 convolution of fewer channels than oneDNN takes at once is written
    beyond its memory in that order (uxlfoundation/oneDNN, issue 6035, as in PyTorch 2.15), and what
    lies there is destroyed: the first convolutions of RepVGG, MobileOne and FastViT. Such ones keep
    the usual order, and what they are given is brought into it. Convolutions of each channel by
    itself become :class:`Float32Depthwise` where that is quicker.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_unsafe(module):
            weight = module.weight.data
            module.weight.data = weight.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_in_usual_order)
        if type(module) is nn.Conv2d and _is_slow_in_bf16(module):
            module.__class__ = Float32Depthwise
    return network


def _is_unsafe(layer: nn.Conv2d) -> bool:
    strided = max(layer.kernel_size) == 1 and max(layer.stride) > 1
    return bool(strided and layer.in_channels // layer.groups < _BLOCK)


def _is_slow_in_bf16(layer: nn.Conv2d) -> bool:
    depthwise = 1 < layer.groups == layer.in_channels
    return bool(depthwise and (max(layer.stride) > 1 or max(layer.kernel_size) > 3))


def _in_usual_order(module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return (given[0].contiguous(), *given[1:])
