"""Fitting the heads of ``mini`` to features and texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from embedsearch.encoders.text import UNKNOWN, token_ids
from embedsearch.errors import DataError
from embedsearch.training.data.photos import Photo, all_texts, draw_text
from embedsearch.training.losses import grouped_info_nce
from embedsearch.training.networks.heads import Heads
from embedsearch.training.networks.token_table import TokenTable


@dataclass(frozen=True)
class Recipe:
    """All that decides how the heads come out, beside data and starting weights."""

    dim: int = 256
    hidden: int = 512
    dropout: float = 0.1
    temperature: float = 0.05
    """Where the learned temperature starts."""
    epochs: int = 40
    """Passes over the photos with captions."""
    captioned: int = 384
    """Photos with captions in a batch. They are the harder and the more useful ones."""
    labelled: int = 384
    """Photos with labels only in a batch."""
    label_weight: float = 0.5
    """How much a labelled photo counts beside one with captions."""
    view_weight: float = 0.3
    """How much it counts that two views of a photo, or two photos of one label, are near."""
    view_temperature: float = 0.1
    rate: float = 1e-3
    table_rate: float = 2e-3
    decay: float = 1.0
    """Weight decay of everything but the table."""
    warm_up: int = 50
    """Steps."""
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Pairs of a photo and a text, N of them."""

    features: Tensor
    """Of one view of each photo, float32 (N, 1280)."""
    others: Tensor
    """Of another view, the same shape."""
    ids: Tensor
    """int64 (tokens of all texts,)."""
    offsets: Tensor
    """int64 (N,)."""
    groups: Tensor
    """int64 (N,); pairs about the same thing share a number."""
    weights: Tensor
    """float32 (N,)."""


class Texts:
    """Tokenised texts over a table cut down to the tokens that occur in training.

    Most of the 29,528 rows never see a gradient; leaving them out makes a step thirty times
    cheaper and changes nothing.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        unknown = tokenizer.token_to_id(UNKNOWN)
        known = {text: [i for i in token_ids(tokenizer, text) if i != unknown] for text in texts}
        self.used: list[int] = sorted({i for ids in known.values() for i in ids})
        """Rows of the whole table, in the order of the small one."""
        place = {row: number for number, row in enumerate(self.used)}
        self._ids = {text: [place[i] for i in ids] for text, ids in known.items()}

    def bag(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Rows in the small table, int64 (tokens of all texts,), and where each text begins."""
        bags = [self._ids[text] for text in texts]
        offsets = np.cumsum([0, *map(len, bags)])[:-1]
        return torch.tensor([i for bag in bags for i in bag]), torch.from_numpy(offsets)


