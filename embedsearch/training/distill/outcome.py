"""What a run of ``distill`` came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedsearch.training.evaluate.held_out import Figures
from embedsearch.training.loop.checkpoints import History


@dataclass
class Outcome:
    """What a distillation came to, on the photos held out."""

    folder: Path
    teacher: Figures
    before: Figures
    student: Figures
    history: History = field(default_factory=History)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For ``report.json`` and programs."""
        return {
            "teacher": self.teacher,
            "before": self.before,
            "student": self.student,
            "epochs": self.history.epochs,
            "seconds": round(self.seconds, 1),
        }
