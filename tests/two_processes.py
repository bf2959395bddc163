"""What two processes do in tests: ``torchrun --nproc-per-node 2 tests/two_processes.py MODE OUT``.

MODE is ``all``, everything one after another; ``trained``, one run; or that run, in which something
dies: ``killed``, the second process, once; ``lost``, those of this machine, torchrun too.

Also imported, so that one process alone can do the same.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from colour_encoder import ColourEncoder
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, normalize

from embedsearch.training.augment.mixing import mix_batch
from embedsearch.training.augment.policies import Mix
from embedsearch.training.distill.live_teacher import LiveTeacher
from embedsearch.training.distributed import collectives, parted, placement, replicas
from embedsearch.training.distributed.ranks import ranks
from embedsearch.training.distributed.rendezvous import joined
from embedsearch.training.looks.batches import Batch
from embedsearch.training.loop.loop import Loop
from embedsearch.training.loop.steps import Group
from embedsearch.training.losses.distillation import distances, maps
from embedsearch.training.networks.towers import ImageTower
from embedsearch.training.recipe import Optimisation

CPU = torch.device("cpu")
SETTINGS = Optimisation(epochs=2, schedule="constant", warm_up=0.0, amp="off", seed=3, clip=0.5)
STEPS_AN_EPOCH = 3
KILLED_AT = 4
ALONE = "alone"
"""Folder of a run that one process began."""


class Contrast(nn.Module):
    """Pictures against pictures, each of a batch told from all the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 5, 3, stride=2), nn.ReLU()),
        )
        stages = [(f"stage.{number}", module) for number, module in enumerate(network)]
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.image = ImageTower(network, stages, pool, nn.Linear(5, 4), sequential=True)
        self.image.to(memory_format=torch.channels_last)  # as in every run
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def loss(self, pixels: Tensor) -> tuple[Tensor, dict[str, float]]:
        rows = collectives.gather_with_gradient(self.image(pixels))
        scores = self.log_scale.exp() * rows @ rows.roll(1, 0).T
        found = cross_entropy(scores, torch.arange(len(rows)))
        return found, {"contrast": found.item()}


class Mixed(Contrast):
    """The same, pictures and what they are told from mixed with those before them."""

    def loss(self, pixels: Tensor) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng(0)
        before = collectives.before(pixels)
        laid, shares = mix_batch(pixels, torch.eye(8), "cutmix", 1.0, rng, before=before)
        rows = collectives.gather_with_gradient(self.image(laid))
        found = cross_entropy(self.log_scale.exp() * rows @ rows.roll(1, 0).T, shares)
        return found, {"contrast": found.item()}


class InPieces(Contrast):
    """The same, the pictures passing in pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.image.take_in_pieces(2)


class Hinted(Contrast):
    """The same, and what the first stage gives is to be what another network's gives."""

    def loss(self, pixels: Tensor) -> tuple[Tensor, dict[str, float]]:
        weight = torch.randn((4, 3, 3, 3), generator=torch.Generator().manual_seed(1))
        values = self.image.run_stages(pixels, 0, 1)
        apart = maps(values, conv2d(pixels, weight).relu())
        rows = collectives.gather_with_gradient(self.image.forward_from(values, 1))
        scores = self.log_scale.exp() * rows @ rows.roll(1, 0).T
        found = cross_entropy(scores, torch.arange(len(rows))) + apart
        return found, {"hinted": found.item()}


