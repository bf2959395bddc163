"""Hints: what a teacher's network gives behind a stage, for the student's to give it there too.

Romero et al., "FitNets: Hints for Thin Deep Nets" (2015), section 2.2. Where only maps are learned,
the networks run as far as the last stage that is compared, and what is behind it stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from embedsearch.errors import DataError
from embedsearch.training.losses import distillation
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.towers import ImageTower, said_shape


class MapHints:
    """A network that teaches maps, and the stages behind which they are compared."""

    def __init__(
        self, student: TrainableEncoder, teacher: TrainableEncoder, names: Sequence[str]
    ) -> None:
        """``names`` are stages of both. Raises :class:`~embedsearch.errors.DataError` where none is
        named, one is not there, or both give maps of unlike shapes."""
        if not names:
            raise DataError(
                "maps are compared behind stages; name them: --set 'loss.maps=[\"block 1\"]'"
            )
        towers = {"student": student.image, "teacher": teacher.image}
        for whose, tower in towers.items():
            if not tower.sequential:
                raise DataError(
                    f"maps are compared where stages run one after another; the {whose}'s do not"
                )
        shapes = {whose: tower.shapes(student.size) for whose, tower in towers.items()}
        self._pairs = sorted((_behind(student.image, n), _behind(teacher.image, n)) for n in names)
        for mine, theirs in self._pairs:
            if shapes["student"][mine] != shapes["teacher"][theirs]:
                raise DataError(
                    f"behind {student.image.stages[mine - 1][0]} the student gives maps of "
                    f"{said_shape(shapes['student'][mine])}, the teacher of "
                    f"{said_shape(shapes['teacher'][theirs])}"
                )
        self._teacher = teacher.requires_grad_(False).eval()

    def given(self, pixels: Tensor) -> list[Tensor]:
        """What the teacher gives of ``pixels``, uint8 (N, size, size, 3), behind each stage."""
        found, values, reached = [], self._teacher.normalised(pixels), 0
        with torch.no_grad():
            for _, stage in self._pairs:
                values = self._teacher.image.run_stages(values, reached, stage)
                found.append(values)
                reached = stage
        return found

    def compared(
        self, image: ImageTower, values: Tensor, given: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, int]:
        """How far the student is from what the teacher has ``given``, the mean over stages; what it
        has at the last of them; and the stage that this enters. ``values`` enter its first."""
        apart, reached = [], 0
        for (stage, _), theirs in zip(self._pairs, given, strict=True):
            values = image.run_stages(values, reached, stage)
            apart.append(distillation.maps(values, theirs))
            reached = stage
        return torch.stack(apart).mean(), values, reached


def _behind(image: ImageTower, name: str) -> int:
    """Number of the stage that what ``name`` gives enters."""
    number = image.stage_number(name)
    if number == len(image.stages):
        raise DataError("behind the head there are no maps; cosine compares what it gives")
    return number + 1
