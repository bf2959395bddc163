"""Which layers lose most in 8 bits, and which are better left in float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization.calibrate import TensorsData

from embedsearch.errors import DataError
from embedsearch.training.onnx_graph.graph import Graph, embed
from embedsearch.training.quantize.static import quantize_graph

PHOTOS = 16
"""On so many each layer is tried."""


@dataclass(frozen=True)
class Layer:
    """A layer, and what quantising it alone does."""

    name: str
    kind: str
    weights: int
    """How many."""
    cosine_lost: float
    """1 minus the mean cosine to the float32 embeddings."""


def sensitivity(
    model: ModelProto,
    ranges: TensorsData,
    squares: Sequence[NDArray[np.uint8]],
    grey: int | None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Layer]:
    """Quantise one layer at a time, with the activation behind it: the worst first.

    ``model`` is what :func:`~embedsearch.training.quantize.static.quantize_graph` takes.
    """
    graph = Graph(model)
    seen = squares[:PHOTOS]
    expected = embed(model, seen)
    layers = quantisable(graph)
    found = []
    for place, name in enumerate(layers, 1):
        node = next(node for node in graph.nodes if node.name == name)
        one = quantize_graph(model, ranges, grey=grey, only=name)
        lost = 1 - float((embed(one, seen) * expected).sum(axis=1).mean())
        found.append(Layer(name, node.op_type, graph.weight(node).size, lost))
        progress(place, len(layers))
    return sorted(found, key=lambda layer: -layer.cosine_lost)


def quantisable(graph: Graph) -> list[str]:
    """Names of the layers that quantisation turns to integers."""
    tail = graph.tail()
    return [layer.name for layer in graph.layers() if layer.name not in tail]


def named(graph: Graph, wanted: Collection[str]) -> list[str]:
    """Full names of the layers that ``wanted`` names, each in full or by a part that only it has.

    Raises :class:`~embedsearch.errors.DataError` for one that names none or several.
    """
    layers = quantisable(graph)
    found = []
    for want in wanted:
        fitting = [want] if want in layers else [name for name in layers if want in name]
        if len(fitting) != 1:
            raise DataError(
                f"--keep-float {want}: names {'several layers' if fitting else 'no layer'}; "
                f"there are {', '.join(fitting or layers)}"
            )
        found += fitting
    return found
