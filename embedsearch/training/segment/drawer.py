"""Looks at photos, and what is known of their pixels in each look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.evaluate.outlines import IGNORED
from embedsearch.training.segment.recipe import Recipe
from embedsearch.training.segment.samples import Sample
from embedsearch.training.segment.teacher import TeacherCache
from embedsearch.training.segment.views import Cut, draw_cut, shown, shown_labels, shown_logits


class Drawer:
    """Looks at samples, by number."""

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: Sequence[str],
        recipe: Recipe,
        side: int,
        teacher: TeacherCache | None,
    ) -> None:
        """``side`` is that of what is known of the pixels."""
        self.samples, self.labels, self.recipe = samples, labels, recipe
        self.side, self.teacher = side, teacher

    def rng(self, place: int, look: int) -> np.random.Generator:
        return np.random.default_rng((self.recipe.optimisation.seed, place, look))

    def pixels(self, place: int, look: int) -> np.ndarray:
        """uint8 (size, size, 3)."""
        looks, rng = self.recipe.looks, self.rng(place, look)
        cut = draw_cut(looks, rng)
        return shown(load_pixels(self.samples[place].file, looks.size), cut, looks, rng)

    def known(self, place: int, look: int) -> tuple[Tensor, Tensor | None]:
        """The truth, int64 (side, side), and the teacher's logits, (classes, side, side)."""
        cut = draw_cut(self.recipe.looks, self.rng(place, look))
        return self._truth(place, cut), self._taught(place, cut)

    def _truth(self, place: int, cut: Cut) -> Tensor:
        told = self.samples[place].truth(self.labels)
        if told is None:
            return torch.full((self.side, self.side), IGNORED, dtype=torch.int64)
        return torch.from_numpy(shown_labels(told, cut, self.side)).long()

    def _taught(self, place: int, cut: Cut) -> Tensor | None:
        if self.teacher is None or not self.teacher.knows(self.samples[place].file):
            return None
        return shown_logits(self.teacher.logits(self.samples[place].file), cut, self.side)