def fit_heads(
    photos: Sequence[Photo],
    features: NDArray[np.float16],
    table: TokenTable,
    tokenizer: Tokenizer,
    recipe: Recipe,
    held_out: Collection[int] = (),
    told: Callable[[int, float, Heads, Texts], None] = lambda epoch, loss, heads, texts: None,
) -> tuple[Heads, TokenTable]:
    """Fit the heads: those after the last epoch, and the table with its trained rows put back.

    ``features`` is float16 (views, N, 1280), of the photos in their order, not yet scaled. Photos
    at the places ``held_out`` are not trained on; their texts are in the small table. ``told``
    hears after each epoch its number from 1, the mean loss, and the heads and texts as they are.
    Raises :class:`~embedsearch.errors.DataError` where no photo has captions.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    texts = Texts(tokenizer, all_texts(photos))
    heads = Heads(
        torch.from_numpy(table.rows[texts.used]),
        dim=recipe.dim,
        hidden=recipe.hidden,
        dropout=recipe.dropout,
        temperature=recipe.temperature,
    )
    captioned, labelled = _places(photos, held_out)
    if not len(captioned):
        raise DataError("no photo to train on has captions")
    heads.image.standardise(scale_features(features[0, np.sort([*captioned, *labelled])]))
    optimizer = _optimizer(heads, recipe)
    recipe = replace(recipe, captioned=min(recipe.captioned, len(captioned)))
    steps = len(captioned) // recipe.captioned * recipe.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate_share(step, steps, recipe.warm_up)
    )
    for epoch in range(1, recipe.epochs + 1):
        heads.train()
        losses = []
        order = rng.permutation(captioned)
        batches = _batches(photos, features, texts, order, labelled, recipe, rng)
        for batch in batches:
            loss = _loss(heads, batch, recipe)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        heads.eval()
        told(epoch, float(np.mean(losses)), heads, texts)
    rows = table.rows.copy()
    rows[texts.used] = heads.text.table.weight.detach().numpy()
    return heads, TokenTable(table.tokens, rows)


def scale_features(features: NDArray[np.float16] | NDArray[np.float32]) -> Tensor:
    """Features of length sqrt(1280), so that a channel is about 1: float32 (..., 1280)."""
    scaled = torch.from_numpy(features.astype(np.float32))
    return torch.nn.functional.normalize(scaled, dim=-1) * math.sqrt(scaled.shape[-1])


def _batches(
    photos: Sequence[Photo],
    features: NDArray[np.float16],
    texts: Texts,
    order: NDArray[np.int64],
    labelled: NDArray[np.int64],
    recipe: Recipe,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """One epoch: the captioned photos in ``order``, beside a random draw of the labelled ones."""
    for start in range(0, len(order) - recipe.captioned + 1, recipe.captioned):
        others = rng.choice(labelled, min(recipe.labelled, len(labelled)), replace=False)
        places = np.concatenate([order[start : start + recipe.captioned], others])
        views = rng.integers(len(features), size=(2, len(places)))
        captioned = np.arange(len(places)) < len(places) - len(others)
        drawn = [draw_text(photos[place], rng) for place in places]
        about = [photos[place].label or text for place, text in zip(places, drawn, strict=True)]
        yield Batch(
            scale_features(features[views[0], places]),
            scale_features(features[views[1], places]),
            *texts.bag(drawn),
            torch.tensor(_groups(about)),
            torch.where(torch.from_numpy(captioned), 1.0, recipe.label_weight),
        )


def _loss(heads: Heads, batch: Batch, recipe: Recipe) -> Tensor:
    """Photos against texts, and one view of the photos against another."""
    pictures = heads.image(batch.features)
    words = heads.text(batch.ids, batch.offsets)
    loss = grouped_info_nce(pictures, words, batch.groups, heads.scale(), batch.weights)
    others = heads.image(batch.others)
    even = torch.ones_like(batch.weights)
    scale = 1 / recipe.view_temperature
    nearness = grouped_info_nce(pictures, others, batch.groups, scale, even)
    return loss + recipe.view_weight * nearness


def _places(
    photos: Sequence[Photo], held_out: Collection[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the photos to train on: with captions, and with labels only."""
    kept = [place for place in range(len(photos)) if place not in held_out]
    captioned = [place for place in kept if photos[place].captions]
    labelled = [place for place in kept if not photos[place].captions]
    return np.array(captioned, np.int64), np.array(labelled, np.int64)


def _groups(about: Sequence[str]) -> list[int]:
    """A number for each pair; pairs about the same thing share theirs."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(what, len(numbers)) for what in about]


def _optimizer(heads: Heads, recipe: Recipe) -> torch.optim.Optimizer:
    table = [heads.text.table.weight]
    others = [parameter for parameter in heads.parameters() if parameter is not table[0]]
    return torch.optim.AdamW(
        [
            {"params": table, "lr": recipe.table_rate, "weight_decay": 0.0},
            {"params": others, "lr": recipe.rate, "weight_decay": recipe.decay},
        ],
        fused=True,
    )


def _rate_share(step: int, steps: int, warm_up: int) -> float:
    """Linear warm-up, then half a cosine down to 0."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))
