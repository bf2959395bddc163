"""Folding, equalisation, export and 8-bit weights: what a network computes must stay the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mobilenet import write_weights

from embedsearch.training.folding import GREY, FoldedMobileNetV2
from embedsearch.training.mobilenetv2 import MEAN, STD, MobileNetV2, load_mobilenetv2
from embedsearch.training.quantize.weights import rounded_weight, weight_scales

SIZE = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> MobileNetV2:
    return load_mobilenetv2(write_weights(tmp_path_factory.mktemp("weights") / "w.npz"))


# Folding


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
    zeros = np.zeros((2, 4, 1, 1), np.float32)
    assert (rounded_weight(zeros, depthwise=False) == 0).all()
