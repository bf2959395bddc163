"""A run of ``finetune``: from recipe and photos to an encoder folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedsearch.encoders.base import Embeddings
from embedsearch.encoders.torch_tower import choose_device
from embedsearch.errors import DataError
from embedsearch.settings import Device, workers
from embedsearch.training.augment.adversarial import OF_GRADIENT, Attack
from embedsearch.training.augment.policies import augmentation
from embedsearch.training.data import balance
from embedsearch.training.data.photo_lists import read_photo_list, readable
from embedsearch.training.data.photo_set import photo_set
from embedsearch.training.distributed import collectives, placement
from embedsearch.training.distributed.ranks import device_of, ranks
from embedsearch.training.distributed.rendezvous import joined
from embedsearch.training.evaluate import held_out
from embedsearch.training.evaluate.held_out import SCORE, Figures
from embedsearch.training.finetune.hints import ask_for_hints
from embedsearch.training.finetune.hubs import carry_hubs, check_hubs
from embedsearch.training.finetune.objective import (
    FEATURES,
    INFO_NCE,
    OF_TEXTS,
    READS,
    VIEWS,
    Objective,
)
from embedsearch.training.finetune.pictures import ASKED, draw_neighbours
from embedsearch.training.finetune.probe import fit_probe
from embedsearch.training.finetune.recall import RecallReport, recall_report
from embedsearch.training.finetune.report import NEIGHBOURS, Outcome, write_report
from embedsearch.training.looks.batches import Batches, Plan
from embedsearch.training.looks.drawing import Looks
from embedsearch.training.looks.eye import Eye
from embedsearch.training.looks.frozen_cache import FrozenCache, cache_frozen
from embedsearch.training.loop.checkpoints import History
from embedsearch.training.loop.loop import Loop, goes_on_by_itself
from embedsearch.training.loop.new_head import standardise_new_head
from embedsearch.training.loop.unfreezing import parameter_groups
from embedsearch.training.networks.encoder import TrainableEncoder, used_at
from embedsearch.training.networks.interpolation import choose, interpolate, parse_share, weights_of
from embedsearch.training.networks.memory_format import channels_last
from embedsearch.training.networks.narrowing import narrow
from embedsearch.training.networks.start import start_from
from embedsearch.training.networks.trained_folder import TRAINING, write_trained
from embedsearch.training.recipe import Recipe
from embedsearch.training.recipe_files import to_toml, weighted

Progress = Callable[[str, int, int], None]
Tell = Callable[[str], None]
TEXT_CHECK = "text_check"
_NARROWED_ON = 512
"""So many photos show which channels others can stand in for."""


class Run:
    """One run of ``finetune``: its photos, its encoder, and what is done with them in order."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        device: Device = "auto",
        progress: Progress = lambda what, done, total: None,
        tell: Tell = lambda line: None,
    ) -> None:
        """Read the photos and load the encoder. Raises
        :class:`~embedsearch.errors.EmbedSearchError`."""
        self.recipe, self.out, self.progress, self.tell = recipe, out, progress, tell
        self.threads = workers(recipe.optimisation.threads)
        self._read_photos()
        self._load(device)
        if ranks().world == 1:  # several agree first on who keeps what
            self._prepare_looks()

    def finetune(self, *, resume: bool = False) -> Outcome:
        """Train, measure before and after, and write the encoder with its report."""
        started = time.monotonic()
        with joined(self.device) as me:
            if me.world > 1:
                placement.place(self.encoder, self.device, self.recipe.optimisation.strategy)
                with collectives.main_first():
                    self._prepare_looks()
            standardise_new_head(
                self.encoder, self.eye, self.set.kept, self.recipe.optimisation.seed
            )
            objective = self._objective()
            before_weights = weights_of(self.encoder)
            measured = range(len(self.set.photos) if len(self.set.held) else 0)
            before_embeddings = self.eye.embed(measured)
            before = self._figures(before_embeddings[self.set.held])
            self.tell(f"before: {_said(before)}")
            if self.recipe.model.narrower:
                self._narrow()
            again = goes_on_by_itself(me, self.out / TRAINING)
            history = self._train(objective, resume or again)
            share, shares = self._interpolated(before_weights)
            after_embeddings = before_embeddings
            if history.losses or self.recipe.model.narrower:
                after_embeddings = self.eye.embed(measured)
            after = self._figures(after_embeddings[self.set.held], objective)
            self.tell(f"after: {_said(after)}")
            recall = self._recall(before_embeddings, after_embeddings)
            outcome = Outcome(self.out, before, after, recall, share, shares, history)
            outcome.seconds = time.monotonic() - started
            if me.is_main:
                self._write(outcome, before_embeddings, after_embeddings)
        return outcome

    def _read_photos(self) -> None:
        data = self.recipe.data
        if not data.paths:
            raise DataError("name what to train on: a folder, a CSV or a JSONL file")
        listed = [photo for path in data.paths for photo in read_photo_list(Path(path), data.only)]
        self.set = photo_set(readable(listed, self.threads, self.tell), data)
        check = data.text_check
        self.checked = [] if check is None else read_photo_list(Path(check).expanduser())

    def _load(self, device: Device) -> None:
        model, freeze = self.recipe.model, self.recipe.freeze
        if model.narrower and (self.recipe.optimisation.epochs or freeze.cache is not None):
            raise DataError(
                "a network is made narrower in a run by itself: --epochs 0, no --cache-frozen. "
                "What that writes can be trained further."
            )
        strategy, attack = self.recipe.optimisation.strategy, self.recipe.adversarial.attack
        if ranks().world > 1 and strategy != "ddp" and attack in OF_GRADIENT:
            raise DataError(
                f"{attack} asks for the gradient of pixels, which {strategy} does not give; "
                "take --set optimisation.strategy=ddp, or another attack"
            )
        torch.manual_seed(self.recipe.optimisation.seed)
        if self.recipe.optimisation.threads:
            torch.set_num_threads(self.recipe.optimisation.threads)
        self.device = device_of(choose_device(device), ranks())
        encoder = start_from(model, model.dim)
        encoder.image.take_in_pieces(self.recipe.optimisation.pieces)
        check_hubs(model.hubs, [self.set.photos[n] for n in self.set.kept], encoder)
        self.told_hubs = encoder.told_hubs
        self.is_new = model.scratch or model.text is not None or encoder.has_new_head
        self.first = 0 if freeze.until is None else encoder.image.stage_number(freeze.until)
        self.encoder: TrainableEncoder = encoder
        if ranks().world == 1:
            encoder.to(self.device)
        channels_last(encoder.image)
        if freeze.cache is not None and self.first and not encoder.image.sequential:
            raise DataError(
                "--cache-frozen keeps what the stages before --freeze-until give, which needs a "
                "network whose stages run one after another; without --freeze-until it keeps looks"
            )

    def _narrow(self) -> None:
        """Leave channels out by what they do on some of the photos."""
        share, seed = self.recipe.model.narrower, self.recipe.optimisation.seed
        drawn = np.random.default_rng(seed).permutation(self.set.kept)[:_NARROWED_ON]
        saved = narrow(self.encoder, self.eye.batches(drawn), share)
        self.tell(f"narrower: {saved:.3f} of the multiplications left out")

    def _prepare_looks(self) -> None:
        recipe, about = self.recipe, self.encoder.about
        drawn = augmentation(recipe.data.augmentation, about.size, about.resize)
        strengths = None
        if recipe.balance.rare_strength != 1 and self.set.names:
            by_class = balance.augmentation_strengths(
                self.set.kept_labels, len(self.set.names), recipe.balance.rare_strength
            )
            strengths = np.where(self.set.labels >= 0, by_class[self.set.labels], 1).astype(
                np.float32
            )
        self.looks = Looks(self.set.photos, self.encoder, drawn, strengths)
        self.cache: FrozenCache | None = None
        if recipe.freeze.cache is not None:
            self.cache = cache_frozen(
                self.looks,
                self.first,
                views=recipe.freeze.views,
                seed=recipe.optimisation.seed,
                folder=Path(recipe.freeze.cache).expanduser(),
                threads=self.threads,
                progress=self.progress,
            )
        entered = self.first if self.cache is not None else 0
        self.eye = Eye(self.looks, self.cache, entered, self.threads)

    def _objective(self) -> Objective:
        recipe = self.recipe
        cache = Path(recipe.freeze.cache).expanduser() if recipe.freeze.cache else None
        usual = INFO_NCE if self.encoder.text is not None else "cross-entropy"
        weights = weighted(recipe.loss.losses or (usual,))
        class_weights = None
        if recipe.balance.weights != "none":
            method: Any = recipe.balance.weights
            class_weights = balance.class_weights(
                self.set.kept_labels, len(self.set.names), method, recipe.balance.beta
            )
        adversarial = recipe.adversarial
        attack = None
        if adversarial.attack is not None:
            attack = Attack(
                adversarial.attack,  # type: ignore[arg-type]
                epsilon=adversarial.epsilon,
                steps=adversarial.steps,
                tries=adversarial.tries,
                strength=adversarial.strength,
            )
        objective = Objective(
            self.encoder,
            weights if recipe.optimisation.epochs else {},
            recipe.loss,
            classes=len(self.set.names),
            class_weights=class_weights,
            first_stage=self.eye.first,
            mixes=self.looks.augmentation.mixes if recipe.optimisation.epochs else (),
            attack=attack,
            attack_share=adversarial.weight,
            hints=ask_for_hints(
                weights,
                recipe.data,
                self.set,
                cache=cache or self.out / TRAINING,
                progress=self.progress,
            ),
            places=self._plan(weights).places,
            seed=recipe.optimisation.seed,
        )
        # The encoder is where it belongs already, which under torchrun may be several places.
        objective.losses.to(self.device)
        objective.log_scale.data = objective.log_scale.data.to(self.device)
        return objective

    def _train(self, objective: Objective, resume: bool) -> History:
        recipe, settings = self.recipe, self.recipe.optimisation
        if not settings.epochs:
            return History()
        plan = self._plan(objective.weights)
        batches = Batches(
            plan,
            self.looks,
            self.cache,
            reads=bool(READS & objective.weights.keys()),
            twice=VIEWS in objective.weights,
            label_weight=recipe.loss.label_weight,
            threads=self.threads,
        )
        loop = Loop(
            objective,
            parameter_groups(objective, self.first, recipe.freeze, settings),
            objective.loss,
            batches,
            plan.batches,
            settings,
            folder=self.out / TRAINING,
            device=self.device,
            told=self._told(),
            watch=(lambda: self._watched(objective)) if len(self.set.held) else None,
            score=SCORE,
            tell=self.tell,
        )
        history = loop.run(resume=resume)
        self.encoder = objective.encoder  # FSDP leaves another one
        self.looks = replace(self.looks, encoder=self.encoder)
        self.eye = replace(self.eye, looks=self.looks)
        return history

    def _plan(self, losses: Collection[str]) -> Plan:
        settings, labels = self.recipe.optimisation, self.set.labels[self.set.kept]
        # Photos without a label only where a loss can use them.
        uses = {*OF_TEXTS, VIEWS, FEATURES} & set(losses)
        return Plan(
            self.set.photos,
            self.set.labels,
            self.set.kept[labels < 0] if uses else self.set.kept[:0],
            self.set.kept[labels >= 0],
            settings.batch,
            settings.captioned,
            self.recipe.balance.sampling,
            settings.seed,
        )

    def _told(self) -> str:
        """What must be the same for a run to go on."""
        settings = self.recipe.optimisation.what_is_learned()
        photos = f"# {len(self.set.photos)} photos, {len(self.set.names)} labels\n"
        return photos + to_toml(replace(self.recipe, optimisation=settings))

    def _watched(self, objective: Objective) -> Figures:
        return self._figures(self.eye.embed(self.set.held), objective)

    def _figures(self, pictures: Embeddings, objective: Objective | None = None) -> Figures:
        figures = held_out.measure(
            self.encoder,
            self.set.held_photos,
            pictures,
            self.set.names,
            self.set.labels[self.set.held],
            None if objective is None else objective.classifier(),
        )
        return self._with_text_check(figures)

    def _with_text_check(self, figures: Figures) -> Figures:
        """Also the search by text among photos that have nothing to do with the training; in the
        score it counts as much as all else together."""
        if not self.checked or self.encoder.text is None:
            return figures
        looks = replace(self.looks, photos=self.checked, strengths=None)
        pictures = Eye(looks, None, 0, self.threads).embed(range(len(self.checked)))
        labels = np.full(len(self.checked), -1, np.int64)
        found = held_out.measure(self.encoder, self.checked, pictures, [], labels)
        score = np.mean([told[SCORE] for told in (figures, found) if SCORE in told])
        check = {TEXT_CHECK: found[SCORE]} if SCORE in found else {}
        return {**figures, **check, SCORE: float(score)}

    def _interpolated(self, before: dict[str, torch.Tensor]) -> tuple[float, list[Figures]]:
        share = parse_share(self.recipe.wise_ft)
        if share == 1 or not self.recipe.optimisation.epochs:
            return 1.0, []
        if self.is_new:
            raise DataError(
                "wise-ft mixes the weights before and after; with a new head, text tower or "
                "weights from scratch there is nothing before"
            )
        after = weights_of(self.encoder)
        if share is not None:
            interpolate(self.encoder, before, after, share)
            return share, []
        if not len(self.set.held):
            raise DataError("wise-ft auto chooses on photos held out; hold some out")
        return choose(
            self.encoder, before, after, lambda: self._figures(self.eye.embed(self.set.held)), SCORE
        )

    def _recall(self, before: Embeddings, after: Embeddings) -> RecallReport | None:
        """Class by class: a plain probe before, one balanced as the recipe says after."""
        trained = self.set.kept[self.set.labels[self.set.kept] >= 0]
        measured = self.set.held[self.set.labels[self.set.held] >= 0]
        if len(np.unique(self.set.labels[trained])) < 2 or not len(measured):
            return None
        predicted = []
        for embeddings, cure in ((before, "none"), (after, self.recipe.balance.probe)):
            probe = fit_probe(
                embeddings[trained],
                self.set.labels[trained],
                classes=len(self.set.names),
                balance=cure,  # type: ignore[arg-type]
                seed=self.recipe.optimisation.seed,
                names=self.set.names,
            )
            predicted.append(probe.predict(embeddings[measured]))
        return recall_report(
            self.set.names,
            self.set.labels[trained],
            self.set.labels[measured],
            predicted[0],
            predicted[1],
        )

    def _write(self, outcome: Outcome, before: Embeddings, after: Embeddings) -> None:
        written = write_trained(
            used_at(self.encoder, self.recipe.model.used_at),
            self.out,
            about=self.recipe.about,
            description=f"{self.recipe.model.start}, fine-tuned on {len(self.set.kept):,} photos",
            recipe=to_toml(self.recipe),
        )
        carry_hubs(
            written,
            self.recipe,
            [self.set.photos[n] for n in self.set.kept],
            self.told_hubs,
            is_changed=self.encoder.is_changed,
            threads=self.threads,
            tell=self.tell,
        )
        write_report(outcome, self.out / TRAINING)
        if outcome.history.losses and len(self.set.held) and len(self.set.photos) > 1:
            rng = np.random.default_rng(self.recipe.data.split_seed)
            draw_neighbours(
                self.looks.plain,
                rng.permutation(self.set.held)[:ASKED].tolist(),
                before,
                after,
                [photo.label or "" for photo in self.set.photos],
                self.out / TRAINING / NEIGHBOURS,
            )


def _said(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items()) or "nothing held out"
