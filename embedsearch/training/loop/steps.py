"""How big a step is, by whom it is taken, and in which numbers it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from embedsearch.errors import DataError
from embedsearch.training.distributed import parted
from embedsearch.training.recipe import Optimisation

OPTIMIZERS = ("sgd", "adamw", "rmsprop")
SCHEDULES = ("cosine", "constant")
_SMOOTHING = 0.9
_EMA_START = 10
"""The first steps move a running mean more, or it would be mostly what training began with."""


@dataclass(frozen=True)
class Group:
    """Parameters that are trained alike."""

    parameters: Sequence[nn.Parameter]
    rate: float
    decay: float = 0.0
    opens: float = 0.0
    """Epoch from which on they are trained."""


def make_optimizer(groups: Sequence[Group], settings: Optimisation) -> torch.optim.Optimizer:
    """The optimizer of that name over ``groups``. Raises
    :class:`~embedsearch.errors.DataError`."""
    told = [
        {
            "params": list(group.parameters),
            "lr": group.rate,
            "weight_decay": group.decay,
            "usual": group.rate,
            "opens": group.opens,
        }
        for group in groups
        if group.parameters
    ]
    if not told:
        raise DataError("nothing is left to be trained: everything is frozen")
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(told, fused=True)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(told, lr=1.0, momentum=settings.momentum, nesterov=True)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(told, momentum=settings.momentum, alpha=_SMOOTHING)
    raise DataError(
        f"there is no optimizer {settings.optimizer!r}; there are {', '.join(OPTIMIZERS)}"
    )


def set_rates(
    optimizer: torch.optim.Optimizer, settings: Optimisation, step: int, steps_an_epoch: int
) -> None:
    """Set the rate of every group for ``step``, counted from 0, and close those that open later."""
    epoch = step / steps_an_epoch
    for group in optimizer.param_groups:
        closed = epoch < group["opens"]
        for parameter in group["params"]:
            parameter.requires_grad = not closed
        # A group that opens late warms up when it does.
        since = step - math.ceil(group["opens"] * steps_an_epoch)
        share = rate_share(settings, step, since, steps_an_epoch)
        group["lr"] = 0.0 if closed else group["usual"] * share


def rate_share(settings: Optimisation, step: int, since: int, steps_an_epoch: int) -> float:
    """Linear warm-up from when a group opened, ``since`` steps ago, then half a cosine to 0."""
    if settings.schedule not in SCHEDULES:
        raise DataError(
            f"there is no schedule {settings.schedule!r}; there are {', '.join(SCHEDULES)}"
        )
    warm_up = max(1, round(settings.warm_up * steps_an_epoch))
    share = min(1.0, (since + 1) / warm_up)
    if settings.schedule == "cosine":
        steps = settings.epochs * steps_an_epoch
        share *= 0.5 * (1 + math.cos(math.pi * step / steps))
    return share


class RunningMean:
    """The exponential moving average of a module's parameters (Polyak averaging)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {n: p.detach().clone() for n, p in module.named_parameters()}

    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the parameters after ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (_EMA_START + step))
        now = dict(module.named_parameters())
        torch._foreach_lerp_(
            list(self.values.values()), [now[n].detach() for n in self.values], 1 - decay
        )

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """Within it the module has the mean for its parameters."""
        self._swap(module)
        try:
            yield
        finally:
            self._swap(module)

    def _swap(self, module: nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                kept = parameter.detach().clone()
                parameter.copy_(self.values[name])
                self.values[name].copy_(kept)


class Precision:
    """Automatic mixed precision: what is computed in half, and the scaling that fp16 needs."""

    def __init__(self, amp: str, device: torch.device) -> None:
        """``amp`` is ``auto``, ``off``, ``bf16`` or ``fp16``; ``auto`` is bf16 or fp16 on a GPU,
        bf16 on a CPU that computes with it, else off.

        Raises :class:`~embedsearch.errors.DataError`.
        """
        if amp not in ("auto", "off", "bf16", "fp16"):
            raise DataError(f"there is no amp {amp!r}; there are auto, off, bf16, fp16")
        if amp == "fp16" and device.type == "cpu":
            raise DataError("fp16 needs a GPU; take bf16, or off")
        self.name = _usual(device) if amp == "auto" else amp
        self._device = device
        self._type = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == "fp16")

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Within it matrices are multiplied in the narrower numbers."""
        if self._type is None:
            yield
            return
        with torch.autocast(self._device.type, dtype=self._type):
            yield

    def backward(self, loss: Tensor) -> None:
        scaled: Any = self.scaler.scale(loss)
        scaled.backward()

    def step(self, optimizer: torch.optim.Optimizer, module: nn.Module, clip: float) -> None:
        """One step, gradients cut down to the length ``clip`` where that is over 0."""
        if clip:
            self.scaler.unscale_(optimizer)
            parted.clip(module, clip)
        self.scaler.step(optimizer)
        self.scaler.update()


def _usual(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "off"
