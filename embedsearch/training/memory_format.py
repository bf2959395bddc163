"""Weights in the order in which CPUs convolve fastest, channels last, wherever that is safe."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
_BLOCK = 16
"""Channels that oneDNN takes at once, at most."""


def channels_last(network: Network) -> Network:
    """Put the weights of ``network`` in that order. Returns it.

    The gradient of a strided 1x1 convolution of fewer channels than oneDNN takes at once is written
    beyond its memory in that order (uxlfoundation/oneDNN, issue 6035, as in PyTorch 2.15), and what
    lies there is destroyed: the first convolutions of RepVGG, MobileOne and FastViT. Such ones keep
    the usual order, and what they are given is brought into it.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_unsafe(module):
            weight = module.weight.data
            module.weight.data = weight.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_in_usual_order)
    return network


def _is_unsafe(layer: nn.Conv2d) -> bool:
    strided = max(layer.kernel_size) == 1 and max(layer.stride) > 1
    return bool(strided and layer.in_channels // layer.groups < _BLOCK)


def _in_usual_order(module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return (given[0].contiguous(), *given[1:])
