"""YOLOX-nano in PyTorch, with BatchNorm folded into its convolutions.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021": a CSPDarknet and a path aggregation network, 0.33
deep and 0.25 wide, with depthwise convolutions, and a decoupled head without anchors on strides 8,
16 and 32. Modules stand in the order in which they run, which is how weights of an ONNX export
find their places.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from embedsearch.errors import DataError
from embedsearch.training.detect.narrow import constants

STRIDES = (8, 16, 32)
WIDTH = 16
"""Channels of the first layer."""
HEAD = 64
FULL = 255.0
"""The largest pixel."""
_PATCHES = ((0, 0), (1, 0), (0, 1), (1, 1))
"""Row and column within 2 x 2 pixels, in the order in which the original stacks them."""


class Unit(nn.Sequential):
    """A convolution and SiLU."""

    def __init__(self, given: int, made: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(given, made, side, stride, (side - 1) // 2, groups=groups), nn.SiLU()
        )


class Separable(nn.Sequential):
    """A depthwise and a pointwise unit."""

    def __init__(self, given: int, made: int, stride: int = 1) -> None:
        super().__init__(Unit(given, given, 3, stride, groups=given), Unit(given, made, 1))


class Bottleneck(nn.Module):
    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.narrow, self.wide = Unit(width, width, 1), Separable(width, width)
        self.shortcut = shortcut

    def forward(self, given: Tensor) -> Tensor:
        made: Tensor = self.wide(self.narrow(given))
        return made + given if self.shortcut else made


class CrossStage(nn.Module):
    """Half of the channels go through the bottlenecks, half past them (CSPNet, 2019)."""

    def __init__(self, given: int, made: int, depth: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        self.through, self.past = Unit(given, made // 2, 1), Unit(given, made // 2, 1)
        self.blocks = nn.Sequential(*(Bottleneck(made // 2, shortcut) for _ in range(depth)))
        self.joined = Unit(made, made, 1)

    def forward(self, given: Tensor) -> Tensor:
        through, past = self.through(given), self.past(given)
        made: Tensor = self.joined(torch.cat([self.blocks(through), past], 1))
        return made


class Pyramid(nn.Module):
    """Spatial pyramid pooling: the strongest within 5, 9 and 13 cells, beside what is there.

    Pooling by 5 twice is pooling by 9, three times by 13.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = Unit(width, width // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.joined = Unit(width * 2, width, 1)

    def forward(self, given: Tensor) -> Tensor:
        maps = [self.narrow(given)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        made: Tensor = self.joined(torch.cat(maps, 1))
        return made


class Level(nn.Module):
    """The head on one stride."""

    def __init__(self, given: int, classes: int) -> None:
        super().__init__()
        self.stem = Unit(given, HEAD, 1)
        self.class_way = nn.Sequential(Separable(HEAD, HEAD), Separable(HEAD, HEAD))
        self.classes = nn.Conv2d(HEAD, classes, 1)
        self.box_way = nn.Sequential(Separable(HEAD, HEAD), Separable(HEAD, HEAD))
        self.box, self.anything = nn.Conv2d(HEAD, 4, 1), nn.Conv2d(HEAD, 1, 1)

    def forward(self, given: Tensor) -> Tensor:
        stem = self.stem(given)
        classes = self.classes(self.class_way(stem))
        placed = self.box_way(stem)
        return torch.cat([self.box(placed), self.anything(placed), classes], 1)


class Yolox(nn.Module):
    """RGB (N, 3, H, W) in 0 to 255, H and W multiples of 32, to rows (N, cells, 5 + classes): x, y,
    log w, log h on the grids, and logits of "is anything" and of the classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        w = WIDTH
        self.classes = classes
        # Six pixels wide, two at a step: the original's stack of 2 x 2 pixels and its 3 x 3.
        self.first = nn.Sequential(nn.Conv2d(3, w, 6, 2, 2), nn.SiLU())
        self.dark2 = nn.Sequential(Separable(w, 2 * w, 2), CrossStage(2 * w, 2 * w, 1, True))
        self.dark3 = nn.Sequential(Separable(2 * w, 4 * w, 2), CrossStage(4 * w, 4 * w, 3, True))
        self.dark4 = nn.Sequential(Separable(4 * w, 8 * w, 2), CrossStage(8 * w, 8 * w, 3, True))
        self.dark5 = nn.Sequential(
            Separable(8 * w, 16 * w, 2), Pyramid(16 * w), CrossStage(16 * w, 16 * w)
        )
        self.lateral, self.down_16 = Unit(16 * w, 8 * w, 1), CrossStage(16 * w, 8 * w)
        self.reduce, self.down_8 = Unit(8 * w, 4 * w, 1), CrossStage(8 * w, 4 * w)
        self.to_16, self.up_16 = Separable(4 * w, 4 * w, 2), CrossStage(8 * w, 8 * w)
        self.to_32, self.up_32 = Separable(8 * w, 8 * w, 2), CrossStage(16 * w, 16 * w)
        self.levels = nn.ModuleList(Level(width * w, classes) for width in (4, 8, 16))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.rows(pixels / FULL)

    def rows(self, shares: Tensor) -> Tensor:
        """The same of pixels in 0 to 1: steps of a size fit all layers then."""
        maps = self.maps(shares)
        given = [level(found) for level, found in zip(self.levels, maps, strict=True)]
        return torch.cat([each.flatten(2) for each in given], 2).transpose(1, 2)

    def maps(self, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Feature maps at strides 8, 16 and 32."""
        fine = self.dark3(self.dark2(self.first(shares)))
        middle = self.dark4(fine)
        lateral = self.lateral(self.dark5(middle))
        down = self.reduce(self.down_16(torch.cat([_twice(lateral), middle], 1)))
        at_8 = self.down_8(torch.cat([_twice(down), fine], 1))
        at_16 = self.up_16(torch.cat([self.to_16(at_8), down], 1))
        at_32 = self.up_32(torch.cat([self.to_32(at_16), lateral], 1))
        return at_8, at_16, at_32


class Exported(nn.Module):
    """What is exported: uint8 (1, H, W, 3) RGB to (1, cells, 5 + classes), scores in [0, 1]."""

    def __init__(self, network: Yolox) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        with torch.no_grad():
            self.network.first[0].weight.div_(FULL)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = self.network.rows(pixels.permute(0, 3, 1, 2).float())
        return torch.cat([rows[..., :4], rows[..., 4:].sigmoid()], 2)


def _twice(given: Tensor) -> Tensor:
    return interpolate(given, scale_factor=2.0, mode="nearest")


def export(network: Yolox, path: Path, size: int) -> None:
    """Write the network as ONNX: uint8 (1, size, size, 3)."""
    with warnings.catch_warnings():
        # PyTorch's other exporter needs the package onnxscript, and wins nothing here.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            Exported(network).eval(),
            (torch.zeros(1, size, size, 3, dtype=torch.uint8),),
            path,
            input_names=["pixels"],
            output_names=["rows"],
            opset_version=17,
            dynamo=False,
        )


def from_onnx(path: Path) -> Yolox:
    """The network with the weights of an export of Megvii's YOLOX-nano, which takes BGR, or of
    :func:`export`.

    Raises :class:`~embedsearch.errors.DataError` for another network.
    """
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf raises types of its own
        raise DataError(f"{path}: cannot be read as an ONNX model ({error})") from error
    arrays = constants(graph)
    given = [
        (arrays.get(node.input[1]), arrays.get(node.input[2]))
        for node in graph.node
        if node.op_type == "Conv" and len(node.input) > 2
    ]
    network = Yolox(_classes(given))
    places = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if len(places) != len(given):
        raise DataError(
            f"{path}: has {len(given)} convolutions with a bias, a YOLOX-nano has {len(places)}"
        )
    with torch.no_grad():
        for number, (place, (weight, bias)) in enumerate(zip(places, given, strict=True)):
            if number == 0 and weight is not None:
                weight = FULL * (_unstacked(weight) if weight.shape[1] == 12 else weight)
            if weight is None or bias is None or weight.shape != tuple(place.weight.shape):
                shape = None if weight is None else weight.shape
                raise DataError(
                    f"{path}: convolution {number + 1} is {shape}, in a YOLOX-nano it is "
                    f"{tuple(place.weight.shape)}"
                )
            place.weight.copy_(torch.from_numpy(weight.copy()))
            assert place.bias is not None
            place.bias.copy_(torch.from_numpy(bias.copy()))
    return network


def _classes(given: list[tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]]) -> int:
    """Behind the last classes there run two separable units, the box, and anything."""
    weight = given[-7][0] if len(given) > 7 else None
    return 0 if weight is None else int(weight.shape[0])


def _unstacked(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 3 x 3 over stacked 2 x 2 pixels in BGR to 6 x 6 over pixels in RGB."""
    made = np.zeros((len(weight), 3, 6, 6), np.float32)
    for place, (row, column) in enumerate(_PATCHES):
        stacked = weight[:, 3 * place : 3 * place + 3]
        made[:, :, row::2, column::2] = stacked[:, ::-1]
    return made
