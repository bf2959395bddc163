"""Figures on the photos held out: do texts find photos, are names and neighbours right?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedsearch.encoders.base import Embeddings
from embedsearch.training.data.photos import Photo
from embedsearch.training.evaluate.captions import captions_figures
from embedsearch.training.evaluate.category import prompt
from embedsearch.training.evaluate.metrics import leave_one_out, retrieval_summary
from embedsearch.training.networks.encoder import TrainableEncoder

Figures = dict[str, float]
SCORE = "score"
"""The mean of what one most wants to be good at: what early stopping and the choice go by."""
_SCORED = ("text_to_image", "image_to_text", "classifier", "zero_shot")


class Reader(Protocol):
    """What may know words."""

    @property
    def text(self) -> nn.Module | None: ...


def embed_texts(encoder: Reader, texts: Sequence[str]) -> Embeddings:
    """Unit vectors, float32 (len(texts), dim)."""
    tower = cast(nn.Module, encoder.text).eval()
    with torch.no_grad():
        rows = [
            tower(list(texts[n : n + 256])).float().cpu().numpy() for n in range(0, len(texts), 256)
        ]
    return np.concatenate(rows)


def measure(
    encoder: Reader,
    photos: Sequence[Photo],
    pictures: Embeddings,
    names: Sequence[str],
    labels: NDArray[np.int64],
    classifier: Callable[[Tensor], Tensor] | None = None,
) -> Figures:
    """Figures of ``photos`` that have the embeddings ``pictures`` and, of the classes ``names``,
    the ``labels`` (-1 without one).

    ``text_to_image`` and ``image_to_text`` (R@10 over the captions), ``neighbours`` (R@1,
    leave-one-out), ``zero_shot`` (nearest name among all classes), ``classifier`` (its accuracy);
    what does not apply is left out. ``score`` is the mean of those but ``neighbours``, which
    counts where there is no other.
    """
    figures: Figures = {}
    captioned = [n for n, photo in enumerate(photos) if photo.captions]
    if captioned and encoder.text is not None:
        owners = np.repeat(np.arange(len(captioned)), [len(photos[n].captions) for n in captioned])
        texts = [caption for n in captioned for caption in photos[n].captions]
        found = captions_figures(pictures[captioned], embed_texts(encoder, texts), owners)
        figures |= {way: found[way]["R@10"] for way in ("text_to_image", "image_to_text")}
    has = np.flatnonzero(labels >= 0)
    if len(has):
        told = retrieval_summary(*leave_one_out(pictures[has], [names[n] for n in labels[has]]))
        if not np.isnan(told["R@1"]):
            figures["neighbours"] = told["R@1"]
        if encoder.text is not None:
            prompts = embed_texts(encoder, [prompt(name) for name in names])
            nearest = (pictures[has] @ prompts.T).argmax(1)
            figures["zero_shot"] = float((nearest == labels[has]).mean())
        if classifier is not None:
            with torch.no_grad():
                scores = classifier(
                    torch.from_numpy(pictures[has]).to(cast(TrainableEncoder, encoder).grey.device)
                )
            right = scores.argmax(1).cpu().numpy() == labels[has]
            figures["classifier"] = float(right.mean())
    scored = [figures[name] for name in _SCORED if name in figures]
    if scored or "neighbours" in figures:
        figures[SCORE] = float(np.mean(scored or [figures["neighbours"]]))
    return figures
