"""The loop: broken off anywhere it goes on exactly there; schedules, means, early stopping."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from embedsearch.errors import DataError
from embedsearch.training.loop import checkpoints
from embedsearch.training.loop.loop import Loop
from embedsearch.training.loop.steps import (
    Group,
    Precision,
    RunningMean,
    make_optimizer,
    rate_share,
)
from embedsearch.training.recipe import Optimisation

SETTINGS = Optimisation(
    epochs=4, ema=0.9, checkpoint_minutes=0, accumulate=2, clip=1.0, warm_up=1, head_decay=0.01
)


class Broken(Exception):
    """Stands for whatever ends a process."""


class Small:
    """A network with dropout, one layer of which opens late, and its loop."""

    def __init__(self, folder: Path, settings: Optimisation = SETTINGS, *, breaks: int = 0) -> None:
        torch.manual_seed(3)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))
        self.calls, self.breaks = 0, breaks
        self.scores = iter(range(100))
        first, last = self.module[0], self.module[3]
        self.loop = Loop(
            self.module,
            [
                Group(list(first.parameters()), 0.01, opens=1.5),
                Group(list(last.parameters()), 0.02),
            ],
            self.loss,
            self.batches,
            10,
            settings,
            folder=folder,
            device=torch.device("cpu"),
            told="the recipe",
            watch=self.watch,
            score="score",
        )

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        self.calls += 1
        if self.calls == self.breaks:
            raise Broken
        loss = (self.module(batch) - batch[:, :2]).square().mean()
        return loss, {"squared": loss.item()}

    def batches(self, first: int) -> Iterator[Tensor]:
        number = first
        while True:
            yield torch.randn(6, 4, generator=torch.Generator().manual_seed(number))
            number += 1

    def watch(self) -> dict[str, float]:
        with torch.no_grad():
            return {"score": -self.module(torch.ones(2, 4)).square().sum().item()}


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize("breaks", [4, 17, 33])  # before a layer opens, after it, late
def test_a_run_that_was_broken_off_ends_as_one_that_was_not(
    tmp_path: Path, optimizer: str, breaks: int
) -> None:
    settings = replace(SETTINGS, optimizer=optimizer)
    whole = Small(tmp_path / "whole", settings)
    expected = whole.loop.run()
    with pytest.raises(Broken):
        Small(tmp_path / "broken", settings, breaks=breaks).loop.run()
    resumed = Small(tmp_path / "broken", settings)
    history = resumed.loop.run(resume=True)
    assert resumed.calls < 40
    assert history.losses == expected.losses
    assert history.epochs == expected.epochs
    assert len(expected.losses) == 20
    assert same_weights(whole.module, resumed.module)


def test_a_run_that_is_complete_trains_no_more(tmp_path: Path) -> None:
    whole = Small(tmp_path)
    whole.loop.run()
    again = Small(tmp_path)
    again.loop.run(resume=True)
    assert again.calls == 0
    assert same_weights(whole.module, again.module)


def test_the_first_interrupt_finishes_the_step_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    small = Small(tmp_path, replace(SETTINGS, checkpoint_minutes=60))
    plain = small.loss

    def loss(batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        if small.calls == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(batch)

    small.loop._loss = loss
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        small.loop.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoints.load(tmp_path, "the recipe").step == 4
    resumed = Small(tmp_path, replace(SETTINGS, checkpoint_minutes=60))
    assert resumed.loop.run(resume=True).losses == Small(tmp_path / "whole").loop.run().losses


def test_a_checkpoint_of_another_recipe_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    Small(tmp_path).loop.run()
    with pytest.raises(DataError, match="the recipe then, another now"):
        checkpoints.load(tmp_path, "another")
    with pytest.raises(DataError, match="no checkpoint to resume from"):
        checkpoints.load(tmp_path / "elsewhere", "the recipe")
    (tmp_path / checkpoints.FILE).write_bytes(b"PK cut short")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        checkpoints.load(tmp_path, "the recipe")


def test_training_stops_when_patience_is_over_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    scores = [0.1, 0.5, 0.4, 0.3, 0.2, 0.1]
    small = Small(tmp_path, replace(SETTINGS, epochs=6, patience=2, ema=0.0))
    seen: list[dict[str, Tensor]] = []

    def watch() -> dict[str, float]:
        seen.append({n: v.clone() for n, v in small.module.state_dict().items()})
        return {"score": scores[len(seen) - 1]}

    small.loop._watch = watch
    history = small.loop.run()
    assert [epoch["score"] for epoch in history.epochs] == scores[:4]
    assert all(torch.equal(v, seen[1][n]) for n, v in small.module.state_dict().items())


def test_the_schedule_warms_up_and_falls_as_half_a_cosine() -> None:
    settings = Optimisation(epochs=4, warm_up=1.0)
    shares = [rate_share(settings, step, step, 10) for step in range(40)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[20] == pytest.approx(0.5)
    assert max(shares) == shares[9] and shares[39] < 0.01
    constant = replace(settings, schedule="constant")
    assert [rate_share(constant, step, step, 10) for step in (0, 9, 39)] == [0.1, 1, 1]
    # What opens at step 20 warms up from there.
    assert rate_share(constant, 20, 0, 10) == 0.1


def test_a_layer_that_opens_later_keeps_its_weights_until_then(tmp_path: Path) -> None:
    small = Small(tmp_path, replace(SETTINGS, epochs=1))
    before = small.module[0].weight.detach().clone()
    small.loop.run()
    assert torch.equal(small.module[0].weight, before)
    longer = Small(tmp_path / "longer")
    longer.loop.run()
    assert not torch.equal(longer.module[0].weight, before)


def test_a_running_mean_is_the_mean_of_what_it_saw() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    mean = RunningMean(module, 0.5)
    nn.init.constant_(module.weight, 3.0)
    mean.update(module, 100)
    assert mean.values["weight"].item() == pytest.approx(2.0)
    with mean.in_place(module):
        assert module.weight.item() == pytest.approx(2.0)
    assert module.weight.item() == pytest.approx(3.0)


def test_what_cannot_be_is_refused_by_name() -> None:
    parameter = [Group([nn.Parameter(torch.zeros(1))], 0.1)]
    with pytest.raises(DataError, match="no optimizer 'lion'; there are sgd, adamw, rmsprop"):
        make_optimizer(parameter, Optimisation(optimizer="lion"))
    with pytest.raises(DataError, match="everything is frozen"):
        make_optimizer([], Optimisation())
    with pytest.raises(DataError, match="fp16 needs a GPU"):
        Precision("fp16", torch.device("cpu"))
    with pytest.raises(DataError, match="no schedule"):
        rate_share(Optimisation(schedule="steps"), 0, 0, 1)


def test_bf16_computes_in_narrower_numbers_and_trains(tmp_path: Path) -> None:
    small = Small(tmp_path, replace(SETTINGS, amp="bf16", epochs=1))
    seen = []
    small.module.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    losses = small.loop.run().losses
    assert torch.bfloat16 in seen
    exact = Small(tmp_path / "exact", replace(SETTINGS, amp="off", epochs=1)).loop.run().losses
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.1)
