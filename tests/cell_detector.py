"""Tiny exported detectors: each 8x8 cell of a 64x64 input is an object as far as it is red (label
0) or blue (label 1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CELL = 64, 8
CELLS = (SIDE // CELL) ** 2
LABELS = ["red thing", "blue thing"]


def make_detector(
    folder: Path, kind: str = "yolox", *, layout: str = "nchw", pixels: bool = False, **told: Any
) -> Path:
    """Write a model and its JSON; ``kind`` is yolox, centres, rows, objectness or end-to-end.

    ``pixels``: it takes uint8. ``told`` changes the JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bgr = told.get("input", {}).get("colour") == "bgr"
    nodes, constants = _scores(layout, pixels, red=2 if bgr else 0, blue=0 if bgr else 2)
    columns, fixed = _columns(kind)
    constants |= fixed
    nodes.append(helper.make_node("Concat", columns, ["rows"], axis=2))
    if kind == "centres":
        nodes.append(helper.make_node("Transpose", ["rows"], ["output"], perm=[0, 2, 1]))
    else:
        nodes.append(helper.make_node("Identity", ["rows"], ["output"]))
    shape = [1, 3, SIDE, SIDE] if layout == "nchw" else [1, SIDE, SIDE, 3]
    taken = TensorProto.UINT8 if pixels else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("images", taken, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "cells.onnx"
    onnx.save(model, path)
    output = {"kind": "yolox", "strides": [CELL]}
    if kind != "yolox":
        output = {
            "kind": "ultralytics",
            "objectness": kind == "objectness",
            "end_to_end": kind == "end-to-end",
        }
    about = {"format": 1, "licence": "CC0-1.0", "output": output, "labels": LABELS} | told
    about["input"] = {"layout": layout} | about.get("input", {})
    (folder / "cells.json").write_text(json.dumps(about), encoding="utf-8")
    return path


def _scores(layout: str, pixels: bool, red: int, blue: int) -> tuple[list[Any], dict[str, Any]]:
    """``red`` and ``blue``, (1, cells, 1): how much of the colour there is, less the green."""
    nodes, entering = [], "images"
    if pixels:
        nodes.append(helper.make_node("Cast", [entering], ["real"], to=TensorProto.FLOAT))
        entering = "real"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [entering], ["planes"], perm=[0, 3, 1, 2]))
        entering = "planes"
    constants: dict[str, Any] = {"shape": np.array([1, CELLS, 1]), "full": np.float32(255)}
    nodes += [
        helper.make_node(
            "AveragePool", [entering], ["means"], kernel_shape=[CELL] * 2, strides=[CELL] * 2
        ),
        helper.make_node("Split", ["means", "parts"], ["c0", "c1", "c2"], axis=1),
    ]
    constants["parts"] = np.array([1, 1, 1])
    for name, channel in (("red", red), ("blue", blue)):
        nodes += [
            helper.make_node("Sub", [f"c{channel}", "c1"], [f"{name}.rest"]),
            helper.make_node("Div", [f"{name}.rest", "full"], [f"{name}.share"]),
            helper.make_node("Relu", [f"{name}.share"], [f"{name}.map"]),
            helper.make_node("Reshape", [f"{name}.map", "shape"], [name]),
        ]
    return nodes, constants


def _columns(kind: str) -> tuple[list[str], dict[str, Any]]:
    y, x = np.mgrid[: SIDE // CELL, : SIDE // CELL].reshape(2, -1)
    corners = np.stack([x, y], 1).astype(np.float32) * CELL
    ones = np.ones((CELLS, 1), np.float32)
    if kind == "yolox":  # the middle of its cell, exp(0) strides wide
        places = np.repeat(np.array([[0.5, 0.5, 0, 0]], np.float32), CELLS, 0)
        return ["places", "sure", "red", "blue"], {"places": places[None], "sure": ones[None]}
    if kind == "end-to-end":
        places = np.concatenate([corners, corners + CELL], 1)
        return ["places", "red", "label"], {"places": places[None], "label": 0 * ones[None]}
    places = np.concatenate([corners + CELL / 2, np.full_like(corners, CELL)], 1)
    if kind == "objectness":
        return ["places", "sure", "red", "blue"], {"places": places[None], "sure": ones[None] / 2}
    return ["places", "red", "blue"], {"places": places[None]}
