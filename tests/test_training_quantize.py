"""Folding, equalisation, export and 8-bit weights: what a network computes must stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mobilenet import write_weights
from onnx import ModelProto, numpy_helper
from torch import nn

from embedsearch.errors import DataError
from embedsearch.training.mini.backbone import quantize_backbone
from embedsearch.training.mini.equalise import correct_biases, equalise
from embedsearch.training.networks.export import attach_head, export_backbone, pool
from embedsearch.training.networks.folding import GREY, FoldedMobileNetV2
from embedsearch.training.networks.mobilenetv2 import MEAN, STD, MobileNetV2, load_mobilenetv2
from embedsearch.training.quantize.weights import round_weight, weight_scales

SIZE = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> MobileNetV2:
    return load_mobilenetv2(write_weights(tmp_path_factory.mktemp("weights") / "w.npz"))


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Soft blobs of colour, uint8 (6, SIZE, SIZE, 3)."""
    coarse = torch.from_numpy(np.random.default_rng(3).uniform(0, 255, (6, 3, 6, 6)))
    large = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    return large.clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def centred(photos: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(photos).permute(0, 3, 1, 2).float() - GREY) / 255


@pytest.fixture(scope="module")
def towers(
    network: MobileNetV2, photos: np.ndarray, centred: torch.Tensor
) -> tuple[ModelProto, ModelProto]:
    """The backbone in float32, and in int8 after equalisation and bias correction."""
    folded = FoldedMobileNetV2(network)
    float32 = export_backbone(folded, SIZE, torch.ones(1280))
    factors = equalise(folded, centred)
    correct_biases(folded, centred, round_weight)
    return float32, quantize_backbone(export_backbone(folded, SIZE, factors), list(photos))


def run(model: ModelProto, photos: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"pixels": photos})[0]


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / lengths


# Folding and export


def test_folding_changes_nothing_but_what_the_border_sees(network: MobileNetV2) -> None:
    pixels = torch.full((1, 3, SIZE, SIZE), float(GREY))
    pixels[:, :, 16:-16, 16:-16] = torch.rand(1, 3, SIZE - 32, SIZE - 32) * 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        expected = network.stem((pixels / 255 - mean) / std)
        got = FoldedMobileNetV2(network).network.stem((pixels - GREY) / 255)
    torch.testing.assert_close(got[:, :, 1:, 1:], expected[:, :, 1:, 1:], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got[:, :, 0], expected[:, :, 0], atol=1e-2)


def test_folding_leaves_the_network_it_was_given_alone(network: MobileNetV2) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    FoldedMobileNetV2(network)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_exported_backbone_gives_what_the_network_gives(
    network: MobileNetV2, photos: np.ndarray, centred: torch.Tensor, towers: tuple[ModelProto, ...]
) -> None:
    with torch.no_grad():
        expected = FoldedMobileNetV2(network)(centred).mean((2, 3)).numpy()
    np.testing.assert_allclose(
        run(towers[0], photos), expected, rtol=1e-3, atol=1e-5 * expected.max()
    )
    assert not any(node.op_type == "BatchNormalization" for node in towers[0].graph.node)


def test_the_generalised_mean_lies_between_average_and_maximum() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert pool(maps, 1).item() == 3.0
    # The cube root of (1 + 8 + 27 + 216) / 4.
    assert pool(maps, 3).item() == pytest.approx(63 ** (1 / 3), rel=1e-6)
    assert 5 < pool(maps, 20).item() < 6  # towards the maximum
    assert pool(torch.zeros(1, 1, 2, 2), 3).item() < 1e-5


def test_a_head_is_attached_behind_unit_features(
    towers: tuple[ModelProto, ...], photos: np.ndarray
) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 1280)).astype(np.float32)
    bias = rng.normal(size=8).astype(np.float32)
    features = run(towers[0], photos)
    scaled = features / np.linalg.norm(features, axis=1, keepdims=True) * np.sqrt(1280)
    expected = scaled @ weight.T + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = run(attach_head(towers[0], weight, bias), photos)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert len(towers[0].graph.output) == 1 and towers[0].graph.output[0].name == "features"


# Equalisation


def test_equalisation_evens_out_the_channels_and_changes_no_result(
    network: MobileNetV2, centred: torch.Tensor
) -> None:
    folded = FoldedMobileNetV2(network)
    with torch.no_grad():
        expected = folded(centred)
        factors = equalise(folded, centred)
        got = folded(centred) * factors.view(1, -1, 1, 1)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))

        def unevenness(network: FoldedMobileNetV2) -> float:
            """Largest peak of a channel over the median peak, behind the first expansion."""
            maps = network.network.stem(centred)
            peaks = network.blocks[0].layers[0](maps).amax((0, 2, 3))
            return float(peaks.max() / peaks.median())

        assert unevenness(FoldedMobileNetV2(network)) > 2
        assert unevenness(folded) == pytest.approx(1, abs=1e-3)


