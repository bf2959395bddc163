"""Words that lie to one another as a sentence encoder has them: a loss of the text tower alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from embedsearch.training.losses.distillation import relations
from embedsearch.training.teachers.sentences import SentenceRows


def word_relations(tower: nn.Module, known: SentenceRows, count: int, seed: list[int]) -> Tensor:
    """Distances and angles among ``count`` words drawn by ``seed``, so alike on every rank."""
    drawn = np.random.default_rng(seed).permutation(len(known.texts))[:count]
    mine: Tensor = tower([known.texts[place] for place in drawn])
    return relations(mine, torch.from_numpy(known.of(drawn)).to(mine.device))