class Taught(Contrast):
    """Pictures are to lie to one another as a teacher has them that is asked live, mixed before."""

    def loss(self, pixels: Tensor) -> tuple[Tensor, dict[str, float]]:
        looks = (pixels * 40 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        nobody = torch.full((8,), -1)
        batch = Batch(0, looks, None, [], nobody, torch.ones(8), nobody, np.zeros(8, np.int64))
        teacher = LiveTeacher(ColourEncoder(), size=9, mixes=(Mix("cutmix", 50.0, 1.0),))
        seen, said = teacher.looked(batch, CPU)
        values = seen.images.permute(0, 3, 1, 2) / 128 - 1
        rows = normalize(collectives.gather_with_gradient(self.image(values)), dim=1)
        found = self.log_scale.exp() * distances(rows, collectives.gather(said))
        return found, {"taught": found.item()}


def batches(first: int) -> Iterator[Tensor]:
    """This rank's share of batches of eight that depend on their number alone."""
    for number in range(first, 2**31):
        whole = torch.randn((8, 3, 9, 9), generator=torch.Generator().manual_seed(number))
        yield torch.stack(list(collectives.share(list(whole))))


def gradients(
    strategy: Any, accumulate: int = 1, kind: type[Contrast] = Contrast
) -> dict[str, list[float]]:
    """Of one step, of the whole batch, by the names of the parameters."""
    module = kind()
    placement.place(module, CPU, strategy, pieces=4)
    replica = replicas.wrap(module, strategy)
    for number, batch in zip(range(accumulate), batches(0), strict=False):
        with replicas.syncing(replica, number == accumulate - 1):
            replica(module.loss, batch)[0].backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if strategy == "pipeline":
        zeros = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
        found = zeros | found
    told = {name: value.flatten().tolist() for name, value in parted.whole(found, module).items()}
    placement.leave_pipeline()
    return told


class Stopped(Exception):
    """Raised where a run is broken off."""


def trained(
    folder: Path,
    strategy: Any = "ddp",
    *,
    dies: str = "",
    stops: bool = False,
    resume: bool = False,
    thaws: bool = False,
    **changed: Any,
) -> dict[str, Any]:
    """The losses of a run of a few steps, and the weights that it ends with. ``dies``: something
    is killed on the way; ``stops``: all give up there; ``thaws``: the first convolution and the
    number by itself stay as they are, the second convolution does in the first epoch."""
    module = Contrast()
    groups = [Group(list(module.parameters()), 0.05)]
    if thaws:
        module.requires_grad_(False)
        second = list(module.image.stages[1][1].parameters())
        groups = [Group(second, 0.05, opens=1.0), Group(list(module.image.head.parameters()), 0.05)]
    settings = replace(SETTINGS, strategy=strategy, **changed)
    placement.place(module, CPU, strategy, pieces=4)

    def given(first: int) -> Iterator[Tensor]:
        for number, batch in enumerate(batches(first), first):
            me = ranks()
            if number == KILLED_AT and dies == "lost":
                os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            if number == KILLED_AT and dies == "killed" and me.rank == 1 and not me.restarts:
                os.kill(os.getpid(), signal.SIGKILL)
            if stops and number == KILLED_AT:
                raise Stopped
            yield batch

    @torch.no_grad()
    def watch() -> dict[str, float]:
        return {"score": float(module.image(next(batches(99))).sum())}

    loop = Loop(
        module,
        groups,
        module.loss,
        given,
        STEPS_AN_EPOCH,
        settings,
        folder=folder,
        device=CPU,
        watch=watch,
        score="score",
    )
    try:
        history = loop.run(resume=resume)
    except Stopped:
        placement.leave_pipeline()
        return {}
    weights = {name: value.flatten().tolist() for name, value in module.state_dict().items()}
    return {"losses": history.losses, "epochs": history.epochs, "weights": weights}


def _everything(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = {
        f"gradients {strategy}": gradients(strategy) for strategy in placement.STRATEGIES
    }
    for strategy in placement.STRATEGIES:
        told[f"gradients mixed {strategy}"] = gradients(strategy, kind=Mixed)
        told[f"gradients taught {strategy}"] = gradients(strategy, kind=Taught)
    for strategy in ("ddp", "fsdp"):
        told[f"gradients hinted {strategy}"] = gradients(strategy, kind=Hinted)
        told[f"gradients in pieces {strategy}"] = gradients(strategy, kind=InPieces)
    told["gradients accumulated"] = gradients("ddp", accumulate=2)
    told["gradients accumulated fsdp"] = gradients("fsdp", accumulate=2)
    for strategy in placement.STRATEGIES:
        told[f"trained {strategy}"] = trained(out / strategy, strategy, ema=0.5)
        trained(out / f"stopped {strategy}", strategy, ema=0.5, stops=True)
        told[f"resumed {strategy}"] = trained(
            out / f"stopped {strategy}", strategy, ema=0.5, resume=True
        )
        shutil.copytree(out / ALONE, out / f"alone {strategy}", dirs_exist_ok=True)
        collectives.collect(None)  # nobody begins before the copy is there
        told[f"resumed {strategy} of one"] = trained(
            out / f"alone {strategy}", strategy, ema=0.5, resume=True
        )
        told[f"thawed {strategy}"] = trained(out / f"thawed {strategy}", strategy, thaws=True)
    told["trained unbroken"] = trained(out / "unbroken")
    return told


def main() -> None:
    mode, out = sys.argv[1], Path(sys.argv[2])
    with joined(CPU) as me:
        if mode == "all":
            told = _everything(out)
        else:
            told = trained(out / "broken", dies=mode, resume=me.restarts > 0)
        told["restarts"] = me.restarts
        if me.is_main:
            (out / f"{mode}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
