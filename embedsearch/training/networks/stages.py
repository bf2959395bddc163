"""Taking a network of any library apart into the stages that run one after another."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from embedsearch.training.networks.mobilenetv2 import MobileNetV2
from embedsearch.training.networks.towers import Stage

_GROUPS = ("blocks", "stages", "layers", "features", "trunk", "resblocks", "transformer")
"""Parts that are only a row of other parts."""
_LEFT_OUT = (
    "fc",
    "classifier",
    "head",
    "heads",
    "head_drop",
    "global_pool",
    "avgpool",
    "aux1",
    "aux2",
    "AuxLogits",
    "flatten",
)
"""What a library puts behind the last feature map."""
_AGREE = 1e-4


def mobilenetv2_stages(network: MobileNetV2) -> list[Stage]:
    """``stem``, ``blocks.0`` to ``blocks.16``, ``last``."""
    blocks = [(f"blocks.{number}", block) for number, block in enumerate(network.blocks)]
    return [("stem", network.stem), *blocks, ("last", network.last)]


def split(
    network: nn.Module, run: str, size: int, *, last: str | None = None, whole: bool = False
) -> tuple[list[Stage], bool]:
    """The stages of a network, and whether run one after another they give what ``run`` gives,
    which is tried on a picture of noise.

    ``last`` names the module that gives the maps, where ``run`` goes on behind it; ``whole`` says
    that heads and poolings belong to what runs.
    """
    stages = [(name, part) for name, part in _parts(network, "", whole) if not _is_empty(part)]
    if last is not None:
        names = [name for name, _ in stages]
        ends = [n for n, name in enumerate(names) if name == last or name.startswith(f"{last}.")]
        stages = stages[: ends[-1] + 1] if ends else stages
    return stages, _is_sequence(network, run, stages, size, last)


def _parts(module: nn.Module, prefix: str, whole: bool) -> Iterator[Stage]:
    for name, child in module.named_children():
        if not whole and not prefix and name in _LEFT_OUT:
            continue
        if name in _GROUPS and len(list(child.children())) > 1:
            yield from _parts(child, f"{prefix}{name}.", whole)
        else:
            yield f"{prefix}{name}", child


def _is_empty(part: nn.Module) -> bool:
    return isinstance(part, nn.Identity)


def _is_sequence(
    network: nn.Module, run: str, stages: list[Stage], size: int, last: str | None
) -> bool:
    noise = torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            expected = _expected(network, run, noise, last)
            values = noise
            for _, part in stages:
                values = part(values)
        # As a share of the largest: what weights drawn at random give may be next to nothing.
        off = _AGREE * expected.abs().max()
        return values.shape == expected.shape and bool(((values - expected).abs() <= off).all())
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError):
        return False  # these parts do not follow one another
    finally:
        network.train(training)


def _expected(network: nn.Module, run: str, noise: Tensor, last: str | None) -> Tensor:
    if last is None:
        whole: Tensor = getattr(network, run)(noise)
        return whole
    seen: list[Tensor] = []
    hook = network.get_submodule(last).register_forward_hook(
        lambda module, given, output: seen.append(output)
    )
    try:
        network(noise)
    finally:
        hook.remove()
    return seen[0]
