"""A real encoder folder for tests: an ONNX image tower of a few kilobytes, and no text tower."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from embedsearch.encoders.folder import EncoderFolder, hash_file

SIZE, DIM = 4, 6


def make_encoder_folder(folder: Path, *, seed: int = 0, name: str = "tiny") -> Path:
    """Write an encoder that projects 4 x 4 pixels at random. Each ``seed`` has its own weights."""
    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(size=(SIZE * SIZE * 3, DIM)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["real"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "image.onnx")
    EncoderFolder(
        path=folder,
        name=name,
        licence="Apache-2.0",
        description="Random projection",
        dim=DIM,
        input_size=SIZE,
        resize="squash",
        interpolation="bilinear",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        pooling="none",
        has_text=False,
        hashes={"image.onnx": hash_file(folder / "image.onnx")},
    ).write()
    return folder


def make_litert_folder(folder: Path) -> Path:
    """Write an encoder whose image tower is ``data/tiny.tflite``."""
    folder.mkdir(parents=True)
    shutil.copyfile(Path(__file__).parent / "data" / "tiny.tflite", folder / "image.tflite")
    EncoderFolder(
        path=folder,
        name="tiny-litert",
        licence="Apache-2.0",
        description="Two convolutions",
        dim=6,
        input_size=16,
        resize="crop",
        interpolation="bilinear",
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.2),
        pooling="avg",
        has_text=False,
        hashes={"image.tflite": hash_file(folder / "image.tflite")},
    ).write()
    return folder
