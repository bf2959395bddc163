"""What stays real numbers, stored in 16 bits: half the bytes, computed with in float32 as before.

Float16 keeps eleven bits of a weight, 8-bit integers keep eight: the head loses nothing that the
network before it has not lost many times over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

_LEAST = 4096
"""Numbers; of smaller constants there is nothing to gain."""
STORED = "_float16"
"""What is put behind the names of stored constants."""


def store_halves(model: ModelProto) -> ModelProto:
    """Store the large float32 constants of ``model`` as float16, each with a Cast behind it that
    has its name. ONNX Runtime computes that once, when it loads the model."""
    graph = model.graph
    casts = []
    for item in graph.initializer:
        array = numpy_helper.to_array(item)
        if array.dtype != np.float32 or array.size < _LEAST:
            continue
        stored = halved(array)
        if stored.dtype == np.float16:
            name = item.name
            item.CopyFrom(numpy_helper.from_array(stored, name + STORED))
            casts.append(helper.make_node("Cast", [name + STORED], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    return model


def halved(array: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.float16]:
    """The array as float16; as it is where a number is beyond what that holds."""
    fits = np.abs(array).max(initial=0) < np.finfo(np.float16).max
    return array.astype(np.float16) if fits else array
