"""``finetune --task detect``: a detector of one's own objects, which bears to see them in part."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embedsearch.encoders.torch_tower import choose_device
from embedsearch.errors import DataError
from embedsearch.settings import Device
from embedsearch.training.detect.loading import licence_of, load
from embedsearch.training.detect.looks import Sample
from embedsearch.training.detect.measuring import ap50, covered
from embedsearch.training.detect.network import Network
from embedsearch.training.detect.recipe import Occlusion, Recipe
from embedsearch.training.detect.samples import Batches, Split, guessed, split
from embedsearch.training.evaluate.detection import FROM, Photo, pixels_of, scaled
from embedsearch.training.loop.checkpoints import FILE, History
from embedsearch.training.loop.loop import Loop
from embedsearch.training.loop.steps import Group
from embedsearch.training.recipe_files import to_toml

__all__ = ["Outcome", "Recipe", "finetune"]

TRAINING = "training"
REPORT, RECIPE = "report.json", "recipe.toml"
Progress = Callable[[str, int, int], None]
Tell = Callable[[str], None]


@dataclass
class Outcome:
    """What came of a run. Figures are AP50 by the share of each object that is covered."""

    photos: int
    """Trained on, those without labels among them."""
    measured_on: int
    before: dict[str, float] | None
    """Of where it started; ``None`` where it did not know the labels yet."""
    after: dict[str, float]
    without: dict[str, float] | None = None
    """Of a second run without occlusion, where the recipe asks for one."""
    history: History = field(default_factory=History)

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Columns and rows for people."""
        sides = {"before": self.before, "trained": self.after, "without occlusion": self.without}
        known = {name: figures for name, figures in sides.items() if figures is not None}
        rows = [
            (f"AP50, {share} % covered", *(f"{figures[share]:.3f}" for figures in known.values()))
            for share in self.after
        ]
        return [f"{self.measured_on} photos", *known], rows

    def as_json(self) -> dict[str, Any]:
        told = {key: value for key, value in vars(self).items() if key != "history"}
        return told | {"epochs": self.history.epochs, "seconds": round(self.history.seconds, 1)}


def finetune(
    recipe: Recipe,
    out: Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    progress: Progress = lambda what, done, total: None,
    tell: Tell = lambda line: None,
) -> Outcome:
    """Train by ``recipe`` and write a detector folder, which ``--detector DIR`` takes.

    Raises :class:`~embedsearch.errors.DataError` and :class:`~embedsearch.errors.EnricherError`.
    """
    if recipe.optimisation.threads:
        torch.set_num_threads(recipe.optimisation.threads)
    parts = split(recipe.data)
    if not parts.measured:
        raise DataError("no photo is left to measure on; raise data.held_out, or name data.check")
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(to_toml(recipe), encoding="utf-8")
    run = _Run(recipe, parts, out, choose_device(device), progress, tell)
    outcome = run.train(resume)
    if recipe.occlusion.compare:
        tell("again, without occlusion")
        plain = replace(recipe, occlusion=Occlusion())
        again = _Run(plain, parts, out / "without-occlusion", run.device, progress, tell)
        outcome.without = again.train(resume).after
    told = json.dumps(outcome.as_json(), indent=2) + "\n"
    (out / REPORT).write_text(told, encoding="utf-8")
    return outcome


class _Run:
    def __init__(
        self,
        recipe: Recipe,
        parts: Split,
        out: Path,
        device: torch.device,
        progress: Progress,
        tell: Tell,
    ) -> None:
        self.recipe, self.parts, self.out, self.device = recipe, parts, out, device
        self.progress, self.tell = progress, tell

    def train(self, resume: bool) -> Outcome:
        recipe = self.recipe
        met = sorted({thing.label for photo in self.parts.learned for thing in photo.things})
        torch.manual_seed(recipe.optimisation.seed)
        network = load(recipe.model, met, recipe.data.own, self.device)
        network.module.eval()
        photos = [*self.parts.learned, *self._guesses(network)]
        new = network.new_parameters()
        before = None
        if not recipe.model.scratch and not new:
            before = covered(network.detect, self.parts.measured, network.size)
        batches = Batches(
            photos,
            network.labels,
            network.size,
            recipe.optimisation.batch,
            recipe.looks,
            recipe.occlusion,
            recipe.optimisation.seed,
        )
        loop = self._loop(network, batches, new)
        can_go_on = resume and (self.out / TRAINING / FILE).is_file()
        history = loop.run(resume=can_go_on)
        self.out.mkdir(parents=True, exist_ok=True)
        network.write(self.out, self._about(len(photos)))
        after = covered(network.detect, self.parts.measured, network.size)
        return Outcome(len(photos), len(self.parts.measured), before, after, history=history)

    def _loop(self, network: Network, batches: Batches, new: Sequence[Any]) -> Loop:
        settings, known = self.recipe.optimisation, {id(parameter) for parameter in new}
        scratch, head_only = self.recipe.model.scratch, self.recipe.model.head_only
        trained = network.head() if head_only else list(network.module.parameters())
        old = [p for p in trained if id(p) not in known and p.requires_grad]
        groups = [
            Group(old, settings.head_rate if scratch else settings.rate, settings.decay),
            Group(list(new), settings.head_rate, settings.head_decay),
        ]
        return Loop(
            network.module,
            groups,
            partial(_loss, network, self.recipe.occlusion.repulsion),
            partial(self._told_batches, batches),
            len(batches),
            settings,
            folder=self.out / TRAINING,
            device=self.device,
            told=self._told(batches, network),
            watch=lambda: {"AP50": ap50(network.detect, self.parts.measured, network.size)},
            score="AP50",
            tell=self.tell,
        )

    def _told_batches(self, batches: Batches, step: int) -> Any:
        total = len(batches) * self.recipe.optimisation.epochs
        for number, batch in enumerate(batches(step), step):
            self.progress("training", number, total)
            yield batch

    def _guesses(self, network: Network) -> list[Photo]:
        if not self.recipe.data.photos:
            return []

        def find(photo: Photo) -> Any:
            pixels, factor = pixels_of(photo, network.size)
            return scaled(network.detect(pixels, max(FROM, self.recipe.data.sure)), factor)

        return guessed(self.recipe.data, find, partial(self.progress, "looking"))

    def _told(self, batches: Batches, network: Network) -> str:
        """What must be the same for a run to go on."""
        recipe = asdict(self.recipe)
        recipe["optimisation"].pop("checkpoint_minutes")
        recipe["optimisation"].pop("threads")
        told = {**recipe, "labels": network.labels, "batches": len(batches)}
        return json.dumps(told, indent=1, default=str)

    def _about(self, photos: int) -> dict[str, Any]:
        about, model = self.recipe.about, self.recipe.model
        return {
            "name": about.name or self.out.resolve().name,
            "licence": about.licence or licence_of(model),
            "description": about.description or f"{model.start} trained on {photos} photos",
        }


def _loss(
    network: Network, repulsion: float, batch: list[Sample]
) -> tuple[Tensor, dict[str, float]]:
    parts = network.losses(batch, repulsion)
    total = torch.stack(list(parts.values())).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}
