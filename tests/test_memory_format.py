from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from embedsearch.training.networks.memory_format import channels_last

STEM = """
import torch
from torch import nn
from embedsearch.training.networks.memory_format import channels_last

torch.manual_seed(0)
network = channels_last(nn.Sequential(nn.Conv2d(3, 48, 1, stride=2), nn.Conv2d(48, 8, 3)))
pixels = torch.randn(2, 224, 224, 3).permute(0, 3, 1, 2)
for _ in range(6):
    network(pixels).sum().backward()
    # What lies behind in memory is used: it was destroyed, and this ended the process.
    list(nn.Sequential(*[nn.Linear(10, 10) for _ in range(50)]).named_modules())
print("still here")
"""


def test_a_strided_convolution_of_few_channels_does_not_write_beyond_its_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEM], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout == "still here\n", done.stderr


def test_other_convolutions_are_channels_last_and_all_give_what_they_gave() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 1, stride=2), nn.Conv2d(16, 8, 3), nn.Conv2d(8, 4, 1))
    pixels = torch.randn(2, 16, 16, 3).permute(0, 3, 1, 2)
    before = network(pixels.contiguous())
    assert channels_last(network) is network
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[0].weight.stride() == (3, 1, 1, 1)
    torch.testing.assert_close(network(pixels), before)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, 2), nn.Conv2d(16, 8, 1, 2)]
)
def test_what_is_safe_is_left_alone(layer: nn.Conv2d) -> None:
    channels_last(layer)
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, 2, 1, groups=8),
        nn.Conv2d(8, 16, 3, 2, 1, groups=8),
        nn.Conv2d(8, 8, 7, 1, 3, groups=8),
    ],
)
def test_a_depthwise_convolution_that_is_slow_in_bf16_is_computed_in_float32(
    layer: nn.Conv2d,
) -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 8, 9, 9)
    expected = layer(values)
    names = layer.state_dict().keys()
    copied = copy.deepcopy(channels_last(layer))
    assert copied.state_dict().keys() == names
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = copied(values)
    assert given.dtype == torch.bfloat16
    torch.testing.assert_close(given, expected.bfloat16())
    given.float().sum().backward()
    (exact,) = torch.autograd.grad(layer(values).sum(), layer.weight)
    assert copied.weight.grad is not None
    torch.testing.assert_close(copied.weight.grad, exact)
    torch.testing.assert_close(copied(values), expected)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 8, 3, 2, 1, groups=2), nn.Conv2d(8, 8, 3, 2)],
)
def test_other_convolutions_are_computed_in_bf16(layer: nn.Conv2d) -> None:
    assert type(channels_last(layer)) is nn.Conv2d
