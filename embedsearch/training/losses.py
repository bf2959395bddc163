"""Contrastive losses."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax


def grouped_info_nce(images: Tensor, texts: Tensor, groups: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE in which members of one group are never each other's negatives.

    ``images`` and ``texts`` are unit rows, float32 (N, dim), pair by pair; ``groups`` int64 (N,):
    pairs with one number are about the same thing (equal captions, one label), and each of them
    is as right an answer as the other. ``scale`` is the inverse temperature. Returns the mean
    cross-entropy of both directions. With every pair in a group of its own this is CLIP's loss;
    with groups it is UniCL's (Yang et al., "Unified Contrastive Learning in Image-Text-Label
    Space", 2022, eq. 2 and 3).
    """
    similarities = scale * images @ texts.T
    right = (groups[:, None] == groups[None, :]).to(similarities.dtype)
    right = right / right.sum(dim=1, keepdim=True)  # symmetric in the groups, so good for both ways
    image_to_text = -(right * log_softmax(similarities, dim=1)).sum(1).mean()
    text_to_image = -(right * log_softmax(similarities.T, dim=1)).sum(1).mean()
    return (image_to_text + text_to_image) / 2
