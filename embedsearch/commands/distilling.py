"""``distill``: a small encoder that has learned from a large one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import training_options
from embedsearch.commands.options import DeviceChoice, Json
from embedsearch.commands.output import print_json
from embedsearch.commands.training_run import figure, interruptible, recipe_of, tell

if TYPE_CHECKING:
    from embedsearch.training.distill.outcome import Outcome
    from embedsearch.training.recipe import Distillation


class TextChoice(StrEnum):
    auto = "auto"
    copy = "copy"
    train = "train"
    none = "none"


class AxesChoice(StrEnum):
    learned = "learned"
    principal = "principal"


class StrategyChoice(StrEnum):
    ddp = "ddp"
    fsdp = "fsdp"
    pipeline = "pipeline"


def distill(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA...",
            help="Photos: a folder, with or without a folder for each class; a CSV with file and "
            "label; JSON lines with file and label or captions.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="SPEC", help="Any encoder, or several: A+B."),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            "--student",
            metavar="SPEC",
            help="timm:MODEL, torchvision:MODEL, mobilenetv2@FILE.npz, an encoder folder, or "
            "(A+B)?join=weights, the mean of several.",
        ),
    ] = None,
    out: training_options.Out = None,
    recipe: training_options.RecipeFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change any value of the recipe: loss.scale=50"
        ),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            "--loss",
            metavar="[WEIGHT:]NAME",
            help="cosine, soft, distances, angles, affinity, text, words, info-nce, supcon, maps; "
            "may be given several times.",
        ),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            "--views",
            metavar="NAMES",
            help="What the teacher looks at, and averages: plain,mirror,crops.",
        ),
    ] = None,
    sees: Annotated[
        str | None,
        typer.Option(
            "--teacher-sees",
            metavar="POLICY",
            help="The part of --augment that the teacher sees too, look by look; needs "
            "--cache-frozen. Default: it sees the photo itself.",
        ),
    ] = None,
    live: Annotated[
        bool | None,
        typer.Option(
            "--teacher-live/--teacher-once",
            help="Ask the teacher at every step about the looks as the student has them: new ones "
            "each time, and mixed with one another where --augment says mixup or cutmix.",
            show_default="once for each photo",
        ),
    ] = None,
    axes: Annotated[
        AxesChoice | None,
        typer.Option(
            "--axes",
            help="Where the teacher has more dimensions. learned: a projection; principal: the "
            "student learns the teacher's main axes.",
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="T", help="Of the loss soft.")
    ] = None,
    student_text: Annotated[
        TextChoice | None,
        typer.Option(
            "--student-text",
            help="The student's text tower: the teacher's copied, trained, or none.",
        ),
    ] = None,
    text: training_options.Text = None,
    text_teacher: Annotated[
        str | None,
        typer.Option(
            "--text-teacher",
            metavar="NAME",
            help="minilm, or a folder of sentence-transformers: teaches words no caption has.",
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option("--words", metavar="FILE", help="Words it teaches, one a line."),
    ] = None,
    dim: Annotated[
        int | None, typer.Option("--dim", metavar="N", min=1, help="Default: the teacher's.")
    ] = None,
    size: training_options.Size = None,
    held_out: training_options.HeldOut = None,
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N", min=0)] = None,
    batch: training_options.Batch = None,
    rate: training_options.Rate = None,
    freeze_until: Annotated[
        str | None,
        typer.Option("--freeze-until", metavar="STAGE", help="The first stage that is trained."),
    ] = None,
    cache_frozen: training_options.CacheFrozen = None,
    teacher_cache: Annotated[
        Path | None,
        typer.Option(
            "--teacher-cache",
            metavar="DIR",
            help="Keep what teachers say there, for other runs too. Default: in --out.",
        ),
    ] = None,
    augment: Annotated[
        str | None, typer.Option("--augment", metavar="POLICY", help="What the student looks at.")
    ] = None,
    strategy: Annotated[
        StrategyChoice | None,
        typer.Option("--strategy", help="How processes that torchrun started share the work."),
    ] = None,
    seed: training_options.Seed = None,
    threads: training_options.Threads = None,
    device: training_options.TrainingDevice = DeviceChoice.auto,
    resume: training_options.Resume = False,
    as_json: Json = False,
) -> None:
    """Teach a small encoder what a large one, or several, make of your photos.

    The photos need no labels. The teacher is asked once for each photo, and its answers are kept;
    or at every step, about looks that are new and mixed (--teacher-live).
    Writes an encoder folder, which every command takes as --encoder DIR and which runs without
    PyTorch; in its folder training/ lie the weights, the recipe and a report with the teacher's
    figures beside the student's, on photos held out.

    \b
    Examples:
      embedsearch distill photos/ --teacher mini --student timm:mobilenetv3_small_100 --out small
      embedsearch distill photos/ --teacher "a+b" --views plain,mirror,crops --student c --out small
      embedsearch distill captions.jsonl --teacher t --student s --text-teacher minilm --out small
      embedsearch distill --recipe recipe.toml --out small --resume
    """
    from embedsearch.training.recipe import Distillation

    given = {
        "data.paths": [str(path) for path in data] if data else None,
        "data.held_out": held_out,
        "data.augmentation": augment,
        "model.start": student,
        "model.dim": dim,
        "model.text": text,
        "model.size": size,
        "teacher.spec": teacher,
        "teacher.views": None if views is None else [each.strip() for each in views.split(",")],
        "teacher.sees": sees,
        "teacher.live": live,
        "teacher.axes": axes,
        "teacher.text": student_text,
        "teacher.sentences": text_teacher,
        "teacher.words": words,
        "teacher.cache": teacher_cache,
        "loss.losses": loss or None,
        "loss.temperature": temperature,
        "freeze.until": freeze_until,
        "freeze.cache": cache_frozen,
        "optimisation.epochs": epochs,
        "optimisation.batch": batch,
        "optimisation.rate": rate,
        "optimisation.seed": seed,
        "optimisation.threads": threads,
        "optimisation.strategy": strategy,
    }
    made = recipe_of(Distillation, recipe, given, settings or [])
    if out is None:
        raise typer.BadParameter("name the encoder folder to write: --out DIR")
    outcome = _run(made, out, device, resume)
    if outcome is None:
        return
    if as_json:
        print_json(outcome.as_json())
    else:
        _print(outcome)


def _run(recipe: Distillation, out: Path, device: DeviceChoice, resume: bool) -> Outcome | None:
    """What came of it; ``None`` in a process that is not the one to talk."""
    from embedsearch.commands.progress import step_bar
    from embedsearch.training.distill.run import Distiller
    from embedsearch.training.distributed.ranks import is_main

    with interruptible(out), step_bar() as progress:
        run = Distiller(recipe, out, device=device.value, progress=progress, tell=tell)
        outcome = run.distill(resume=resume)
    return outcome if is_main() else None


def _print(outcome: Outcome) -> None:
    from embedsearch.render.table import plain_table, show

    names = dict.fromkeys([*outcome.student, *outcome.teacher])
    rows = [
        (
            name.replace("_", " "),
            *(
                figure(figures.get(name))
                for figures in (outcome.before, outcome.student, outcome.teacher)
            ),
        )
        for name in names
    ]
    show(plain_table(["held out", "before", "student", "teacher"], rows))
    print(f"Encoder: {outcome.folder}")
