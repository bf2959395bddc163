"""Losses of pytorch-metric-learning, called as the others are."""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from embedsearch.errors import DataError

_ALMOST_ONE = 1 - 1e-6
"""The arc cosine has no derivative at 1, where an embedding meets the direction of its class."""


class SupCon(nn.Module):
    """Supervised contrast (Khosla et al., "Supervised Contrastive Learning", 2020, equation 2).

    Pictures whose label no other in the batch has are only what others are told apart from.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.loss = losses.SupConLoss(temperature=temperature)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.loss(embeddings.float(), _plain(labels))
        return loss


class Triplet(nn.Module):
    """Triplets mined from the batch: ``semihard`` negatives are farther than the positive but
    within the margin (Schroff et al., "FaceNet", 2015), ``hard`` ones nearer than the positive,
    ``all`` violate the margin; ``batch-hard`` takes the farthest positive and the nearest negative
    of each picture (Hermans et al., "In Defense of the Triplet Loss", 2017). Distances are
    Euclidean, between unit vectors; the mean is over triplets that violate the margin."""

    def __init__(self, margin: float, mining: str) -> None:
        super().__init__()
        self.miner = (
            miners.BatchHardMiner()
            if mining == "batch-hard"
            else miners.TripletMarginMiner(margin=margin, type_of_triplets=mining)
        )
        self.loss = losses.TripletMarginLoss(margin=margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        embeddings = embeddings.float()
        with torch.no_grad():
            triplets = self.miner(embeddings, _plain(labels))
        loss: Tensor = self.loss(embeddings, labels, triplets)
        return loss


class ArcFace(nn.Module):
    """A cosine classifier with an angular margin (Deng et al., "ArcFace: Additive Angular Margin
    Loss for Deep Face Recognition", 2019). ``margin`` is in degrees."""

    def __init__(self, dim: int, classes: int, margin: float, scale: float) -> None:
        super().__init__()
        self.loss = _SafeArcFace(classes, dim, margin=margin, scale=scale)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Without the margin: float (N, classes)."""
        logits: Tensor = self.loss.get_logits(embeddings.float())
        return logits

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.loss(embeddings.float(), _plain(labels))
        return loss


class _SafeArcFace(losses.ArcFaceLoss):
    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        return torch.acos(cosine_of_target_classes.clamp(-_ALMOST_ONE, _ALMOST_ONE))


def _plain(labels: Tensor) -> Tensor:
    if labels.ndim != 1:
        raise DataError(
            "this loss takes one label a picture; leave mixup and cutmix out of the augmentation, "
            "or choose the loss cross-entropy or focal"
        )
    return labels
