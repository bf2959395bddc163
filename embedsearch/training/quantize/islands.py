"""Float islands: which layers stay float32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from embedsearch.render.wording import counted
from embedsearch.training.onnx_graph.graph import Graph, embed
from embedsearch.training.quantize.measure import agreement
from embedsearch.training.quantize.sensitivity import Layer, named

AUTO = "auto"


def needs_sensitivity(wanted: Collection[str]) -> bool:
    """Whether a ``--keep-float`` can be followed only once the layers are ranked."""
    return any(one == AUTO or one.isdigit() for one in wanted)


def choose(
    prepared: ModelProto,
    seen: Sequence[NDArray[np.uint8]],
    wanted: Collection[str],
    ranked: Sequence[Layer],
    min_cosine: float,
    made: Callable[[Collection[str]], ModelProto],
    say: Callable[[str], object],
) -> list[str]:
    """Names of the layers that stay float32.

    ``wanted`` holds names, numbers (so many of ``ranked``, the most sensitive first) and
    :data:`AUTO`: one more of them until ``made``, which quantises all but what it is given, agrees
    with ``prepared`` to a mean cosine of ``min_cosine`` on ``seen``, or there are no more.
    """
    names = [one for one in wanted if one != AUTO and not one.isdigit()]
    kept = named(Graph(prepared), names)
    order = [layer.name for layer in ranked if layer.name not in kept]
    kept += order[: max((int(one) for one in wanted if one.isdigit()), default=0)]
    if AUTO not in wanted:
        return kept
    expected = embed(prepared, seen)
    for name in [*(name for name in order if name not in kept), None]:
        mean = agreement(expected, embed(made(kept), seen))["mean"]
        say(f"{counted(len(kept), 'layer')} in float32: cosine {mean:.4f}")
        if mean >= min_cosine or name is None:
            break
        kept.append(name)
    return kept
