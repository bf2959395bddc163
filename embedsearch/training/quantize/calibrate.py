"""The range of every activation, seen on calibration photos."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

from embedsearch.training.onnx_graph.graph import Graph

Method = Literal["minmax", "percentile", "entropy"]
PERCENTILE = 99.99
"""Share of the values seen that an activation's range covers. Else a few outliers would decide how
coarse all other values become."""
QUANTISED = [
    *("Conv", "Gemm", "MatMul", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid"),
    *("HardSwish", "Add", "Mul", "Concat", "Split", "Pad", "Resize", "MaxPool", "ReduceMean"),
]
"""The kinds of nodes that run in integers where they stand before the last pooling."""
_AT_A_TIME = 8
"""Photos whose activations are in memory together: some 60 MB each for a MobileNetV2."""
_OPTIONS: dict[Method, dict[str, Any]] = {
    "minmax": {"symmetric": False},
    "percentile": {"symmetric": True},
    # With the library's 128 bins for 128 steps there would be nothing to choose.
    "entropy": {"symmetric": False, "num_bins": 512, "num_quantized_bins": 128},
}
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


def activation_ranges(
    model: ModelProto,
    squares: Sequence[NDArray[np.uint8]],
    method: Method = "percentile",
    percentile: float = PERCENTILE,
) -> TensorsData:
    """Lowest and highest value of each activation as ``method`` has it.

    ``minmax`` takes all values seen; ``percentile`` lets the largest magnitudes go; ``entropy``
    cuts where the histogram changes least (Migacz, "8-bit Inference with TensorRT", 2017).
    """
    options = _OPTIONS[method] | ({"percentile": percentile} if method == "percentile" else {})
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "float32.onnx")
        onnx.save(_without_tail(model), source)
        with redirect_stdout(io.StringIO()):  # the library prints its histogram settings
            calibrator = create_calibrator(
                source,
                QUANTISED,
                augmented_model_path=str(Path(folder, "augmented.onnx")),
                calibrate_method=_METHODS[method],
                extra_options=options,
            )
            for start in range(0, len(squares), _AT_A_TIME):
                calibrator.collect_data(_Photos(model, squares[start : start + _AT_A_TIME]))
            return calibrator.compute_data()


def _without_tail(model: ModelProto) -> ModelProto:
    """The model up to the last feature maps; what follows stays float32 and needs no ranges."""
    cut = ModelProto()
    cut.CopyFrom(model)
    graph = Graph(cut)
    tail = graph.tail()
    if not tail:
        return cut
    kept = [node for node in graph.nodes if node.name not in tail]
    ends = [n for node in kept for n in node.output if _reads_it(graph.readers.get(n, []), tail)]
    for node in graph.nodes:
        if node.name in tail:
            cut.graph.node.remove(node)
    del cut.graph.output[:]
    cut.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends
    )
    graph.drop_unused()
    return cut


def _reads_it(readers: Sequence[NodeProto], tail: set[str]) -> bool:
    return any(reader.name in tail for reader in readers)


class _Photos(CalibrationDataReader):
    def __init__(self, model: ModelProto, squares: Sequence[NDArray[np.uint8]]) -> None:
        self._name = model.graph.input[0].name
        self._photos = iter(squares)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self._photos, None)
        return None if photo is None else {self._name: photo[None]}
