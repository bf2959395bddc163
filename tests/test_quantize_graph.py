"""What is done to a graph before, while and after it is quantised."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import small_networks as small
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from embedsearch.errors import DataError, EncoderError
from embedsearch.training.networks.export import export_image_tower
from embedsearch.training.onnx_graph.entry import fold_entry
from embedsearch.training.onnx_graph.graph import Graph, embed, prepare, session
from embedsearch.training.quantize.biases import correct_biases
from embedsearch.training.quantize.calibrate import Method, activation_ranges
from embedsearch.training.quantize.equalise import equalise, watch
from embedsearch.training.quantize.sensitivity import named, quantisable, sensitivity
from embedsearch.training.quantize.simulate import OnnxModule
from embedsearch.training.quantize.static import quantize_graph
from embedsearch.training.quantize.weights import safe_bounds


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return small.blobs(24)


@pytest.fixture
def prepared() -> ModelProto:
    return prepare(small.tower(small.network()))


def quantised(prepared: ModelProto, photos: list[np.ndarray], **options: object) -> ModelProto:
    grey = fold_entry(Graph(prepared))
    ranges = activation_ranges(prepared, photos, "percentile")
    return quantize_graph(prepared, ranges, grey=grey, **options)  # type: ignore[arg-type]


def agreement(one: ModelProto, other: ModelProto, photos: list[np.ndarray]) -> float:
    return float((embed(one, photos) * embed(other, photos)).sum(axis=1).mean())


# Export


@pytest.mark.parametrize("border", [0, 3])
def test_an_exported_tower_agrees_with_pytorch_to_a_ten_thousandth(border: int) -> None:
    made = small.network().train()
    model = export_image_tower(made, small.SIZE, small.MEAN, small.STD, border=border)
    assert made.training  # as it was
    side = small.SIZE + 2 * border
    photos = np.stack(small.blobs(4, side))
    inner = torch.from_numpy(photos)[:, border : side - border, border : side - border]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (small.MEAN, small.STD))
    with torch.no_grad():
        rows = made.eval()((inner.permute(0, 3, 1, 2) / 255 - mean) / std)
    expected = nn.functional.normalize(rows, dim=1).numpy()
    got = session(model).run(None, {"pixels": photos})[0]  # four at once
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert [item.name for item in model.graph.output] == ["embedding"]


def test_a_module_that_cannot_be_exported_is_a_named_error() -> None:
    class Broken(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            raise RuntimeError("no such layer")

    with pytest.raises(EncoderError, match=r"cannot be exported to ONNX .*no such layer"):
        export_image_tower(Broken(), 8, (0, 0, 0), (1, 1, 1))


# Preparing


def test_preparing_folds_batchnorm_and_changes_no_embedding(
    photos: list[np.ndarray], prepared: ModelProto
) -> None:
    given = small.tower(small.network())
    assert agreement(given, prepared, photos) > 0.99999
    kinds = [node.op_type for node in prepared.graph.node]
    assert "BatchNormalization" not in kinds and kinds.count("Conv") == 5
    names = [node.name for node in prepared.graph.node]
    assert len(set(names)) == len(names) and all(names)


def test_what_is_quantised_already_or_has_no_convolution_is_refused(
    prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    with pytest.raises(DataError, match="quantised already; name the float32 encoder"):
        prepare(quantised(prepared, photos))
    with pytest.raises(DataError, match="no convolution"):
        prepare(ModelProto())


def test_the_entry_takes_bytes_and_only_the_border_sees_another_colour(
    prepared: ModelProto,
) -> None:
    before = prepare(prepared)
    first = next(node for node in prepared.graph.node if node.op_type == "Conv").output[0]
    photo = small.blobs(1)
    (expected,) = next(iter(watch(before, [first], photo)))
    assert fold_entry(Graph(prepared)) == 114  # the grey nearest to ImageNet's mean
    (got,) = next(iter(watch(prepared, [first], photo)))
    np.testing.assert_allclose(got[..., 1:, 1:], expected[..., 1:, 1:], atol=1e-4)
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


def test_an_entry_that_is_more_than_scale_and_shift_is_left_alone(photos: list[np.ndarray]) -> None:
    class Curved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = small.network()

        def forward(self, pixels: Tensor) -> Tensor:
            return self.network(torch.tanh(pixels))

    prepared = prepare(small.tower(Curved()))
    assert fold_entry(Graph(prepared)) is None
    int8 = quantised(prepared, photos)
    assert agreement(prepared, int8, photos) > 0.98


# Equalisation and biases


def test_equalising_evens_out_channels_and_changes_no_embedding(
    prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    before = embed(prepared, photos)

    def unevenness() -> float:
        """Largest peak of a channel over the median, behind the expansion."""
        expand = [node for node in prepared.graph.node if node.op_type == "Relu"][1].output[0]
        values = [rows[0] for rows in watch(prepared, [expand], photos)]
        peaks = np.max([np.abs(value).max(axis=(0, 2, 3)) for value in values], axis=0)
        return float(peaks.max() / np.median(peaks))

    uneven = unevenness()
    # Stem and sum, expansion, filter, last: all tensors between layers.
    assert equalise(Graph(prepared), photos) == 4
    np.testing.assert_allclose(embed(prepared, photos), before, atol=1e-4)
    assert unevenness() == pytest.approx(1, abs=1e-3)
    assert uneven > 1.5


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU6, nn.Hardswish])
def test_what_no_factor_passes_through_is_not_equalised_but_still_quantised(
    activation: type[nn.Module], photos: list[np.ndarray]
) -> None:
    prepared = prepare(small.tower(small.network(activation)))
    before = embed(prepared, photos)
    equalise(Graph(prepared), photos)
    np.testing.assert_allclose(embed(prepared, photos), before, atol=1e-4)
    assert agreement(prepared, quantised(prepared, photos), photos) > 0.98


def test_corrected_biases_take_out_the_mean_shift(
    prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    int8 = quantised(prepared, photos)
    arrays = {item.name: item for item in int8.graph.initializer}
    for name, item in arrays.items():  # coarser weights, so that there is a shift to see
        array = numpy_helper.to_array(item)
        if array.dtype == np.int8 and array.ndim == 4:
            item.CopyFrom(numpy_helper.from_array((array // 24 * 24).astype(np.int8), name))
    last = [node for node in prepared.graph.node if node.op_type == "Conv"][-1].name

    def shift(model: ModelProto) -> float:
        means = []
        for one in (model, prepared):
            seen = {}
            OnnxModule(one).run(
                torch.from_numpy(np.stack(photos)),
                lambda node, given, seen=seen: seen.setdefault(node.name, given),
            )
            means.append(seen[last].mean((0, 2, 3)))
        return float((means[0] - means[1]).abs().max().detach())

    corrected = correct_biases(int8, prepared, photos)
    assert shift(corrected) < shift(int8) / 5


# 8 bits


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_every_way_of_calibrating_gives_nearly_the_same_embeddings(
    method: Method, prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    grey = fold_entry(Graph(prepared))
    ranges = activation_ranges(prepared, photos, method)
    int8 = quantize_graph(prepared, ranges, grey=grey)
    assert agreement(prepared, int8, photos) > 0.98
    layers = [node for node in int8.graph.node if node.op_type == "Conv"]
    writers = {name: node for node in int8.graph.node for name in node.output}
    assert all(writers[n].op_type == "DequantizeLinear" for node in layers for n in node.input)
    axes = [
        len(numpy_helper.to_array(item))
        for item in int8.graph.initializer
        if item.name.endswith("_scale") and list(item.dims)
    ]
    assert axes and set(axes) <= {16, 32}  # a scale for each output channel


def test_ranges_are_those_of_the_method(prepared: ModelProto, photos: list[np.ndarray]) -> None:
    fold_entry(Graph(prepared))
    name = next(node for node in prepared.graph.node if node.op_type == "Relu").output[0]
    values = np.concatenate([rows[0].ravel() for rows in watch(prepared, [name], photos)])
    highest = {
        method: np.ravel(activation_ranges(prepared, photos, method, 99.0)[name].range_value[1])[0]
        for method in ("minmax", "percentile", "entropy")
    }
    assert highest["minmax"] == pytest.approx(values.max())
    assert highest["percentile"] == pytest.approx(np.percentile(values, 99), rel=0.05)
    assert highest["percentile"] / 2 < highest["entropy"] < highest["minmax"]


def test_layers_that_are_kept_stay_float_and_agree_better(
    prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    grey = fold_entry(Graph(prepared))
    ranges = activation_ranges(prepared, photos)
    layers = sensitivity(prepared, ranges, photos, grey)
    assert sorted(layer.name for layer in layers) == sorted(quantisable(Graph(prepared)))
    assert [layer.cosine_lost for layer in layers] == sorted(
        (layer.cosine_lost for layer in layers), reverse=True
    )
    assert layers[0].cosine_lost > 0
    kept = [layers[0].name, layers[1].name]
    whole = quantize_graph(prepared, ranges, grey=grey)
    spared = quantize_graph(prepared, ranges, grey=grey, keep_float=kept)
    assert agreement(prepared, spared, photos) > agreement(prepared, whole, photos)
    in_float = {node.name for node in spared.graph.node if node.op_type == "Conv"} - {
        node.name
        for node in spared.graph.node
        if node.op_type == "Conv" and node.input[1].endswith("DequantizeLinear_Output")
    }
    assert in_float == set(kept)


def test_a_layer_is_named_by_a_part_of_its_name_that_only_it_has(prepared: ModelProto) -> None:
    graph = Graph(prepared)
    (found,) = named(graph, ["depthwise"])
    assert "depthwise" in found and found in quantisable(graph)
    with pytest.raises(DataError, match="--keep-float block: names several layers"):
        named(graph, ["block"])
    with pytest.raises(DataError, match=r"--keep-float nose: names no layer; there are .*stem"):
        named(graph, ["nose"])


# The simulation


def test_the_simulation_of_a_float_tower_gives_what_onnx_runtime_gives(
    prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    with torch.no_grad():
        got = OnnxModule(prepared)(torch.from_numpy(np.stack(photos))).numpy()
    np.testing.assert_allclose(got, embed(prepared, photos), atol=1e-5)


def test_layer_by_layer_the_simulation_rounds_as_onnx_runtime_does(
    prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    """Each layer on what ONNX Runtime gave to it. Where the exact value lies half way between two
    steps, the last bit of a float decides; such places are few, and one step apart."""
    int8 = quantised(prepared, photos)
    names = [n.output[0] for n in int8.graph.node if n.op_type == "QuantizeLinear"]
    (expected,) = watch(int8, names, photos[:1])
    known = dict(zip(names, expected, strict=True))
    apart: list[np.ndarray] = []

    def see(node: onnx.NodeProto, given: object) -> object:
        if node.output[0] not in known:
            return given
        true = torch.from_numpy(known[node.output[0]].astype(np.float32))
        apart.append((given - true).abs().detach().numpy().ravel())  # type: ignore[operator]
        return true

    OnnxModule(int8).run(torch.from_numpy(photos[0][None]), see)
    steps = np.concatenate(apart)
    assert len(apart) == len(names) > 5
    assert steps.max() <= 1 and (steps > 0).mean() < 1e-3


def test_a_model_comes_back_from_the_simulation_as_it_went_in(
    prepared: ModelProto, photos: list[np.ndarray]
) -> None:
    int8 = quantised(prepared, photos)
    back = OnnxModule(int8).to_onnx()
    np.testing.assert_allclose(embed(back, photos), embed(int8, photos), atol=1e-5)


def test_an_operator_that_is_not_known_is_named(prepared: ModelProto) -> None:
    prepared.graph.node[-1].op_type = "Einsum"
    with pytest.raises(DataError, match="operators that are not known here: Einsum"):
        OnnxModule(prepared)


def test_weights_may_not_move_to_where_two_of_them_leave_16_bits() -> None:
    whole = np.array([[100, 20, -90, 5], [3, -4, 60, 64]], np.int8).reshape(2, 4, 1, 1)
    low, high = (bound.reshape(2, 4) for bound in safe_bounds(whole, depthwise=False))
    assert high.tolist() == [[100, 28, 28, 28], [64, 64, 64, 64]]
    assert low.tolist() == [[-38, -38, -90, -38], [-64, -64, -64, -64]]
    assert (low <= whole.reshape(2, 4)).all() and (whole.reshape(2, 4) <= high).all()
