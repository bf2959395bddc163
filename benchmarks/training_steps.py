"""What does a step of training take on this CPU, forwards and backwards, in bf16?

Each network as :func:`~embedsearch.training.networks.memory_format.channels_last` makes it ready,
beside the same with its weights channels last and nothing else. Weights are of no meaning; the
processor has to compute with bf16.

    python benchmarks/training_steps.py [--batch 32] [--runs 7]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import timm
import torch
from measure import interleaved, median, ratios, report
from torch import nn

from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.memory_format import channels_last

TIMM = ("mobilenetv3_large_100", "efficientnet_b0", "mnasnet_100", "convnext_atto", "resnet18")
SIZE = 208


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--runs", type=int, default=7)
    given = arguments.parse_args()
    makers: dict[str, Callable[[], nn.Module]] = {"mini": lambda: load_trainable("mini").image}
    makers |= {name: lambda name=name: timm.create_model(name) for name in TIMM}
    pixels = torch.randn(given.batch, SIZE, SIZE, 3).permute(0, 3, 1, 2)
    table, figures = [("network", "ms a photo: channels last alone, made ready", "ratio")], {}
    for name, make in makers.items():
        plain = make().to(memory_format=torch.channels_last).train()
        ready = channels_last(make()).train()
        took = interleaved(
            given.runs,
            plain=lambda network=plain: step(network, pixels),
            ready=lambda network=ready: step(network, pixels),
        )
        told = {side: median(of) * 1000 / given.batch for side, of in took.items()}
        ratio = ratios(took["ready"], took["plain"])
        figures[name] = told | {"ratio": ratio}
        table.append((name, f"{told['plain']:.1f} {told['ready']:.1f}", f"{ratio:.2f}"))
    about = f"{SIZE} px, batches of {given.batch}, bf16, medians of {given.runs}"
    report("training_steps", table, {"about": about, "networks": figures})


def step(network: nn.Module, pixels: torch.Tensor) -> float:
    """Seconds of one step."""
    network.zero_grad()
    begun = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = network(pixels)
    given.float().square().mean().backward()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
