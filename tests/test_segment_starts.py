"""What a segmenter's encoder starts from: a LiteRT file, and maps of the resolution asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from embedsearch.errors import DataError
from embedsearch.training.networks.mobilenetv2 import MobileNetV2
from embedsearch.training.segment.litert_start import read_mobilenetv2
from embedsearch.training.segment.network import build, freeze
from embedsearch.training.segment.pyramid import (
    OwnPyramid,
    Pyramid,
    TensorFlowPyramid,
    tensorflow_mobilenetv2,
)

SCALE, ZERO = 0.0078125, 128


def _convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [each for each in network.modules() if isinstance(each, nn.Conv2d)]


def _litert(file: Path, network: nn.Module, kind: str, count: int | None = None) -> Path:
    """A LiteRT file with the network's convolutions and their biases, all the same: a float32 file,
    one of 8 bits a layer (``uint8``) or one of 8 bits a channel (``int8``)."""
    tensors, buffers, steps = [], [schema.BufferT()], []

    def keep(values: np.ndarray, quantised: Any = None) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        buffers.append(buffer)
        tensor = schema.TensorT()
        tensor.name, tensor.shape = f"t{len(tensors)}".encode(), list(values.shape)
        tensor.type = getattr(schema.TensorType, str(values.dtype).upper())
        tensor.buffer, tensor.quantization = len(buffers) - 1, quantised
        tensors.append(tensor)
        return len(tensors) - 1

    pixels = keep(np.zeros((1, 8, 8, 3), np.uint8), _steps([SCALE], [ZERO]))
    for layer in _convolutions(network)[:count]:
        depthwise = layer.groups > 1
        order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        values = layer.weight.detach().numpy().transpose(order)
        channels = 3 if depthwise else 0
        bias = np.linspace(-1, 1, layer.out_channels, dtype=np.float32)
        if kind == "float32":
            numbers = keep(values), keep(bias)
        else:
            axes = tuple(axis for axis in range(4) if axis != channels)
            most = np.abs(values).max(axis=axes if kind == "int8" else None, keepdims=True)
            step = (most / 127).astype(np.float32)
            whole = np.rint(values / step)
            zeros = [0] * step.size if kind == "int8" else [128]
            kept = whole.astype(np.int8) if kind == "int8" else (whole + 128).astype(np.uint8)
            told = _steps([float(s) for s in step.ravel()], zeros, channels)
            fine = 1e-4
            whole_bias = np.rint(bias / fine).astype(np.int32)
            numbers = keep(kept, told), keep(whole_bias, _steps([fine], [0]))
        step_ = schema.OperatorT()
        step_.opcodeIndex = 1 if depthwise else 0
        step_.inputs, step_.outputs = [pixels, *numbers], [pixels]
        steps.append(step_)
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes = 3, buffers, []
    for name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        model.operatorCodes.append(code)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, steps, [0], [0]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    file.write_bytes(bytes(builder.Output()))
    return file


def _steps(scales: list[float], zeros: list[int], dimension: int = 0) -> Any:
    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint, made.quantizedDimension = scales, zeros, dimension
    return made


@pytest.mark.parametrize("kind", ["float32", "uint8", "int8"])
def test_the_encoder_in_a_litert_file_has_its_numbers_again(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    network = tensorflow_mobilenetv2()
    read = read_mobilenetv2(_litert(tmp_path / "m.tflite", network, kind))
    for wanted, got in zip(_convolutions(network), _convolutions(read.network), strict=True):
        step = float(wanted.weight.detach().abs().max()) / 127
        tolerance = 1e-7 if kind == "float32" else 0.51 * step
        assert float((wanted.weight - got.weight).detach().abs().max()) <= tolerance
    assert read.mean == (128 / 255,) * 3
    assert read.std == pytest.approx((1 / (SCALE * 255),) * 3)
    norm = next(each for each in read.network.modules() if isinstance(each, nn.BatchNorm2d))
    values = torch.randn(2, norm.num_features, 3, 3)
    shift = torch.linspace(-1, 1, norm.num_features).view(1, -1, 1, 1)
    assert torch.allclose(norm(values), values + shift, atol=1e-4)


def test_a_segmenter_starts_from_it_and_takes_bytes_as_the_file_did(tmp_path: Path) -> None:
    file = _litert(tmp_path / "m.tflite", tensorflow_mobilenetv2(), "uint8")
    network = build(f"litert:{file}", "light", 3, {"encoder_output_stride": 16}).eval()
    freeze(network, "blocks.13")
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 64, 64, 3)
    assert torch.allclose(
        network.normalised(pixels)[0, :, 0, 0], torch.tensor([-1.0, 0.0, 0.9921875]), atol=1e-6
    )
    with torch.inference_mode():
        assert network(pixels).shape == (1, 3, 8, 8)


def test_a_file_that_is_none_or_of_another_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tflite: cannot be read"):
        read_mobilenetv2(tmp_path / "none.tflite")
    (tmp_path / "junk.tflite").write_bytes(b"junk" * 9)
    with pytest.raises(DataError, match=r"junk\.tflite: is no LiteRT file"):
        read_mobilenetv2(tmp_path / "junk.tflite")
    short = _litert(tmp_path / "short.tflite", tensorflow_mobilenetv2(), "uint8", count=7)
    with pytest.raises(
        DataError, match=r"short\.tflite: has 7 convolutions, MobileNetV2 1.0 has 51"
    ):
        read_mobilenetv2(short)
    other = _litert(tmp_path / "other.tflite", MobileNetV2(), "uint8")
    with pytest.raises(DataError, match=r"other\.tflite: convolution 1 is"):
        read_mobilenetv2(other)


@pytest.mark.parametrize("kind", [OwnPyramid, TensorFlowPyramid])
def test_maps_that_are_kept_large_hold_what_the_strided_ones_held(kind: type[Pyramid]) -> None:
    """Where strides fall away, every other place of the larger maps sees just what the strided
    network saw."""
    torch.manual_seed(0)
    strided = kind(list(kind.channels)).eval()
    dilated = kind(list(kind.channels), output_stride=16).eval()
    dilated.load_state_dict(strided.state_dict())
    pixels = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        small, large = strided(pixels), dilated(pixels)
    assert [each.shape[-1] for each in small] == [256, 128, 64, 32, 16, 8]
    assert [each.shape[-1] for each in large] == [256, 128, 64, 32, 16, 16]
    assert tuple(each.shape[1] for each in small) == kind.channels
    assert torch.allclose(small[4], large[4])
    assert torch.allclose(small[5], large[5][..., ::2, ::2], atol=1e-5)


@pytest.mark.parametrize("decoder", ["light", "raspp"])
@pytest.mark.parametrize("first", ["blocks.0", "blocks.2", "blocks.7", "blocks.13", "blocks.16"])
def test_what_is_kept_of_the_frozen_stages_is_enough_to_go_on_from(
    decoder: str, first: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    file = _litert(tmp_path / "m.tflite", tensorflow_mobilenetv2(), "float32")
    network = build(f"litert:{file}", decoder, 3, {}).eval()
    freeze(network, first)
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    pyramid, used = network.pyramid, network.first_map
    with torch.inference_mode():
        kept = pyramid.packed(pyramid.frozen(network.normalised(pixels)), used)
        maps = pyramid.trained(pyramid.unpacked(kept, used))
        assert torch.equal(network.decoded(maps), network(pixels))
    assert len(kept) == len({each.data_ptr() for each in kept}) <= 4


def test_a_decoder_that_the_file_has_too_begins_with_its_numbers(tmp_path: Path) -> None:
    """The last four convolutions of the file are those of R-ASPP: its two branches, what joins
    them, and the classes."""
    torch.manual_seed(0)
    shapes = [(320, 256), (320, 256), (512, 256), (256, 3)]
    rest = [nn.Conv2d(inputs, outputs, 1) for inputs, outputs in shapes]
    whole = nn.Sequential(tensorflow_mobilenetv2(), *rest)
    start = f"litert:{_litert(tmp_path / 'm.tflite', whole, 'float32')}"
    network = build(start, "raspp", 3, {})
    made: Any = network.network
    layers = (made.decoder.everywhere, made.decoder.picture, made.decoder.projection)
    for layer, wanted in zip((*layers, made.segmentation_head), rest, strict=True):
        assert torch.equal(layer.weight, wanted.weight)
        assert torch.allclose(layer.bias, torch.linspace(-1, 1, wanted.out_channels), atol=1e-6)
    other: Any = build(start, "raspp", 4, {}).network
    assert not torch.equal(other.decoder.everywhere.weight, rest[0].weight)
