"""``finetune --task``: training what is no encoder. One module of ``training`` for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import typer

from embedsearch.commands.output import print_json
from embedsearch.commands.training_run import interruptible, recipe_of, tell

TASKS: dict[str, str] = {
    "detect": "embedsearch.training.detect.finetune",
    "segment": "embedsearch.training.segment.finetune",
    "ocr": "embedsearch.training.ocr.finetune",
}
"""By task, the module that has its ``Recipe``, a dataclass as in
:mod:`embedsearch.training.recipe`, and its ``finetune`` (:class:`Finetune`)."""


class Outcome(Protocol):
    """What came of a run."""

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Columns and rows for people."""
        ...

    def as_json(self) -> dict[str, Any]: ...


class Finetune(Protocol):
    """Trains by a recipe and writes what it made to the folder ``out``."""

    def __call__(
        self,
        recipe: Any,
        out: Path,
        *,
        device: str,
        resume: bool,
        progress: Any,
        tell: Callable[[str], None],
    ) -> Outcome: ...


def finetune(
    task: str,
    file: Path | None,
    given: dict[str, Any],
    settings: Sequence[str],
    out: Path | None,
    device: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train by the recipe in ``file`` with the options and ``--set`` laid over it."""
    from embedsearch.commands.progress import step_bar
    from embedsearch.render.table import plain_table, show

    module = import_module(TASKS[task])
    recipe = recipe_of(module.Recipe, file, given, settings)
    if out is None:
        raise typer.BadParameter("name the folder to write: --out DIR")

    train: Finetune = module.finetune
    with interruptible(out), step_bar() as progress:
        outcome = train(recipe, out, device=device, resume=resume, progress=progress, tell=tell)
    if as_json:
        print_json(outcome.as_json())
    else:
        show(plain_table(*outcome.table()))
        print(f"Written: {out}")
