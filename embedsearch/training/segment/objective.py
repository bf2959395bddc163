"""What is made small: how far the network is from masks, and from a teacher."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedsearch.training.evaluate.outlines import IGNORED
from embedsearch.training.segment.batches import Batch
from embedsearch.training.segment.network import SegmentationNetwork
from embedsearch.training.segment.recipe import Recipe


class Objective(nn.Module):
    """The network and its loss."""

    def __init__(self, network: SegmentationNetwork, recipe: Recipe, side: int) -> None:
        """``side`` is that of what is known of the pixels; logits are scaled to it."""
        super().__init__()
        self.network, self._recipe, self._side = network, recipe, side
        self._dice: Any = smp.losses.DiceLoss("multiclass", ignore_index=IGNORED)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum and its parts. Pixels that nobody knows count nowhere."""
        batch = batch.to(self.network.grey.device)
        logits = self._logits(batch).float()
        parts: dict[str, tuple[float, Tensor]] = {}
        settings = self._recipe.loss
        if bool((batch.truth != IGNORED).any()):
            if settings.cross_entropy:
                crossed = functional.cross_entropy(logits, batch.truth, ignore_index=IGNORED)
                parts["cross-entropy"] = settings.cross_entropy, crossed
            if settings.dice:
                parts["dice"] = settings.dice, self._dice(logits, batch.truth)
        if batch.taught is not None:
            parts["teacher"] = self._recipe.distill.weight, self._apart(logits, batch)
        total = sum((weight * value for weight, value in parts.values()), logits.sum() * 0)
        return total, {name: float(value.detach()) for name, (_, value) in parts.items()}

    def _logits(self, batch: Batch) -> Tensor:
        network = self.network
        if batch.pixels is not None:
            logits = network(batch.pixels)
        else:
            maps = network.pyramid.unpacked(batch.maps, network.first_map)
            logits = network.decoded(network.pyramid.trained(maps))
        return scaled_to(logits, self._side)

    def _apart(self, logits: Tensor, batch: Batch) -> Tensor:
        """Kullback-Leibler divergence from the teacher's probabilities to the network's, mean over
        pixels (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015), those of rare
        classes counting more."""
        assert batch.taught is not None
        soft = self._recipe.distill.temperature
        divergence = functional.kl_div(
            (logits / soft).log_softmax(1), (batch.taught / soft).softmax(1), reduction="none"
        ).sum(1)
        classes = batch.taught.argmax(1)
        known = batch.has_teacher.view(-1, 1, 1).expand_as(classes)
        counts = torch.bincount(
            classes.flatten(), known.flatten(), minlength=batch.taught.shape[1]
        ).clamp(min=1)
        weights = counts.pow(-self._recipe.distill.balance)[classes] * known
        return soft**2 * (divergence * weights).sum() / weights.sum()


def scaled_to(logits: Tensor, side: int) -> Tensor:
    """Bilinearly, to maps of ``side``."""
    if logits.shape[-1] == side:
        return logits
    return functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
