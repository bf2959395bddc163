"""How far a student agrees with its teacher, and the teacher read as a student is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from embedsearch.encoders.base import Embeddings

NEAREST = 10


def agreement(student: Embeddings, teacher: Embeddings) -> dict[str, float]:
    """Figures of the same photos by both, unit rows (N, dim) each, the dims as they are.

    ``cosine``: the mean between both embeddings of a photo, where the dims are equal.
    ``relations``: Pearson's correlation of the cosines of all pairs. ``neighbours_kept``: of a
    photo's ten nearest by the teacher (fewer where there are fewer), the share that the student
    has among its ten. Nothing for fewer than three photos.
    """
    if len(student) < 3:
        return {}
    figures: dict[str, float] = {}
    if student.shape == teacher.shape:
        figures["cosine"] = float((student * teacher).sum(1).mean())
    mine, theirs = student @ student.T, teacher @ teacher.T
    pairs = np.triu_indices(len(student), 1)
    if mine[pairs].std() > 0 and theirs[pairs].std() > 0:
        figures["relations"] = float(np.corrcoef(mine[pairs], theirs[pairs])[0, 1])
    count = min(NEAREST, len(student) - 1)
    np.fill_diagonal(mine, -np.inf)
    np.fill_diagonal(theirs, -np.inf)
    first = np.argsort(-mine, axis=1, kind="stable")[:, :count]
    second = np.argsort(-theirs, axis=1, kind="stable")[:, :count]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(first, second, strict=True)]
    figures["neighbours_kept"] = float(np.mean(shared)) / count
    return figures


class TaughtWords:
    """An encoder's text tower, or none, as held-out figures want it."""

    def __init__(self, encode: Callable[[Sequence[str]], Embeddings] | None) -> None:
        self.text: nn.Module | None = None if encode is None else _Tower(encode)


class _Tower(nn.Module):
    def __init__(self, encode: Callable[[Sequence[str]], Embeddings]) -> None:
        super().__init__()
        self._encode = encode

    def forward(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(self._encode(list(texts)))
