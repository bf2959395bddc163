"""``finetune --task ocr``: a small recogniser of words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss, log_softmax

from embedsearch.encoders.torch_tower import choose_device
from embedsearch.enrichers.ocr_own import MODEL, OwnRecogniser, read_reader, write_reader
from embedsearch.errors import DataError
from embedsearch.settings import Device
from embedsearch.training.evaluate.ocr import least_errors, words_of
from embedsearch.training.loop.checkpoints import FILE, History
from embedsearch.training.loop.loop import Loop
from embedsearch.training.loop.steps import Group
from embedsearch.training.ocr.batches import Batch, Batches
from embedsearch.training.ocr.drawing import Grey, fonts_of
from embedsearch.training.ocr.network import WordNetwork, export
from embedsearch.training.ocr.recipe import Recipe
from embedsearch.training.ocr.words import read_words
from embedsearch.training.recipe_files import to_toml

__all__ = ["Outcome", "Recipe", "finetune"]

TRAINING, REPORT, RECIPE, WEIGHTS = "training", "report.json", "recipe.toml", "reader.pth"
Progress = Callable[[str, int, int], None]
Tell = Callable[[str], None]


@dataclass
class Outcome:
    """What came of a run, measured on drawn words that were not trained on."""

    words: int
    """In the list that was trained on."""
    measured_on: int
    word_recall: float
    """Share of the words that were read right, capitals aside."""
    CER: float
    """Wrong letters, of all letters."""
    history: History = field(default_factory=History)

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Columns and rows for people."""
        rows: list[tuple[str, ...]] = [
            ("word recall", f"{self.word_recall:.3f}"),
            ("CER", f"{self.CER:.3f}"),
        ]
        return [f"{self.measured_on} drawn words", "trained"], rows

    def as_json(self) -> dict[str, Any]:
        told = {key: value for key, value in vars(self).items() if key != "history"}
        return told | {"epochs": self.history.epochs, "seconds": round(self.history.seconds, 1)}


def finetune(
    recipe: Recipe,
    out: Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    progress: Progress = lambda what, done, total: None,
    tell: Tell = lambda line: None,
) -> Outcome:
    """Train by ``recipe`` and write a folder, which ``--ocr DIR`` takes.

    Raises :class:`~embedsearch.errors.DataError` and :class:`~embedsearch.errors.EnricherError`.
    """
    model, settings = recipe.model, recipe.optimisation
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if model.height % 16:
        raise DataError(f"model.height must be a multiple of 16, not {model.height}")
    words = read_words(recipe.data, model.signs)
    batches = Batches(
        words, fonts_of(recipe.drawing), model, recipe.data, recipe.drawing, settings.batch,
        settings.seed,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(to_toml(recipe), encoding="utf-8")
    where = choose_device(device)
    torch.manual_seed(settings.seed)
    network = WordNetwork(model.height, len(model.signs), model.width, model.dropout).to(where)
    if model.start:
        _begin_with(network, Path(model.start), recipe)
    check = batches.check()
    loop = Loop(
        network,
        [Group(list(network.parameters()), settings.rate, settings.decay)],
        lambda batch: _loss(network, batch, where),
        lambda step: _told(batches, step, len(batches) * settings.epochs, progress),
        len(batches),
        settings,
        folder=out / TRAINING,
        device=where,
        told=_must_agree(recipe, len(words.learned), len(words.photos)),
        watch=lambda: _watched(network, check, recipe, where),
        score="word_recall",
        tell=tell,
    )
    history = loop.run(resume=resume and (out / TRAINING / FILE).is_file())
    network.cpu().eval()
    torch.save(network.state_dict(), out / WEIGHTS)
    export(network, model.height, out / MODEL)
    write_reader(out, _about(recipe, out, words.learned, len(words.photos)))
    read = OwnRecogniser(read_reader(out)).read(
        [cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) for picture, _ in check]
    )
    figures = compared([text for _, text in check], [text for text, _ in read])
    outcome = Outcome(len(words.learned), len(check), *figures, history=history)
    (out / REPORT).write_text(json.dumps(outcome.as_json(), indent=2) + "\n", encoding="utf-8")
    return outcome


def compared(written: Sequence[str], read: Sequence[str]) -> tuple[float, float]:
    """Word recall and CER, each text by itself, as ``evaluate ocr`` has them."""
    found = total = errors = signs = 0
    for one, other in zip(written, read, strict=True):
        words, told = words_of(one), words_of(other)
        total += len(words)
        found += len(words) - len(_without(words, told))
        signs += sum(map(len, words))
        errors += least_errors(_without(words, told), _without(told, words))
    return found / max(total, 1), errors / max(signs, 1)


def _without(words: Sequence[str], others: Sequence[str]) -> list[str]:
    left = list(others)
    kept = []
    for word in words:
        if word in left:
            left.remove(word)
        else:
            kept.append(word)
    return kept


def _loss(
    network: WordNetwork, batch: Batch, device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    logits = network(batch.words.to(device))
    likely = log_softmax(logits.float(), 2).transpose(0, 1)
    loss = ctc_loss(
        likely, batch.signs.to(device), batch.columns, batch.lengths, zero_infinity=True
    )
    return loss, {"ctc": float(loss.detach())}


def _told(batches: Batches, step: int, total: int, progress: Progress) -> Any:
    for number, batch in enumerate(batches(step), step):
        progress("training", number, total)
        yield batch


def _watched(
    network: WordNetwork, check: Sequence[tuple[Grey, str]], recipe: Recipe, device: torch.device
) -> dict[str, float]:
    """Figures of the network as it is, on the words held out."""
    from embedsearch.enrichers.ocr_own import best_path, to_height

    signs, read = ["", *recipe.model.signs], []
    for picture, _ in check:
        grey = torch.from_numpy(to_height(picture, recipe.model.height))[None].to(device)
        with torch.no_grad():
            columns = network(grey)[0].softmax(1).cpu().numpy()
        read.append(best_path(columns, signs)[0])
    recall, errors = compared([text for _, text in check], read)
    return {"word_recall": recall, "CER": errors}


def _begin_with(network: WordNetwork, folder: Path, recipe: Recipe) -> None:
    about = read_reader(folder)
    if about.signs != recipe.model.signs:
        raise DataError(f"{folder}: reads other signs than model.signs says")
    try:
        network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise DataError(f"{folder / WEIGHTS}: cannot be gone on from ({error})") from error


def _must_agree(recipe: Recipe, words: int, photos: int) -> str:
    told = asdict(recipe)
    told["optimisation"].pop("checkpoint_minutes")
    told["optimisation"].pop("threads")
    return json.dumps({**told, "words": words, "photos": photos}, indent=1)


def _about(recipe: Recipe, out: Path, words: Sequence[str], photos: int) -> dict[str, Any]:
    about, model = recipe.about, recipe.model
    of = f"{len(words)} words, drawn" + (f", and {photos} photographed" if photos else "")
    return {
        "name": about.name or out.resolve().name,
        "licence": about.licence or "Apache-2.0",
        "description": about.description or f"a small recogniser trained on {of}",
        "height": model.height,
        "signs": model.signs,
    }
