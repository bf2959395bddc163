"""Contrast between pictures and texts."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax


def grouped_info_nce(
    rows: Tensor, columns: Tensor, groups: Tensor, scale: Tensor | float, weights: Tensor
) -> Tensor:
    """Symmetric InfoNCE in which members of one group are never each other's negatives.

    ``rows`` and ``columns`` are unit vectors, float32 (N, dim), pair by pair; ``groups`` int64
    (N,): pairs with one number are about the same thing (equal captions, one label), and each of
    them is as right an answer as the other. ``scale`` is the inverse temperature, ``weights``
    float32 (N,) how much each pair counts. Returns the weighted mean cross-entropy of both
    directions. With every pair in a group of its own this is CLIP's loss; with groups it is
    UniCL's (Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", 2022, eq. 2
    and 3).
    """
    similarities = scale * rows @ columns.T
    right = (groups[:, None] == groups[None, :]).to(similarities.dtype)
    right = right / right.sum(dim=1, keepdim=True)  # symmetric in the groups, so good for both ways
    forth = -(right * log_softmax(similarities, dim=1)).sum(1)
    back = -(right * log_softmax(similarities.T, dim=1)).sum(1)
    return ((forth + back) / 2 * weights).sum() / weights.sum()


def soft_info_nce(
    rows: Tensor, columns: Tensor, alike: Tensor, scale: Tensor | float, weights: Tensor
) -> Tensor:
    """Symmetric InfoNCE whose right answers are shares: another's caption that says nearly the same
    is nearly as right as one's own.

    ``rows`` and ``columns`` are unit vectors, float32 (N, dim), pair by pair; ``alike`` are logits,
    float32 (N, N), symmetric: how alike the texts are to whom knows. Returns the weighted mean
    cross-entropy of both directions (Gao et al., "SoftCLIP", 2023, eq. 5 to 7, with the texts
    alone as the guide).
    """
    similarities = scale * rows @ columns.T
    right = alike.softmax(dim=1)
    forth = -(right * log_softmax(similarities, dim=1)).sum(1)
    back = -(right * log_softmax(similarities.T, dim=1)).sum(1)
    return ((forth + back) / 2 * weights).sum() / weights.sum()
