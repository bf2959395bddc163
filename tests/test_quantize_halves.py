"""What stays real numbers is stored in 16 bits and computed with in 32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from embedsearch.training.onnx_graph.graph import Graph, session
from embedsearch.training.quantize.halves import STORED, store_halves

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(4, 96)).astype(np.float32)


def linear(weight: np.ndarray) -> ModelProto:
    """rows @ weight + bias"""
    constants = [
        numpy_helper.from_array(weight.astype(np.float32), "weight"),
        numpy_helper.from_array(np.full(weight.shape[1], 0.1, np.float32), "bias"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["rows", "weight", "bias"], ["out"], name="head")],
        "linear",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", weight.shape[0]])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", weight.shape[1]])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_large_matrix_takes_half_the_bytes_and_gives_the_same_but_for_its_rounding() -> None:
    weight = RNG.normal(size=(96, 64)).astype(np.float32)
    whole, halved = linear(weight), store_halves(linear(weight))
    onnx.checker.check_model(halved)
    assert len(halved.SerializeToString()) < 0.55 * len(whole.SerializeToString())
    (got,) = session(halved).run(None, {"rows": ROWS})
    # Not in float16: rows and sums keep their 24 bits.
    expected = ROWS @ weight.astype(np.float16).astype(np.float32) + 0.1
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_small_constants_and_numbers_beyond_float16_stay_as_they_are() -> None:
    small = store_halves(linear(RNG.normal(size=(96, 8))))
    vast = store_halves(linear(RNG.normal(size=(96, 64)) * 1e5))
    for model in (small, vast):
        assert {item.data_type for item in model.graph.initializer} == {TensorProto.FLOAT}
    stored = Graph(store_halves(linear(np.ones((96, 64)))))
    assert sorted(stored.names) == ["bias", f"weight{STORED}"]
