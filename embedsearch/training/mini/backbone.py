"""What ``python -m embedsearch.training.mini`` quantises: a backbone that is folded and equalised
already, without its head."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from embedsearch.errors import DataError
from embedsearch.training.networks.export import INPUT
from embedsearch.training.networks.folding import GREY
from embedsearch.training.onnx_graph.entry import enter_as_pixels
from embedsearch.training.quantize.weights import weight_scales

_PERCENTILE = 99.99
"""Share of the values seen that an activation's range covers. Else a few outliers would decide how
coarse all other values become."""


def quantize_backbone(backbone: ModelProto, photos: Iterable[NDArray[np.uint8]]) -> ModelProto:
    """Quantise an exported backbone; activation ranges are what nearly all values seen fall in.

    ``photos`` are uint8 (size, size, 3) training photos. Pooling stays float32. Pixels enter the
    first convolution as the 8-bit numbers they are: zero point ``GREY``, step 1/255.
    """
    entry = _entry(backbone)
    overrides = {
        name: [
            {"axis": 0, "scale": np.array(s), "zero_point": np.array(0, np.int8)} for s in scales
        ]
        for name, scales in _scales_by_name(backbone)
    }
    overrides[entry] = [
        {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(GREY, np.uint8)}
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(backbone, source)
        with redirect_stdout(io.StringIO()):  # the library prints its histogram settings
            quantize_static(
                source,
                target,
                _Photos(photos),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["Conv", "Relu", "Add"],
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={
                    "TensorQuantOverrides": overrides,
                    "CalibPercentile": _PERCENTILE,
                },
            )
        quantised = onnx.load(target)
    enter_as_pixels(quantised, entry)
    onnx.checker.check_model(quantised)
    return quantised


class _Photos(CalibrationDataReader):
    def __init__(self, photos: Iterable[NDArray[np.uint8]]) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self._photos, None)
        return None if photo is None else {INPUT: photo[None]}


def _scales_by_name(backbone: ModelProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    arrays = {item.name: item for item in backbone.graph.initializer}
    for node in backbone.graph.node:
        if node.op_type == "Conv":
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            weight = numpy_helper.to_array(arrays[node.input[1]])
            yield node.input[1], weight_scales(weight, depthwise=groups > 1)


def _entry(backbone: ModelProto) -> str:
    """Name of the tensor that enters the first convolution."""
    for node in backbone.graph.node:
        if node.op_type == "Conv":
            return str(node.input[0])
    raise DataError("the network to be quantised has no convolution")
