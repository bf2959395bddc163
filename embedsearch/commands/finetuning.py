"""``finetune``: a better encoder for one's own photos."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import task_training, training_options
from embedsearch.commands.options import DeviceChoice, Json
from embedsearch.commands.output import print_json
from embedsearch.commands.training_run import figure, interruptible, recipe_of, tell

if TYPE_CHECKING:
    from embedsearch.training.finetune.report import Outcome
    from embedsearch.training.recipe import Recipe

SHOWN = 4
"""Photos on a sheet of augmentations."""


class OptimizerChoice(StrEnum):
    sgd = "sgd"
    adamw = "adamw"
    rmsprop = "rmsprop"


class AmpChoice(StrEnum):
    auto = "auto"
    off = "off"
    bf16 = "bf16"
    fp16 = "fp16"


class TaskChoice(StrEnum):
    embed = "embed"
    detect = "detect"
    segment = "segment"
    ocr = "ocr"


def finetune(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA...",
            help="A folder with a folder of photos for each class; a CSV with file and label; "
            "JSON lines with file and label or captions.",
            show_default=False,
        ),
    ] = None,
    out: training_options.Out = None,
    task: Annotated[
        TaskChoice,
        typer.Option(
            "--task",
            help="What is trained: an encoder, a detector of objects, a segmenter, a reader of "
            "words. The last three take the options that their recipe has a place for.",
        ),
    ] = TaskChoice.embed,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="SPEC",
            help="What to start from: any encoder, mobilenetv2@FILE.npz, or (A+B)?join=weights, "
            "the mean of several. Default: mini.",
        ),
    ] = None,
    recipe: training_options.RecipeFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change any value of the recipe: loss.temperature=0.1",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="COLUMN=VALUE", help="Only these lines of a table."),
    ] = None,
    held_out: training_options.HeldOut = None,
    per_class: Annotated[
        int | None,
        typer.Option("--per-class", metavar="N", min=0, help="Train on N photos of each class."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", min=0, help="0 trains nothing: a linear probe."),
    ] = None,
    batch: training_options.Batch = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            "--loss",
            metavar="[WEIGHT:]NAME",
            help="info-nce, views, guesses, sentences, words, cross-entropy, focal, supcon, "
            "triplet, arcface; may be given several times.",
        ),
    ] = None,
    optimizer: Annotated[
        OptimizerChoice | None, typer.Option("--optimizer", help="Default: adamw.")
    ] = None,
    rate: training_options.Rate = None,
    freeze_until: Annotated[
        str | None,
        typer.Option(
            "--freeze-until",
            metavar="STAGE",
            help="The first stage that is trained; head freezes all of the network.",
        ),
    ] = None,
    unfreeze_every: Annotated[
        float | None,
        typer.Option(
            "--unfreeze-every",
            metavar="EPOCHS",
            help="Begin with the head, and open one more stage every so many epochs.",
        ),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            "--layer-decay", metavar="F", help="Each earlier stage takes steps F times as large."
        ),
    ] = None,
    cache_frozen: training_options.CacheFrozen = None,
    pool: Annotated[
        str | None,
        typer.Option("--pool", metavar="NAME", help="avg, max, l2, rmac, or gem (learned)."),
    ] = None,
    dim: Annotated[
        int | None,
        typer.Option("--dim", metavar="N", min=0, help="A new linear head of N dimensions."),
    ] = None,
    text: training_options.Text = None,
    size: training_options.Size = None,
    augment: Annotated[
        str | None,
        typer.Option("--augment", metavar="POLICY", help="For example: standard + 0.5:blur@0.2"),
    ] = None,
    show_augmentations: Annotated[
        Path | None,
        typer.Option(
            "--show-augmentations",
            metavar="FILE.png",
            help="Draw what the policy does to some of the photos, and train nothing.",
        ),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option("--class-weights", metavar="HOW", help="none, inverse, effective."),
    ] = None,
    sampling: Annotated[
        str | None,
        typer.Option("--sampling", metavar="HOW", help="none, balanced, over, under."),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            metavar="HOW",
            help="Balance of the probe: none, inverse, effective, balanced, over, under, smote, "
            "adasyn, bagging, boosting.",
        ),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            "--attack", metavar="KIND", help="Adversarial training: fgsm, pgd, occlusion, light."
        ),
    ] = None,
    wise_ft: Annotated[
        str | None,
        typer.Option(
            "--wise-ft",
            metavar="SHARE",
            help="Mix the weights before and after: 0 to 1, or auto. Default: 1, as trained.",
        ),
    ] = None,
    text_check: Annotated[
        Path | None,
        typer.Option(
            "--text-check",
            metavar="FILE.jsonl",
            help="Captions of other photos: does text search survive?",
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option("--ema", metavar="DECAY", min=0, max=1, help="Keep a running mean."),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option("--accumulate", metavar="N", min=1, help="Batches that make one step."),
    ] = None,
    amp: Annotated[
        AmpChoice | None, typer.Option("--amp", help="Mixed precision. Default: auto.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience", metavar="EPOCHS", min=0, help="Stop when so many brought nothing."
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float | None,
        typer.Option("--checkpoint-minutes", metavar="N", min=0, help="Default: 10."),
    ] = None,
    seed: training_options.Seed = None,
    threads: training_options.Threads = None,
    device: training_options.TrainingDevice = DeviceChoice.auto,
    resume: training_options.Resume = False,
    as_json: Json = False,
) -> None:
    """Train an encoder further on your own photos, by their labels or captions.

    Writes an encoder folder, which every command takes as --encoder DIR and which runs without
    PyTorch; in its folder training/ lie the weights, the recipe, a report, pictures of the curves
    and of nearest neighbours before and after, and what TensorBoard reads. Recall class by class,
    and search by text, are measured before and after on photos held out.

    \b
    Examples:
      embedsearch finetune flowers/ --out my-encoder
      embedsearch finetune labels.csv --out my-encoder --epochs 20 --freeze-until block 10
      embedsearch finetune captions.jsonl --out my-encoder --cache-frozen cache/
      embedsearch finetune flowers/ --out probe --epochs 0 --probe boosting
      embedsearch finetune flowers/ --show-augmentations sheet.png --augment strong
      embedsearch finetune --recipe recipe.toml --out my-encoder --resume
    """
    from embedsearch.training.recipe import Recipe

    given = {
        "data.paths": [str(path) for path in data] if data else None,
        "data.only": only,
        "data.held_out": held_out,
        "data.per_class": per_class,
        "data.augmentation": augment,
        "data.text_check": text_check,
        "model.start": encoder,
        "model.pool": pool,
        "model.dim": dim,
        "model.text": text,
        "model.size": size,
        "loss.losses": loss or None,
        "freeze.until": freeze_until,
        "freeze.unfreeze_every": unfreeze_every,
        "freeze.layer_decay": layer_decay,
        "freeze.cache": cache_frozen,
        "balance.weights": class_weights,
        "balance.sampling": sampling,
        "balance.probe": probe,
        "adversarial.attack": attack,
        "optimisation.epochs": epochs,
        "optimisation.batch": batch,
        "optimisation.optimizer": optimizer,
        "optimisation.rate": rate,
        "optimisation.ema": ema,
        "optimisation.accumulate": accumulate,
        "optimisation.amp": amp,
        "optimisation.patience": patience,
        "optimisation.checkpoint_minutes": checkpoint_minutes,
        "optimisation.seed": seed,
        "optimisation.threads": threads,
        "wise_ft": wise_ft,
    }
    if task is not TaskChoice.embed:
        task_training.finetune(
            task.value, recipe, given, settings or [], out, device.value, resume, as_json
        )
        return
    made = recipe_of(Recipe, recipe, given, settings or [])
    if show_augmentations is not None:
        _show_augmentations(made, show_augmentations)
        return
    if out is None:
        raise typer.BadParameter("name the encoder folder to write: --out DIR")
    outcome = _run(made, out, device, resume)
    if outcome is None:
        return
    if as_json:
        print_json(outcome.as_json())
    else:
        _print(outcome)


def _run(recipe: Recipe, out: Path, device: DeviceChoice, resume: bool) -> Outcome | None:
    """What came of it; ``None`` in a process that is not the one to talk."""
    from embedsearch.commands.progress import step_bar
    from embedsearch.training.distributed.ranks import is_main
    from embedsearch.training.finetune.run import Run

    with interruptible(out):
        with step_bar() as progress:
            run = Run(recipe, out, device=device.value, progress=progress, tell=tell)
        outcome = run.finetune(resume=resume)
    return outcome if is_main() else None


def _show_augmentations(recipe: Recipe, out: Path) -> None:
    import sys

    from embedsearch.training.augment.sheet import SHEET_SIZE, draw_sheet
    from embedsearch.training.data.photo_lists import read_photo_list
    from embedsearch.training.data.pixels import load_pixels

    if not recipe.data.paths:
        raise typer.BadParameter("name photos to show augmentations of")
    photos = [
        p for path in recipe.data.paths for p in read_photo_list(Path(path), recipe.data.only)
    ]
    chosen = photos[:: max(1, len(photos) // SHOWN)][:SHOWN]
    pictures = [load_pixels(photo.file, SHEET_SIZE) for photo in chosen]
    draw_sheet(pictures, recipe.data.augmentation, out, seed=recipe.optimisation.seed)
    print(f"Augmentations: {out}", file=sys.stderr)


def _print(outcome: Outcome) -> None:
    from embedsearch.render.table import plain_table, show
    from embedsearch.training.finetune.recall import COLUMNS

    if outcome.recall is not None:
        show(plain_table(list(COLUMNS), outcome.recall.rows()))
    rows = [
        (name.replace("_", " "), figure(outcome.before.get(name)), figure(value))
        for name, value in outcome.after.items()
    ]
    show(plain_table(["held out", "before", "after"], rows))
    print(f"Encoder: {outcome.folder}")
