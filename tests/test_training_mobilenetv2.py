"""The network that mini starts from, and the file of its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mobilenet import random_arrays, write_weights
from torch.nn.functional import batch_norm, conv2d

from embedsearch.errors import DataError
from embedsearch.training.networks.mobilenetv2 import MobileNetV2, load_mobilenetv2


def test_it_is_mobilenetv2_without_its_classifier() -> None:
    network = MobileNetV2()
    # 3,504,872 of torchvision's, less its classifier (1,281,000), more the 1x1 expansion of
    # block 0 (32 * 32 weights and 2 * 32 of its BatchNorm).
    expected = 3_504_872 - 1_281_000 + 32 * 32 + 2 * 32
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert sum(block.residual for block in network.blocks) == 10
    assert not any(isinstance(module, torch.nn.ReLU6) for module in network.modules())


def test_the_maps_are_halved_in_the_stem_and_in_blocks_1_3_10_and_13() -> None:
    network = MobileNetV2().eval()
    maps = network.stem(torch.zeros(1, 3, 64, 64))
    sides = [maps.shape[2]]
    for block in network.blocks:
        maps = block(maps)
        sides.append(maps.shape[2])
    assert sides == [32, 32, 16, 16, 8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 2, 2, 2, 2]
    assert network.last(maps).shape == (1, 1280, 2, 2)


def test_a_block_is_computed_as_the_file_says(tmp_path: Path) -> None:
    arrays = {name: torch.from_numpy(array) for name, array in random_arrays().items()}
    network = load_mobilenetv2(write_weights(tmp_path / "w.npz"))
    maps = torch.rand(1, 24, 8, 8)

    def unit(maps: torch.Tensor, number: int, padding: int, groups: int) -> torch.Tensor:
        name = "features_linearbottleneck2_"
        norm = [
            arrays[f"{name}batchnorm{number}_{part}"]
            for part in ("running_mean", "running_var", "gamma", "beta")
        ]
        filtered = conv2d(
            maps, arrays[f"{name}conv{number}_weight"], padding=padding, groups=groups
        )
        return batch_norm(filtered, *norm, eps=1e-5)

    expanded = unit(maps, 0, 0, 1).relu()
    expected = maps + unit(unit(expanded, 1, 1, 144).relu(), 2, 0, 1)
    with torch.no_grad():
        torch.testing.assert_close(network.blocks[2](maps), expected, atol=1e-5, rtol=1e-5)


def test_loading_leaves_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    network = load_mobilenetv2(write_weights(tmp_path / "w.npz"))
    assert not any(module.training for module in network.modules())


def test_a_file_that_is_missing_or_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.npz: cannot be read"):
        load_mobilenetv2(tmp_path / "gone.npz")
    for content in (b"", b"PK\x03\x04 cut short", b"\x93NUMPY", b"text"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz: cannot be read"):
            load_mobilenetv2(tmp_path / "bad.npz")
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"single\.npy: cannot be read"):
        load_mobilenetv2(tmp_path / "single.npy")


def test_a_missing_superfluous_or_misshapen_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    arrays = random_arrays()
    del arrays["features_conv1_weight"]
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="features_conv1_weight is missing"):
        load_mobilenetv2(path)
    np.savez(path, **random_arrays(), output_weight=np.zeros((1000, 1280)))
    with pytest.raises(DataError, match="no place for the array output_weight"):
        load_mobilenetv2(path)
    np.savez(path, **random_arrays() | {"features_conv0_weight": np.zeros((32, 3, 5, 5))})
    with pytest.raises(DataError, match=r"features_conv0_weight is \(32, 3, 5, 5\), expected"):
        load_mobilenetv2(path)
