"""What fine-tuning makes small: photos against texts, against labels, against other looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, one_hot

from embedsearch.errors import DataError
from embedsearch.training.augment.adversarial import Attack, PixelScale, drift, frozen_statistics
from embedsearch.training.augment.policies import Mix, mix_batch
from embedsearch.training.distributed import collectives, placement
from embedsearch.training.finetune.hints import GUESSES, SENTENCES, WORDS, Hints
from embedsearch.training.looks.batches import Batch
from embedsearch.training.losses import (
    LOSSES,
    distillation,
    grouped_info_nce,
    make_loss,
    soft_info_nce,
    takes_shares,
)
from embedsearch.training.losses.word_relations import word_relations
from embedsearch.training.networks.encoder import TrainableEncoder, copied
from embedsearch.training.networks.heads import MAX_SCALE
from embedsearch.training.recipe import Loss

INFO_NCE, VIEWS, FEATURES = "info-nce", "views", "features"
ALL_LOSSES = {
    INFO_NCE: "photos against their captions, or names of their labels",
    VIEWS: "two looks at a photo, or two photos of a label, near one another",
    FEATURES: "photos have the neighbours that they have in the network before its head",
    GUESSES: "photos against names, in the shares that a classifier guesses",
    SENTENCES: "photos against captions, in the shares that a sentence encoder finds them alike",
    WORDS: "words lie to one another as a sentence encoder has them",
    **LOSSES,
}
"""What ``--loss`` can name."""
OF_TEXTS = (INFO_NCE, GUESSES, SENTENCES, WORDS)
"""Losses that need a text tower."""
READS = {INFO_NCE, SENTENCES}
"""Losses that read the captions and names of a batch."""
_OF_NO_LABEL = (*OF_TEXTS, VIEWS, FEATURES)
_NONE = Hints()
_CLASS_WEIGHTED = ("cross-entropy", "focal")


class Objective(nn.Module):
    """The encoder, the losses with what they learn, and the learned temperature."""

    def __init__(
        self,
        encoder: TrainableEncoder,
        weights: Mapping[str, float],
        settings: Loss,
        *,
        classes: int,
        class_weights: Any = None,
        first_stage: int = 0,
        mixes: tuple[Mix, ...] = (),
        attack: Attack | None = None,
        attack_share: float = 0.5,
        hints: Hints = _NONE,
        places: Callable[[int], NDArray[np.int64]] | None = None,
        seed: int = 0,
    ) -> None:
        """``weights`` are names in :data:`ALL_LOSSES` and how much each counts; ``first_stage`` is
        where batches enter the network; ``hints`` are what these losses learn from, and ``places``
        gives the photos of a step. Raises :class:`~embedsearch.errors.DataError`."""
        super().__init__()
        self.encoder = encoder
        self.weights, self.settings = dict(weights), settings
        self.losses = nn.ModuleDict(
            {
                name: _label_loss(name, encoder.dim, classes, settings, class_weights)
                for name in weights
                if name not in _OF_NO_LABEL
            }
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / settings.temperature)))
        self._classes, self._first, self._seed = classes, first_stage, seed
        self._mixes, self._attack, self._attack_share = mixes, attack, attack_share
        self._scale = PixelScale(encoder.mean, encoder.std)
        self._hints, self._places = hints, places
        self._row: dict[str, int] = {}
        if hints.sentences is not None:
            self._row = {text: number for number, text in enumerate(hints.sentences.texts)}
        # Not a part of what is trained or saved.
        self._before = [copied(encoder).requires_grad_(False).eval()] if settings.keep else []
        self._check()

    def classifier(self) -> Callable[[Tensor], Tensor] | None:
        """From embeddings to scores of classes, where a loss learns that."""
        found = (getattr(loss, "logits", None) for loss in self.losses.values())
        return cast(Callable[[Tensor], Tensor] | None, next((f for f in found if f), None))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum, and each loss by itself."""
        batch = batch.to(self.log_scale.device, self.encoder)
        images, shares = self._mixed(batch)
        total, told = self._of(images, batch, shares)
        if self._attack is not None:
            worse = self._attacked(images, batch.step)
            changed, _ = self._of(worse, batch, shares)
            told["attacked"] = changed.item()
            total = (1 - self._attack_share) * total + self._attack_share * changed
        return total, told

    def _of(
        self, images: Tensor, batch: Batch, shares: Tensor | None
    ) -> tuple[Tensor, dict[str, float]]:
        parts: dict[str, Tensor] = {}
        if FEATURES in self.weights:
            features = self.encoder.image.features_from(images, self._first)
            mine = self.encoder.image.embed_features(features)
            pictures = collectives.gather_with_gradient(mine)
            before_head = normalize(collectives.gather(features.detach()).float(), dim=1)
            near = self.settings.feature_temperature
            parts[FEATURES] = distillation.neighbours(pictures, before_head, near)
        else:
            mine = self.encoder.image.forward_from(images, self._first)
            pictures = collectives.gather_with_gradient(mine)
        if READS & self.weights.keys():
            parts |= self._of_texts(batch, pictures)
        if VIEWS in self.weights:
            assert batch.others is not None
            others = self.encoder.image.forward_from(batch.others, self._first)
            gathered = collectives.gather_with_gradient(others)
            even = torch.ones_like(batch.weights)
            near = 1 / self.settings.view_temperature
            parts[VIEWS] = grouped_info_nce(pictures, gathered, batch.groups, near, even)
        if GUESSES in self.weights:
            parts[GUESSES] = self._guessed(pictures, batch.step)
        if WORDS in self.weights:
            tower, known = cast(nn.Module, self.encoder.text), cast(Any, self._hints.words)
            seed = [self._seed, 6, batch.step]
            parts[WORDS] = word_relations(tower, known, self.settings.words, seed)
        has = batch.labels >= 0
        for name, loss in self.losses.items():
            if has.any():
                truth = batch.labels[has] if shares is None else shares[has]
                parts[name] = loss(pictures[has], truth)
        if not parts:
            # A batch without a label: nothing to learn, and every parameter to be told so.
            parts["none"] = pictures.sum() * 0
        total = torch.stack([self.weights.get(n, 0.0) * part for n, part in parts.items()]).sum()
        for before in self._before:
            with torch.no_grad():
                there = before.image.forward_from(images, self._first)
            parts["keep"] = (1 - (mine * there).sum(1)).mean()
            total = total + self.settings.keep * parts["keep"]
        return total, {name: part.item() for name, part in parts.items()}

    def _of_texts(self, batch: Batch, pictures: Tensor) -> dict[str, Tensor]:
        """Photos against the texts of their batch."""
        mine = cast(nn.Module, self.encoder.text)(batch.texts)
        texts = collectives.gather_with_gradient(mine)
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        parts: dict[str, Tensor] = {}
        if INFO_NCE in self.weights:
            parts[INFO_NCE] = grouped_info_nce(pictures, texts, batch.groups, scale, batch.weights)
        if SENTENCES in self.weights:
            known = cast(Any, self._hints.sentences)
            numbers = np.array([self._row[text] for text in batch.texts])
            rows = collectives.gather(torch.from_numpy(known.of(numbers)).to(pictures.device))
            alike = rows @ rows.T / self.settings.sentence_temperature
            parts[SENTENCES] = soft_info_nce(pictures, texts, alike, scale, batch.weights)
        return parts

    def _guessed(self, pictures: Tensor, step: int) -> Tensor:
        """Cross-entropy between the guessed shares of classes and how near their names are."""
        guesses, places = cast(Any, self._hints.guesses), cast(Any, self._places)(step)
        rng = np.random.default_rng([self._seed, 7, step])
        names = cast(nn.Module, self.encoder.text)(guesses.prompts(rng))
        shares = torch.from_numpy(guesses.shares[places].astype(np.float32)).to(pictures.device)
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        return -(shares * log_softmax(scale * pictures @ names.T, dim=1)).sum(1).mean()

    def _mixed(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Photos of a batch laid over one another, where the policy says so."""
        rng = np.random.default_rng([self._seed, 4, batch.step])
        for mix in self._mixes:
            if rng.random() < mix.chance:
                has = (batch.labels >= 0)[:, None]  # what lies over a photo may have no label
                truth = one_hot(batch.labels.clamp_min(0), self._classes) * has.float()
                before = collectives.before(batch.images)
                return mix_batch(batch.images, truth, mix.method, mix.alpha, rng, before=before)
        return batch.images, None

    def _attacked(self, images: Tensor, step: int) -> Tensor:
        assert self._attack is not None
        seed = int(np.random.SeedSequence([self._seed, 5, step]).generate_state(1)[0])
        with frozen_statistics(self.encoder):
            return self._attack(drift(self.encoder.image, images), images, self._scale, seed)

    def _check(self) -> None:
        for name in OF_TEXTS:
            if name in self.weights and self.encoder.text is None:
                raise DataError(
                    f"{name} teaches what texts mean, and this encoder has no text tower; give "
                    "it one with --text FOLDER, or take another loss"
                )
        if self._mixes and not all(takes_shares(name) for name in self.weights):
            raise DataError(
                f"{self._mixes[0].method} shares labels, which only cross-entropy and focal can "
                "take; leave it out of the augmentation, or the other losses"
            )
        if FEATURES in self.weights and placement.pipeline() is not None:
            raise DataError("features are not seen in a pipeline; take --strategy ddp or fsdp")
        if self._attack is not None and self._first:
            raise DataError("an attack changes pixels, which a cache of frozen stages has not")


def _label_loss(name: str, dim: int, classes: int, settings: Loss, class_weights: Any) -> nn.Module:
    if name not in ALL_LOSSES:
        raise DataError(f"there is no loss {name!r}; there are {', '.join(ALL_LOSSES)}")
    if classes < 2:
        raise DataError(f"{name} needs photos of at least two labels")
    options = dict(settings.options)
    if class_weights is not None:
        if name not in _CLASS_WEIGHTED:
            raise DataError(f"{name} takes no weights of classes; sample them instead")
        options["class_weights"] = class_weights
    return make_loss(name, dim=dim, classes=classes, **options)
