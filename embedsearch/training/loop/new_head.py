"""A head that has learned nothing yet is shown first what features are like."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from embedsearch.training.looks.eye import Eye
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.towers import FeatureHead

_PHOTOS = 1024


def standardise_new_head(
    encoder: TrainableEncoder, eye: Eye, places: NDArray[np.int64], seed: int
) -> None:
    """Let a new head take over mean and deviation of the features of some photos among ``places``.

    A head that was trained before, or that standardises nothing, stays as it is.
    """
    head = encoder.image.head
    if not encoder.has_new_head or not isinstance(head, FeatureHead):
        return
    chosen = np.sort(np.random.default_rng(seed).permutation(places)[:_PHOTOS])
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    eye.embed(chosen.tolist())
    hook.remove()
    if seen:  # in a pipeline only the last rank has the head
        head.standardise(torch.cat(seen))
