"""Segmenters that tell colours apart, as real files."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from embedsearch.enrichers.segmenter_file import MODEL, SegmenterFile

SIDE = 16


def colour_folder(folder: Path, fit: str = "squash") -> Path:
    """A folder whose network says background where red is strongest, ``grass`` where green is and
    ``sky`` where blue is, four fifths sure."""
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["real"], ["which"], axis=3, keepdims=0),
        helper.make_node("Cast", ["which"], ["classes"], to=TensorProto.UINT8),
        helper.make_node("Mul", ["classes", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "sure"], ["confidence"]),
    ]
    maps = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, [1, SIDE, SIDE])
        for name in ("classes", "confidence")
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        maps,
        [
            numpy_helper.from_array(np.array(0, np.uint8), "none"),
            numpy_helper.from_array(np.array(204, np.uint8), "sure"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / MODEL)
    SegmenterFile(folder / MODEL, "colours", "ours", "", ("grass", "sky"), SIDE, fit).write()  # type: ignore[arg-type]
    return folder


def colour_tflite(file: Path) -> Path:
    """The same as a LiteRT file whose last step takes the largest of three logits, and the names
    of its classes beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent / "labels.txt").write_text("background\ngrass\naeroplane\n\na remark\n", "utf-8")
    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ARG_MAX
    code.version = 2
    model.operatorCodes = [code]
    axis = schema.BufferT()
    axis.data = np.frombuffer(np.array(3, np.int32).tobytes(), np.uint8)
    model.buffers = [schema.BufferT(), axis]
    pixels = _tensor("pixels", [1, SIDE, SIDE, 3], schema.TensorType.UINT8)
    pixels.quantization = schema.QuantizationParametersT()
    pixels.quantization.scale, pixels.quantization.zeroPoint = [0.1], [0]
    subgraph = schema.SubGraphT()
    subgraph.tensors = [
        pixels,
        _tensor("axis", [], schema.TensorType.INT32, 1),
        _tensor("classes", [1, SIDE, SIDE], schema.TensorType.INT64),
    ]
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, [0, 1], [2]
    step.builtinOptionsType = schema.BuiltinOptions.ArgMaxOptions
    step.builtinOptions = schema.ArgMaxOptionsT()
    step.builtinOptions.outputType = schema.TensorType.INT64
    subgraph.operators, subgraph.inputs, subgraph.outputs = [step], [0], [2]
    model.subgraphs = [subgraph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    file.write_bytes(bytes(builder.Output()))
    return file


def _tensor(name: str, shape: list[int], kind: int, buffer: int = 0) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), shape, kind, buffer
    return tensor


def meadow(height: int = 32, width: int = 64) -> np.ndarray:
    """A red picture, uint8, with a green field at its lower left and a blue one at its right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = 200
    pixels[height // 2 :, : width // 4] = (0, 200, 0)
    pixels[:, 3 * width // 4 :] = (0, 0, 200)
    return pixels
