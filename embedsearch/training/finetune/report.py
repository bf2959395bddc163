"""What a run of ``finetune`` came to, and its report on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedsearch.training.evaluate.held_out import Figures
from embedsearch.training.finetune.pictures import draw_curves
from embedsearch.training.finetune.recall import RecallReport
from embedsearch.training.loop.checkpoints import History

REPORT, CURVES, NEIGHBOURS = "report.json", "curves.png", "neighbours.png"


@dataclass
class Outcome:
    """What a run came to."""

    folder: Path
    before: Figures
    """On the photos held out; see :func:`~embedsearch.training.evaluate.held_out.measure`."""
    after: Figures
    recall: RecallReport | None
    """Of a linear probe on the embeddings before and after; ``None`` without labels."""
    share: float = 1.0
    """Of the trained weights, WiSE-FT."""
    shares: list[dict[str, float]] = field(default_factory=list)
    history: History = field(default_factory=History)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For ``report.json`` and programs."""
        return {
            "before": self.before,
            "after": self.after,
            "wise_ft": {"share": self.share, "tried": self.shares},
            "recall": None if self.recall is None else self.recall.as_json(),
            "epochs": self.history.epochs,
            "seconds": round(self.seconds, 1),
        }


def write_report(outcome: Outcome, folder: Path) -> None:
    """Write the figures as JSON, and the curves where anything was trained."""
    told = json.dumps(outcome.as_json(), indent=2) + "\n"
    (folder / REPORT).write_text(told, encoding="utf-8")
    if outcome.history.losses:
        draw_curves(outcome.history, folder / CURVES)