def test_bias_correction_takes_out_the_mean_shift(
    network: MobileNetV2, centred: torch.Tensor
) -> None:
    """A coarse rounding, so that the shift is large, in the first convolution alone."""

    def coarse(layer: nn.Conv2d) -> torch.Tensor:
        step = layer.weight.abs().max() / 3
        return (layer.weight / step).round() * step

    folded = FoldedMobileNetV2(network)
    with torch.no_grad():
        expected = folded.stem(centred).mean((0, 2, 3))
        rounded = coarse(folded.stem)

        def shift() -> float:
            got = nn.functional.conv2d(centred, rounded, folded.stem.bias, stride=2, padding=1)
            return float((got.mean((0, 2, 3)) - expected).abs().max())

        before = shift()
        correct_biases(folded, centred, coarse)
        assert shift() < before / 5


# 8-bit weights

WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.sampled_from([4, 8, 12, 3, 6]), st.just(1), st.just(1)),
    # Trained weights are not smaller than this; below, the step itself would leave float32.
    elements=st.floats(-4, 4, width=32).map(lambda value: 0 if abs(value) < 1e-6 else value),
)


def whole_steps(weight: np.ndarray, scales: np.ndarray) -> np.ndarray:
    steps = np.rint(weight / scales.reshape(-1, 1, 1, 1))
    return np.clip(steps, -128, 127).astype(int).reshape(len(weight), -1)


@settings(max_examples=100, deadline=None)
@given(WEIGHTS)
def test_no_two_weights_that_a_kernel_adds_can_leave_16_bits(weight: np.ndarray) -> None:
    rows = whole_steps(weight, weight_scales(weight, depthwise=False))
    width = 4 if rows.shape[1] % 4 == 0 else rows.shape[1]
    for group in rows.reshape(len(rows), -1, width).reshape(-1, width):
        top, low = np.sort(group)[::-1], np.sort(group)
        assert 255 * (max(top[0], 0) + max(top[1], 0)) <= 32767
        assert 255 * (min(low[0], 0) + min(low[1], 0)) >= -32768


@settings(max_examples=100, deadline=None)
@given(WEIGHTS)
def test_no_step_is_wider_than_that_of_7_bits_and_little_is_clipped(weight: np.ndarray) -> None:
    peak = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scales, peak = weight_scales(weight, depthwise=False)[peak > 0], peak[peak > 0]
    assert (scales >= 0.6 * peak / 127 * (1 - 1e-6)).all()
    assert (scales <= 2 * peak / 127 * (1 + 1e-6)).all()


@settings(max_examples=100, deadline=None)
@given(WEIGHTS)
def test_rounding_errs_no_more_than_the_widest_safe_step_would(weight: np.ndarray) -> None:
    def error(scales: np.ndarray) -> np.ndarray:
        steps = scales.reshape(-1, 1)
        return ((whole_steps(weight, scales) * steps - weight.reshape(len(weight), -1)) ** 2).sum(1)

    widest = np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), 1e-30) * 2 / 127
    assert (error(weight_scales(weight, depthwise=False)) <= error(widest) * (1 + 1e-4)).all()


def test_weights_of_all_sizes_keep_more_than_7_bits() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 128, 1, 1)).astype(np.float32)
    largest = np.abs(whole_steps(weight, weight_scales(weight, depthwise=False))).max(axis=1)
    assert np.median(largest) > 75  # 64 with 7 bits


def test_depthwise_weights_may_use_all_of_the_8_bits() -> None:
    weight = np.random.default_rng(0).normal(size=(16, 1, 3, 3)).astype(np.float32)
    rows = whole_steps(weight, weight_scales(weight, depthwise=True))
    assert np.median(np.abs(rows).max(axis=1)) > 110
    assert np.sort(np.abs(rows), axis=1)[:, -2:].sum(axis=1).max() > 128  # others may not


def test_a_channel_of_zeros_stays_zero() -> None:
    layer = nn.Conv2d(4, 2, 1)
    nn.init.zeros_(layer.weight)
    assert torch.equal(round_weight(layer), layer.weight.detach())


# The quantised backbone


def test_the_quantised_backbone_gives_nearly_what_the_network_gives(
    towers: tuple[ModelProto, ModelProto], photos: np.ndarray
) -> None:
    float32, int8 = towers
    assert cosines(run(float32, photos), run(int8, photos)).min() > 0.98


def test_its_weights_are_the_rounded_ones_and_its_activations_unsigned(
    towers: tuple[ModelProto, ModelProto],
) -> None:
    graph = towers[1].graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    weights = [array for array in arrays.values() if array.ndim == 4]
    assert len(weights) == 53 and all(array.dtype == np.int8 for array in weights)
    zero_points = [arrays[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert zero_points and all(point.dtype == np.uint8 for point in zero_points)


def test_pixels_enter_the_first_convolution_as_the_bytes_they_are(
    towers: tuple[ModelProto, ModelProto],
) -> None:
    graph = towers[1].graph
    assert [node.op_type for node in graph.node if "pixels" in node.input] == ["Transpose"]
    assert not any(node.op_type in ("Cast", "Sub") for node in graph.node)
    transposed = next(node.output[0] for node in graph.node if "pixels" in node.input)
    assert [n.op_type for n in graph.node if transposed in n.input] == ["DequantizeLinear"]


def test_all_convolutions_run_in_integers(
    towers: tuple[ModelProto, ModelProto], tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(towers[1].SerializeToString(), options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert (kinds.count("QLinearConv"), kinds.count("Conv")) == (53, 0)


def test_what_has_no_convolution_cannot_be_quantised() -> None:
    with pytest.raises(DataError, match="has no convolution"):
        quantize_backbone(ModelProto(), [])
