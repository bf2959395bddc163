"""What distillation makes small: the student's embeddings beside those of its teachers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from embedsearch.errors import DataError
from embedsearch.training.distill.lessons import Lessons
from embedsearch.training.distill.live_teacher import LiveTeacher
from embedsearch.training.distill.map_hints import MapHints
from embedsearch.training.distributed import collectives
from embedsearch.training.looks.batches import Batch
from embedsearch.training.losses import distillation, grouped_info_nce, make_loss
from embedsearch.training.losses.word_relations import word_relations
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.heads import MAX_SCALE
from embedsearch.training.recipe import Imitate

INFO_NCE, SUPCON, MAPS = "info-nce", "supcon", "maps"
IMITATIONS = {
    "cosine": "the embedding of a photo is the teacher's",
    "soft": "it is as near to each class name as the teacher finds it, at a temperature",
    "distances": "the same photos are near one another",
    "angles": "the same three photos make the same angles",
    "affinity": "a photo goes with the texts of its batch as the teacher finds it does",
    "text": "the embedding of a text is the teacher's",
    "words": "words lie to one another as the text teacher has them",
    INFO_NCE: "photos against their captions or names, without any teacher",
    SUPCON: "photos of one label near one another, without any teacher",
    MAPS: "what the network gives behind a stage is what the teacher's gives there",
}
"""What ``--loss`` can name."""
OF_TEXTS = ("affinity", "text", INFO_NCE)
"""Those for which every photo must have captions or names."""


class Imitation(nn.Module):
    """The student, and where its dim is not the teacher's, a projection that is thrown away."""

    def __init__(
        self,
        encoder: TrainableEncoder,
        lessons: Lessons,
        weights: Mapping[str, float],
        settings: Imitate,
        *,
        places: Callable[[int], NDArray[np.int64]],
        live: LiveTeacher | None = None,
        hints: MapHints | None = None,
        first_stage: int = 0,
        frozen_text: bool = False,
        seed: int = 0,
    ) -> None:
        """``places`` gives the photos of a step, ``weights`` names of :data:`IMITATIONS` and how
        much each counts; a ``live`` teacher is asked in place of ``lessons`` about photos, and
        ``hints`` are for ``maps``. Raises :class:`~embedsearch.errors.DataError`."""
        super().__init__()
        self.encoder, self.weights, self.settings = encoder, dict(weights), settings
        self.losses = nn.ModuleDict()
        dim = lessons.held.shape[-1]
        if encoder.dim != dim:
            self.losses["projection"] = nn.Linear(encoder.dim, dim, bias=False)
        if SUPCON in weights:
            self.losses[SUPCON] = make_loss(SUPCON, dim=encoder.dim, classes=0)
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))
        self._lessons, self._places, self._first = lessons, places, first_stage
        self._live, self._hints = live, hints
        self._row = {text: number for number, text in enumerate(lessons.texts)}
        self._frozen_text, self._seed = frozen_text, seed
        self._kept_prototypes: Tensor | None = None
        self._check()

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum, and each loss by itself."""
        device = self.log_scale.device
        said: Tensor | None = None
        if self._live is not None:
            batch, said = self._live.looked(batch, device)
        pixels, batch = batch.images, batch.to(device, self.encoder)
        parts: dict[str, Tensor] = {}
        values, reached = batch.images, self._first
        if self._hints is not None:
            given = self._hints.given(pixels.to(device))
            parts[MAPS], values, reached = self._hints.compared(self.encoder.image, values, given)
        if self.weights.keys() - {MAPS}:
            mine = self.encoder.image.forward_from(values, reached)
            taught = self._taught(batch, said)
            parts |= self._of_rows(batch, collectives.gather_with_gradient(mine), taught)
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return total, {name: part.item() for name, part in parts.items()}

    def _taught(self, batch: Batch, said: Tensor | None) -> Tensor | None:
        """What the teacher makes of the batch of all ranks; None where nothing is learned of it."""
        device = self.log_scale.device
        if said is not None:
            return collectives.gather(said)
        rows = self._lessons.photos
        if rows is None:
            return None
        places, looks = self._places(batch.step), batch.looks % rows.shape[1]
        return _rows(rows[places, looks], device)

    def _of_rows(self, batch: Batch, pictures: Tensor, said: Tensor | None) -> dict[str, Tensor]:
        """What is learned of and by the embeddings of photos."""
        parts: dict[str, Tensor] = {}
        taught = cast(Tensor, said)  # there, where a loss asks for it
        if "cosine" in self.weights:
            parts["cosine"] = distillation.cosine(self.projected(pictures), taught)
        if "distances" in self.weights:
            parts["distances"] = distillation.distances(pictures, taught)
        if "angles" in self.weights:
            parts["angles"] = distillation.angles(pictures, taught)
        if "soft" in self.weights:
            parts["soft"] = self._soft(pictures, taught)
        if SUPCON in self.weights:
            parts[SUPCON] = self._by_label(pictures, batch.labels)
        if "words" in self.weights:
            tower, known = cast(nn.Module, self.encoder.text), cast(Any, self._lessons.words)
            seed = [self._seed, 6, batch.step]
            parts["words"] = word_relations(tower, known, self.settings.words, seed)
        if self.weights.keys() & set(OF_TEXTS):
            parts |= self._of_texts(batch, pictures, taught)
        return parts

    def projected(self, rows: Tensor) -> Tensor:
        """Rows of the student in the teacher's space, unit vectors (N, D)."""
        if "projection" not in self.losses:
            return rows
        return normalize(self.losses["projection"](rows), dim=1)

    def _by_label(self, pictures: Tensor, labels: Tensor) -> Tensor:
        has = labels >= 0
        if not has.any():
            return pictures.sum() * 0
        near: Tensor = self.losses[SUPCON](pictures[has], labels[has])
        return near

    def _soft(self, pictures: Tensor, taught: Tensor) -> Tensor:
        theirs = _rows(cast(Any, self._lessons.prototypes), pictures.device)
        if self.encoder.text is None:
            scores = self.projected(pictures) @ theirs.T
        else:
            scores = pictures @ self._prototypes().T
        scale = self.settings.scale
        return distillation.soft_targets(
            scale * scores, scale * taught @ theirs.T, self.settings.temperature
        )

    def _prototypes(self) -> Tensor:
        """The student's rows of the class names; computed once where its text tower stays."""
        tower = cast(nn.Module, self.encoder.text)
        if not self._frozen_text:
            return cast(Tensor, tower(list(self._lessons.prompts)))
        if self._kept_prototypes is None:
            with torch.no_grad():
                self._kept_prototypes = tower(list(self._lessons.prompts))
        return self._kept_prototypes

    def _of_texts(self, batch: Batch, pictures: Tensor, taught: Tensor) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        mine = cast(nn.Module, self.encoder.text)(batch.texts)
        words = collectives.gather_with_gradient(mine)
        if self._lessons.text_rows is not None:
            numbers = np.array([self._row[text] for text in batch.texts])
            their_words = collectives.gather(
                _rows(self._lessons.text_rows[numbers], pictures.device)
            )
        if "affinity" in self.weights:
            parts["affinity"] = distillation.affinity(
                pictures, words, taught, their_words, 1 / self.settings.scale
            )
        if "text" in self.weights:
            parts["text"] = distillation.cosine(self.projected(words), their_words)
        if INFO_NCE in self.weights:
            scale = self.log_scale.exp().clamp(max=MAX_SCALE)
            parts[INFO_NCE] = grouped_info_nce(pictures, words, batch.groups, scale, batch.weights)
        return parts

    def _check(self) -> None:
        for name in self.weights:
            if name not in IMITATIONS:
                raise DataError(f"there is no loss {name!r}; there are {', '.join(IMITATIONS)}")
        if not self.weights:
            raise DataError(f"name a loss: {', '.join(IMITATIONS)}")
        if self.settings.maps and MAPS not in self.weights:
            raise DataError(
                f"loss.maps names {', '.join(self.settings.maps)}, and no loss compares maps; add "
                "--loss maps"
            )
        if self._live is not None and self._live.mixes and INFO_NCE in self.weights:
            raise DataError(
                f"{self._live.mixes[0].method} lays photos over one another, of which no caption "
                "tells; leave it out of the augmentation, or info-nce out of the losses"
            )
        wants = [name for name in self.weights if name in (*OF_TEXTS, "words")]
        if wants and self.encoder.text is None:
            raise DataError(
                f"{wants[0]} teaches a text tower, and the student has none; copy the teacher's "
                "(--student-text copy) or start one (--text DIR)"
            )
        if "soft" in self.weights and self._lessons.prototypes is None:
            raise DataError(
                "soft compares with class names: it needs labels, and a teacher that knows words"
            )
        taught = {"affinity", "text"} & self.weights.keys()
        if taught and self._lessons.text_rows is None:
            raise DataError(f"{min(taught)} needs a teacher that knows words; this one does not")
        if "words" in self.weights and self._lessons.words is None:
            raise DataError("words needs a text teacher: --text-teacher minilm")


def _rows(rows: NDArray[np.float16], device: torch.device) -> Tensor:
    """Rows as they come from the cache: unit vectors again, float32."""
    return normalize(torch.from_numpy(rows.astype(np.float32)).to(device), dim=1)
