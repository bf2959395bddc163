"""Losses of a linear classifier on embeddings, for labels and for shares of labels."""

from __future__ import annotations

import math
from typing import cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, one_hot

from embedsearch.errors import DataError

SCALE = 20.0
"""Where the learned inverse temperature starts. Cosines themselves are too small to be logits."""
MAX_SCALE = 100.0


class CrossEntropy(nn.Module):
    """Cross-entropy of a cosine classifier (Zhai and Wu, "Classification is a Strong Baseline for
    Deep Metric Learning", 2018).

    ``label_smoothing`` of the truth is spread over all classes (Szegedy et al., "Rethinking the
    Inception Architecture", 2015, section 7). ``class_weights``, (classes,), say how much a
    picture of each class counts; the loss is the weighted mean, as PyTorch's is.
    """

    class_weights: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | None = None,
        scale: float = SCALE,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise DataError(f"label smoothing is from 0 to below 1, not {label_smoothing:g}")
        self.smoothing, self.classes = label_smoothing, classes
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(classes, dim)))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        given = torch.ones(classes) if class_weights is None else torch.as_tensor(class_weights)
        if given.shape != (classes,) or not (given >= 0).all() or not given.sum() > 0:
            raise DataError(f"{classes} classes need as many weights that are not negative")
        self.register_buffer("class_weights", given.float())

    def logits(self, embeddings: Tensor) -> Tensor:
        """float (N, classes)."""
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        return scale * normalize(embeddings, dim=1) @ normalize(self.weight, dim=1).T

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        # In full precision whatever the network computes in: a logarithm of a small share is
        # nothing for 8 bits of mantissa.
        logs = log_softmax(self.logits(embeddings).float(), dim=1)
        shares = one_hot(labels, self.classes) if labels.ndim == 1 else labels
        shares = shares.to(logs.dtype)
        counts = shares @ self.class_weights
        smooth = shares * (1 - self.smoothing) + self.smoothing / self.classes
        return (self.losses(logs, smooth) * counts).sum() / counts.sum()

    def losses(self, logs: Tensor, shares: Tensor) -> Tensor:
        """Of each picture, (N,): from the logarithms of the probabilities, (N, classes)."""
        return -(shares * logs).sum(1)


class Focal(CrossEntropy):
    """Cross-entropy in which a class of probability p counts (1 - p) ** gamma (Lin et al., "Focal
    Loss for Dense Object Detection", 2017, equation 4, for a softmax); with gamma 0 it is the
    cross-entropy."""

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        gamma: float = 2.0,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | None = None,
        scale: float = SCALE,
    ) -> None:
        super().__init__(
            dim,
            classes,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            scale=scale,
        )
        if gamma < 0:
            raise DataError(f"gamma is not negative, unlike {gamma:g}")
        self.gamma = gamma

    def losses(self, logs: Tensor, shares: Tensor) -> Tensor:
        # -expm1(log p) is 1 - p where p rounds to 1. Its power has no derivative at 0 for a gamma
        # below 1, hence the floor.
        easy = cast(Tensor, -torch.expm1(logs)).clamp_min(torch.finfo(logs.dtype).tiny)
        return -(shares * easy.pow(self.gamma) * logs).sum(1)
