"""Making a plain-ReLU network fit for 8 bits without changing what it computes.

After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019): a ReLU passes a positive factor through, so a channel can be made smaller in one layer and
larger in the next. An activation tensor has one 8-bit scale for all its channels; where one channel
is a hundred times another, the smaller one is left with two or three levels. The factors used here
balance activations against weights as in Xiao et al., "SmoothQuant" (2022), eq. 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from embedsearch.training.networks.folding import FoldedMobileNetV2, convolution

BALANCE = 0.5
"""How far a factor evens out the activations (1) rather than the next weights (0)."""
_SMALLEST = 1e-3
"""Channels below this share of the largest are as good as dead; they are not blown up further."""
_BATCH = 8


@dataclass(frozen=True)
class _Seam:
    """One tensor between layers: those who write its channels, and those who read them."""

    writers: list[nn.Conv2d]
    readers: list[nn.Conv2d]
    watched: list[nn.Module]
    """Modules whose output is the tensor."""


def equalise(network: FoldedMobileNetV2, centred: Tensor) -> Tensor:
    """Rescale the channels of ``network`` in place, by the ranges they take on ``centred``.

    ``centred`` is float32 (N, 3, H, W), a few dozen calibration photos. Returns the factors,
    float32 (1280,), by which the channels of the last feature map must be multiplied to be what
    they were; everything before cancels out.
    """
    seams = list(_seams(network))
    peaks = _peaks(network, centred, [module for seam in seams for module in seam.watched])
    for seam in seams:
        peak = torch.stack([peaks[module] for module in seam.watched]).amax(0)
        factors = _factors(peak, seam.readers)
        for writer in seam.writers:
            _divide_outputs(writer, factors)
        for reader in seam.readers:
            _multiply_inputs(reader, factors)
    factors = _factors(peaks[network.network.last], [])
    _divide_outputs(network.last, factors)
    return factors


def correct_biases(
    network: FoldedMobileNetV2, centred: Tensor, rounded: Callable[[nn.Conv2d], Tensor]
) -> None:
    """Take out of the biases, in place, the mean shift that rounded weights will cause.

    ``rounded`` gives a convolution's weight as it will be after quantisation. The shift of an
    output channel is the sum of its weight errors times the mean of their inputs (section 4.2.1).
    """
    means = _input_means(network, centred)
    for layer, mean in means.items():
        error = (rounded(layer) - layer.weight.detach()).sum((2, 3))
        shift = error[:, 0] * mean if layer.groups > 1 else error @ mean
        cast(Tensor, layer.bias).data -= shift


def _seams(network: FoldedMobileNetV2) -> Iterator[_Seam]:
    """All tensors between convolutions, the one after the last convolution left out."""
    writers, watched = [network.stem], [cast(nn.Module, network.network.stem)]
    readers: list[nn.Conv2d] = []
    for block in network.blocks:
        expand, depthwise, project = (convolution(unit) for unit in block.layers)
        yield _Seam([expand], [depthwise], [block.layers[0]])
        yield _Seam([depthwise], [project], [block.layers[1]])
        readers.append(expand)
        if block.residual:  # adds to the same tensor, so the channels keep one factor throughout
            writers.append(project)
            watched.append(block)
        else:
            yield _Seam(writers, readers, watched)
            writers, readers, watched = [project], [], [block]
    yield _Seam(writers, [*readers, network.last], watched)


def _factors(peak: Tensor, readers: list[nn.Conv2d]) -> Tensor:
    """What each channel is divided by. Depthwise readers and the head have a scale a channel
    anyway, so before these the activations are evened out in full."""
    peak = peak.clamp_min(float(peak.max()) * _SMALLEST)
    dense = [reader for reader in readers if reader.groups == 1]
    if not dense:
        return peak / peak.max()
    weight = torch.stack([reader.weight.detach().abs().amax((0, 2, 3)) for reader in dense]).amax(0)
    weight = weight.clamp_min(float(weight.max()) * _SMALLEST)
    factors = peak**BALANCE / weight ** (1 - BALANCE)
    return factors / factors.max()


def _divide_outputs(layer: nn.Conv2d, factors: Tensor) -> None:
    layer.weight.data /= factors.view(-1, 1, 1, 1)
    cast(Tensor, layer.bias).data /= factors


def _multiply_inputs(layer: nn.Conv2d, factors: Tensor) -> None:
    shape = (-1, 1, 1, 1) if layer.groups > 1 else (1, -1, 1, 1)
    layer.weight.data *= factors.view(shape)


def _peaks(
    network: FoldedMobileNetV2, centred: Tensor, watched: list[nn.Module]
) -> dict[nn.Module, Tensor]:
    """Largest magnitude of each channel of the modules' outputs."""
    peaks: dict[nn.Module, Tensor] = {}

    def see(module: nn.Module, _: object, output: Tensor) -> None:
        peak = output.abs().amax((0, 2, 3))
        peaks[module] = torch.maximum(peaks[module], peak) if module in peaks else peak

    with _hooked([*watched, network.network.last], see):
        _run(network, centred)
    return peaks


def _input_means(network: FoldedMobileNetV2, centred: Tensor) -> dict[nn.Conv2d, Tensor]:
    """Mean of each input channel of the convolutions, over photos and places."""
    sums: dict[nn.Conv2d, Tensor] = {}

    def see(module: nn.Module, inputs: tuple[Tensor], _: object) -> None:
        layer = cast(nn.Conv2d, module)
        total = inputs[0].mean((2, 3)).sum(0)
        sums[layer] = sums[layer] + total if layer in sums else total

    with _hooked(network.convolutions(), see):
        _run(network, centred)
    return {layer: total / len(centred) for layer, total in sums.items()}


@contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(network: FoldedMobileNetV2, centred: Tensor) -> None:
    with torch.no_grad():
        for batch in centred.split(_BATCH):
            network(batch)
