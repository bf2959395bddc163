"""``finetune --task segment``: from photos, masks and a teacher to a segmenter folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from numpy.typing import NDArray

from embedsearch.encoders.torch_tower import choose_device
from embedsearch.enrichers import registry
from embedsearch.enrichers.semantic import SoftSegmenter, enlarged
from embedsearch.enrichers.square import FITS, Fit, fitted
from embedsearch.errors import DataError
from embedsearch.settings import Device, workers
from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.evaluate.detection import Half
from embedsearch.training.evaluate.segmentation import Confusion
from embedsearch.training.loop.checkpoints import History
from embedsearch.training.loop.loop import Loop
from embedsearch.training.loop.steps import Group
from embedsearch.training.networks.memory_format import channels_last
from embedsearch.training.recipe_files import to_toml
from embedsearch.training.segment import samples as sampling
from embedsearch.training.segment.batches import Batches
from embedsearch.training.segment.drawer import Drawer
from embedsearch.training.segment.folder import write_segmenter
from embedsearch.training.segment.kept import KeptMaps, name_of, packed_maps
from embedsearch.training.segment.network import build, freeze
from embedsearch.training.segment.objective import Objective, scaled_to
from embedsearch.training.segment.recipe import Recipe
from embedsearch.training.segment.samples import Sample
from embedsearch.training.segment.teacher import TeacherCache

TRAINING = "training"
REPORT = "report.json"
SCORE = "mIoU"
_MULTIPLE = 32
_QUARTER = 4
"""What is known of the pixels is compared at a quarter of the side, or where logits are finer, at
theirs."""
Progress = Callable[[str, int, int], None]
Tell = Callable[[str], None]


@dataclass
class Outcome:
    """What came of a run."""

    folder: Path
    labels: tuple[str, ...]
    trained_on: int
    """Photos."""
    measured_on: int
    bytes: int = 0
    """Of the network that is written."""
    before_rounding: dict[str, Any] | None = None
    """mIoU and IoU by label on the photos that are measured on; None without any."""
    written: dict[str, Any] | None = None
    """The same of what is written."""
    history: History = field(default_factory=History)

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """IoU by label, in float32 and as written."""
        columns = ["IoU", "trained", "written"]
        if self.before_rounding is None or self.written is None:
            return columns, [("nothing measured on", "-", "-")]
        before, after = self.before_rounding, self.written
        rows = [
            (label, f"{before['by_label'][label]:.3f}", f"{value:.3f}")
            for label, value in after["by_label"].items()
        ]
        return columns, [*rows, ("mean", f"{before[SCORE]:.3f}", f"{after[SCORE]:.3f}")]

    def as_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "labels": list(self.labels),
            "trained_on": self.trained_on,
            "measured_on": self.measured_on,
            "bytes": self.bytes,
            "before_rounding": self.before_rounding,
            "written": self.written,
            "seconds": self.history.seconds,
            "losses": self.history.losses,
            "epochs": self.history.epochs,
        }


class _Maps(Protocol):
    def label_map(self, picture: NDArray[Any]) -> NDArray[Any]: ...


def finetune(
    recipe: Recipe,
    out: Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    progress: Progress = lambda what, done, total: None,
    tell: Tell = lambda line: None,
) -> Outcome:
    """Train by ``recipe`` and write the segmenter to ``out``.

    Raises :class:`~embedsearch.errors.EmbedSearchError` for what is wrong with recipe or data.
    """
    _check(recipe)
    run = _Run(recipe, out, device, progress, tell)
    history = run.train(resume=resume)
    return run.write(history)


class _Run:
    def __init__(
        self, recipe: Recipe, out: Path, device: Device, progress: Progress, tell: Tell
    ) -> None:
        self.recipe, self.out, self.progress, self.tell = recipe, out, progress, tell
        self.threads = workers(recipe.optimisation.threads)
        torch.manual_seed(recipe.optimisation.seed)
        torch.set_num_threads(self.threads)
        self.device = choose_device(device)
        self._read()
        model = recipe.model
        self.network = channels_last(
            build(model.start, model.decoder, len(self.labels) + 1, dict(model.options))
        )
        freeze(self.network, recipe.freeze)
        self.side = self._side()

    def _read(self) -> None:
        data = self.recipe.data
        paths = [Path(path).expanduser() for path in data.paths]
        labelled, bare = sampling.read_samples(paths, cast("Half | None", data.half))
        self.teacher = self._asked_teacher(labelled, sampling.chosen_photos(bare, data))
        kept, held = sampling.hold_out(labelled, data.held_out, data.split_seed)
        if data.measure is not None:
            named = [Path(data.measure).expanduser()]
            kept = labelled
            held, _ = sampling.read_samples(named, cast("Half | None", data.measure_half))
        photos = [] if self.teacher is None else [Sample(file) for file in self.photos]
        self.samples, self.held = [*kept, *photos], held
        if not self.samples:
            raise DataError(
                "name what to train on: a folder with images and masks, JSON lines with objects, "
                "or, with --set distill.teacher=SPEC, photos"
            )
        taught = () if self.teacher is None else self.teacher.labels
        self.labels = sampling.labels_of(data, [*kept, *held], taught)

    def _asked_teacher(self, labelled: Sequence[Sample], photos: list[Path]) -> TeacherCache | None:
        spec = self.recipe.distill.teacher
        if spec is None:
            if photos:
                raise DataError(
                    f"{self.recipe.data.paths[0]}: nothing tells what the pixels of the photos "
                    "show; add masks, or a teacher: --set distill.teacher=litert:FILE"
                )
            return None
        teacher = registry.load("segment", spec)
        if not isinstance(teacher, SoftSegmenter):
            raise DataError(f"{spec}: does not tell how likely classes are; it cannot teach")
        cache = self.recipe.distill.cache
        folder = self.out / TRAINING if cache is None else Path(cache).expanduser()
        made = TeacherCache(teacher, folder)
        asked = [*(each.file for each in labelled), *photos]
        readable = set(made.fill(asked, lambda done, n: self.progress("asking", done, n)))
        self.photos = [photo for photo in photos if photo in readable]
        if len(readable) < len(asked):
            self.tell(f"left out: {len(asked) - len(readable)} photos that cannot be read")
        return made

    def _side(self) -> int:
        size = self.recipe.looks.size
        self.network.eval()
        with torch.inference_mode():
            logits = self.network(torch.zeros((1, size, size, 3), dtype=torch.uint8))
        return max(int(logits.shape[-1]), size // _QUARTER)

    def train(self, *, resume: bool) -> History:
        """Make the loss small; the network then has the weights that are kept."""
        settings = self.recipe.optimisation
        drawer = Drawer(self.samples, self.labels, self.recipe, self.side, self.teacher)
        kept = self._kept(drawer)
        self.network.to(self.device)
        objective = Objective(self.network, self.recipe, self.side)
        batches = Batches(drawer, kept, self.threads)
        if not settings.epochs:
            return History()
        loop = Loop(
            objective,
            self._groups(),
            objective.loss,
            batches,
            batches.an_epoch,
            settings,
            folder=self.out / TRAINING,
            device=self.device,
            told=self._told(),
            watch=self._watched if self.held else None,
            score=SCORE,
            tell=self.tell,
        )
        return loop.run(resume=resume)

    def _groups(self) -> list[Group]:
        settings = self.recipe.optimisation
        old = [p for p in self.network.encoder.parameters() if p.requires_grad]
        known = {id(p) for p in self.network.encoder.parameters()}
        new = [p for p in self.network.parameters() if id(p) not in known]
        return [
            Group(old, settings.rate, settings.decay),
            Group(new, settings.head_rate, settings.head_decay),
        ]

    def _kept(self, drawer: Drawer) -> KeptMaps | None:
        looks, recipe = self.recipe.looks.kept, self.recipe
        if not looks:
            return None
        pixels = torch.zeros((1, recipe.looks.size, recipe.looks.size, 3), dtype=torch.uint8)
        self.network.eval()
        with torch.inference_mode():
            shapes = [each.shape[1:] for each in packed_maps(self.network, pixels)]
        told = "\n".join(
            [
                recipe.model.start,
                str(
                    (recipe.freeze, recipe.looks, recipe.optimisation.seed, self.network.first_map)
                ),
                *(str(sample.file) for sample in self.samples),
            ]
        )
        folder = self.out / TRAINING / name_of(told)
        made = KeptMaps(folder, looks, len(self.samples), shapes)
        made.fill(
            self.network, drawer, lambda done, n: self.progress("running frozen stages", done, n)
        )
        return made

    def _told(self) -> str:
        """What must be the same for a run to go on."""
        settings = self.recipe.optimisation.what_is_learned()
        photos = f"# {len(self.samples)} photos, {', '.join(self.labels)}\n"
        return photos + to_toml(replace(self.recipe, optimisation=settings))

    def _watched(self) -> dict[str, float]:
        return {SCORE: float(self._figures(self)[SCORE])}

    def label_map(self, picture: NDArray[Any]) -> NDArray[Any]:
        """As the segmenter that is written will, in float32."""
        model = self.recipe.model
        square = fitted(picture, model.size, cast(Fit, model.fit))
        with torch.inference_mode():
            pixels = torch.tensor(square.pixels[None]).to(self.device)
            classes = scaled_to(self.network(pixels), model.size // 2).argmax(1)[0]
        inner = square.inner(classes.cpu().numpy().astype("uint8"))
        return enlarged(inner, *picture.shape[:2])

    def _figures(self, segmenter: _Maps) -> dict[str, Any]:
        confusion = Confusion(self.labels)
        for sample in self.held:
            truth = sample.truth(self.labels)
            assert truth is not None
            told = segmenter.label_map(load_pixels(sample.file, self.recipe.model.size))
            confusion.add(truth, enlarged(told, *truth.shape))
        return confusion.figures()

    def write(self, history: History) -> Outcome:
        """Write the folder, and measure what is written."""
        self.network.cpu().eval()
        outcome = Outcome(self.out, self.labels, len(self.samples), len(self.held))
        outcome.history = history
        self.device = torch.device("cpu")
        seen = [sample.file for sample in self.samples]
        told = write_segmenter(self.network, self.out, self.recipe, self.labels, seen)
        outcome.bytes = told.stat().st_size
        if self.held:
            outcome.before_rounding = self._figures(self)
            written = registry.load("segment", str(self.out))
            outcome.written = self._figures(cast(_Maps, written))
        training = self.out / TRAINING
        training.mkdir(parents=True, exist_ok=True)
        (training / "recipe.toml").write_text(to_toml(self.recipe), encoding="utf-8")
        report = json.dumps(outcome.as_json(), indent=2) + "\n"
        (training / REPORT).write_text(report, encoding="utf-8")
        return outcome


def _check(recipe: Recipe) -> None:
    for name, size in (("model.size", recipe.model.size), ("looks.size", recipe.looks.size)):
        if size < _MULTIPLE or size % _MULTIPLE:
            raise DataError(f"{name} is a multiple of {_MULTIPLE} pixels, not {size}")
    if recipe.model.fit not in FITS:
        raise DataError(f"model.fit is {' or '.join(FITS)}, not {recipe.model.fit!r}")
    for name, half in (("half", recipe.data.half), ("measure_half", recipe.data.measure_half)):
        if half not in (None, "odd", "even"):
            raise DataError(f"data.{name} is odd or even, not {half!r}")
    if recipe.looks.kept and recipe.freeze is None:
        raise DataError("looks.kept keeps what frozen stages give: name the first trained, freeze=")
