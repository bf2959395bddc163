"""A run of ``distill``: from recipe, photos and teachers to an encoder folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from embedsearch.encoders import registry
from embedsearch.encoders.base import Embeddings, Encoder
from embedsearch.encoders.torch_tower import choose_device
from embedsearch.encoders.towers import towers_of
from embedsearch.errors import DataError, EmbedSearchError
from embedsearch.settings import Device, workers
from embedsearch.training.augment.policies import augmentation
from embedsearch.training.data.photo_lists import read_photos_to_look_at, readable
from embedsearch.training.data.photo_set import photo_set
from embedsearch.training.distill.agreement import TaughtWords, agreement
from embedsearch.training.distill.imitation import MAPS, OF_TEXTS, SUPCON, Imitation
from embedsearch.training.distill.lessons import OF_PHOTOS, Asking, Lessons
from embedsearch.training.distill.live_teacher import LiveTeacher
from embedsearch.training.distill.map_hints import MapHints
from embedsearch.training.distill.outcome import Outcome
from embedsearch.training.distill.principal_axes import Axes, on_axes
from embedsearch.training.distill.student import start_student
from embedsearch.training.distributed import collectives, placement
from embedsearch.training.distributed.ranks import device_of, ranks
from embedsearch.training.distributed.rendezvous import joined
from embedsearch.training.evaluate import held_out
from embedsearch.training.evaluate.held_out import SCORE, Figures
from embedsearch.training.looks.batches import Batches, Plan
from embedsearch.training.looks.drawing import Looks
from embedsearch.training.looks.eye import Eye
from embedsearch.training.looks.frozen_cache import FrozenCache, cache_frozen
from embedsearch.training.loop.checkpoints import History
from embedsearch.training.loop.loop import Loop, goes_on_by_itself
from embedsearch.training.loop.new_head import standardise_new_head
from embedsearch.training.loop.unfreezing import parameter_groups
from embedsearch.training.networks.encoder import TrainableEncoder, used_at
from embedsearch.training.networks.loading import load_trainable
from embedsearch.training.networks.memory_format import channels_last
from embedsearch.training.networks.trained_folder import TRAINING, write_trained
from embedsearch.training.recipe import Distillation
from embedsearch.training.recipe_files import to_toml, weighted
from embedsearch.training.teachers.torch_teacher import on_device

Progress = Callable[[str, int, int], None]
Tell = Callable[[str], None]
REPORT = "report.json"


class Distiller:
    """One run of ``distill``."""

    def __init__(
        self,
        recipe: Distillation,
        out: Path,
        *,
        device: Device = "auto",
        progress: Progress = lambda what, done, total: None,
        tell: Tell = lambda line: None,
    ) -> None:
        """Read the photos, load teacher and student. Raises
        :class:`~embedsearch.errors.EmbedSearchError`."""
        self.recipe, self.out, self.progress, self.tell = recipe, out, progress, tell
        self.threads = workers(recipe.optimisation.threads)
        self.device = device_of(choose_device(device), ranks())
        if not recipe.teacher.spec or not recipe.model.start:
            raise DataError("name the teacher, --teacher SPEC, and the student, --student SPEC")
        self._read_photos()
        self.teacher: Encoder = _load_teacher(recipe.teacher.spec, self.device)
        self._load_student()
        self.weights = weighted(recipe.loss.losses or self._usual_losses())
        self.axes: Axes | None = None
        """On which the student learns the teacher's rows, where not on all."""

    def distill(self, *, resume: bool = False) -> Outcome:
        """Ask the teachers, train the student, and write it with its report."""
        started = time.monotonic()
        with joined(self.device) as me:
            placement.place(self.student, self.device, self.recipe.optimisation.strategy)
            channels_last(self.student.image)
            self._look()
            with collectives.main_first():
                lessons = self._lessons()
            taught = lessons.held.astype(np.float32)
            before = self._figures(taught)
            self.tell(f"before: {_said(before)}")
            again = goes_on_by_itself(me, self.out / TRAINING)
            history = self._train(lessons, taught, resume or again)
            student = self._figures(taught)
            teacher = self._teachers_figures(taught)
            self.tell(f"student: {_said(student)}; teacher: {_said(teacher)}")
            outcome = Outcome(self.out, teacher, before, student, history)
            outcome.seconds = time.monotonic() - started
            if me.is_main:
                self._write(outcome)
        return outcome

    def _read_photos(self) -> None:
        data = self.recipe.data
        if not data.paths:
            raise DataError("name photos to learn from: a folder, a CSV or a JSONL file")
        photos = [p for path in data.paths for p in read_photos_to_look_at(Path(path), data.only)]
        self.set = photo_set(readable(photos, self.threads, self.tell), data)

    def _load_student(self) -> None:
        if self.recipe.optimisation.threads:
            torch.set_num_threads(self.recipe.optimisation.threads)
        started = start_student(self.recipe, self.teacher.info.dim)
        self.student: TrainableEncoder = started.encoder
        self.student.image.take_in_pieces(self.recipe.optimisation.pieces)
        self.frozen_text = started.frozen_text
        until = self.recipe.freeze.until
        self.first = 0 if until is None else self.student.image.stage_number(until)

    def _usual_losses(self) -> Sequence[str]:
        names = ["cosine"]
        if self.student.text is not None:
            if self.set.has_texts and self.teacher.info.has_text:
                names += ["affinity"] if self.frozen_text else ["affinity", "text"]
            if self.recipe.teacher.sentences is not None:
                names.append("words")
        return names

    def _lessons(self) -> Lessons:
        """Ask the teachers."""
        kept = self.recipe.teacher.cache
        asking = Asking(
            self.recipe,
            self.teacher,
            self.set,
            self.eye,
            Path(kept).expanduser() if kept else self.out / TRAINING,
            self.threads,
            self.progress,
        )
        lessons = asking.lessons(self.weights)
        self.axes = lessons.axes
        return lessons

    def _look(self) -> None:
        recipe, about, teaching = self.recipe, self.student.about, self.recipe.teacher
        larger = teaching.look_size if teaching.live else None  # than what the student takes
        drawn = augmentation(recipe.data.augmentation, larger or about.size, about.resize)
        if teaching.live and teaching.sees is not None:
            raise DataError(
                "--teacher-sees is of looks that are kept before the run; a teacher that is asked "
                "live sees what the student sees"
            )
        if drawn.mixes and not recipe.teacher.live:
            raise DataError(
                f"{drawn.mixes[0].method} lays photos over one another, of which the teacher has "
                "said nothing; ask it live (--teacher-live), or leave it out of the augmentation"
            )
        self.looks = Looks(self.set.photos, self.student, drawn, side=larger)
        self.cache: FrozenCache | None = None
        if recipe.freeze.cache is not None:
            if self.first and not self.student.image.sequential:
                raise DataError(
                    "what frozen stages give can be kept of a network whose stages run one after "
                    "another; without --freeze-until looks are kept"
                )
            if self.first and teaching.live:
                raise DataError(
                    "a teacher that is asked live looks at pixels; leave --freeze-until out, or "
                    "--cache-frozen"
                )
            self.cache = cache_frozen(
                self.looks,
                self.first,
                views=recipe.freeze.views,
                seed=recipe.optimisation.seed,
                folder=Path(recipe.freeze.cache).expanduser(),
                threads=self.threads,
                progress=self.progress,
            )
        entered = self.first if self.cache is not None else 0
        self.eye = Eye(self.looks, self.cache, entered, self.threads)
        if larger is not None:
            self.eye = replace(self.eye, looks=replace(self.looks, side=None), cache=None)
        seed = recipe.optimisation.seed
        standardise_new_head(self.student, self.eye, self.set.kept, seed)

    def _train(self, lessons: Lessons, taught: Embeddings, resume: bool) -> History:
        recipe, settings = self.recipe, self.recipe.optimisation
        if not self.set.has_texts and set(OF_TEXTS) & self.weights.keys():
            raise DataError("a loss of texts needs captions or labels on every photo")
        has = self.set.labels[self.set.kept] >= 0
        if SUPCON in self.weights and not has.any():
            raise DataError("supcon pulls photos of one label together, and no photo has a label")
        plan = Plan(
            self.set.photos,
            self.set.labels,
            self.set.kept[~has],
            self.set.kept[has],
            settings.batch,
            settings.captioned,
            "none",
            settings.seed,
        )
        imitation = Imitation(
            self.student,
            lessons,
            self.weights,
            recipe.loss,
            places=plan.places,
            live=self._live(),
            hints=self._hints(),
            first_stage=self.eye.first,
            frozen_text=self.frozen_text,
            seed=settings.seed,
        )
        imitation.losses.to(self.device)
        imitation.log_scale.data = imitation.log_scale.data.to(self.device)
        if not settings.epochs:
            return History()
        batches = Batches(
            plan,
            self.looks,
            self.cache,
            reads=bool(set(OF_TEXTS) & self.weights.keys()),
            twice=False,
            label_weight=recipe.loss.label_weight,
            threads=self.threads,
        )
        freeze = replace(recipe.freeze, text=self.frozen_text)
        loop = Loop(
            imitation,
            parameter_groups(imitation, self.first, freeze, settings),
            imitation.loss,
            batches,
            plan.batches,
            settings,
            folder=self.out / TRAINING,
            device=self.device,
            told=self._told(),
            watch=(lambda: self._figures(taught, imitation)) if len(self.set.held) else None,
            score=SCORE,
            tell=self.tell,
        )
        history = loop.run(resume=resume)
        self.student = imitation.encoder  # another one after FSDP
        self.looks = replace(self.looks, encoder=self.student)
        self.eye = replace(self.eye, looks=replace(self.eye.looks, encoder=self.student))
        return history

    def _live(self) -> LiveTeacher | None:
        """The teacher, where it is asked at every step."""
        if not self.recipe.teacher.live:
            return None
        return LiveTeacher(
            self.teacher if OF_PHOTOS & self.weights.keys() else None,
            size=self.student.size,
            mixes=self.looks.augmentation.mixes,
            threads=self.threads,
            seed=self.recipe.optimisation.seed,
            axes=self.axes,
        )

    def _hints(self) -> MapHints | None:
        """Maps that the teacher gives, where they are learned."""
        if MAPS not in self.weights:
            return None
        if self.eye.first:
            raise DataError(
                "maps are compared from the pixels on; leave --freeze-until out, or --cache-frozen"
            )
        if placement.pipeline() is not None:
            raise DataError("maps cannot be compared in a pipeline; take --strategy ddp or fsdp")
        if self.student.image.pieces > 1:
            raise DataError(
                "the loss maps compares what stages give of the whole batch: leave "
                "optimisation.pieces out, or maps"
            )
        try:
            teacher = load_trainable(self.recipe.teacher.spec)
        except EmbedSearchError as error:
            raise DataError(
                f"maps are learned of one teacher, whose network PyTorch can run: {error}"
            ) from error
        return MapHints(self.student, teacher.to(self.device), self.recipe.loss.maps)

    def _told(self) -> str:
        """What must be the same for a run to go on."""
        settings = self.recipe.optimisation.what_is_learned()
        photos = f"# {len(self.set.photos)} photos; {self.teacher.info.id}\n"
        return photos + to_toml(replace(self.recipe, optimisation=settings))

    def _figures(self, taught: Embeddings, imitation: Imitation | None = None) -> Figures:
        """Of the student: how well it does, and how far it agrees with the teacher. Either alone
        is a poor guide to which epoch is best, so the score is the mean of both."""
        pictures = self.eye.embed(self.set.held)
        figures = self._measured(self.student, pictures)
        figures |= agreement(pictures, taught)
        return self._scored(figures)

    def _teachers_figures(self, taught: Embeddings) -> Figures:
        knows = self._teachers_texts if self.teacher.info.has_text else None
        figures = self._measured(TaughtWords(knows), taught)
        return self._scored(figures | agreement(taught, taught))

    def _teachers_texts(self, texts: Sequence[str]) -> Embeddings:
        rows = self.teacher.encode_texts(texts)
        return rows if self.axes is None else on_axes(rows, self.axes).astype(np.float32)

    def _scored(self, figures: Figures) -> Figures:
        agreed = "cosine" if "cosine" in self.weights and "cosine" in figures else "relations"
        both = [figures[name] for name in (SCORE, agreed) if name in figures]
        return figures | ({SCORE: float(np.mean(both))} if both else {})

    def _measured(self, encoder: held_out.Reader, pictures: Embeddings) -> Figures:
        return held_out.measure(
            encoder,
            self.set.held_photos,
            pictures,
            self.set.names,
            self.set.labels[self.set.held],
        )

    def _write(self, outcome: Outcome) -> None:
        write_trained(
            used_at(self.student, self.recipe.model.used_at),
            self.out,
            about=self.recipe.about,
            description=f"{self.recipe.model.start}, taught by {self.recipe.teacher.spec} on "
            f"{len(self.set.kept):,} photos",
            recipe=to_toml(self.recipe),
        )
        told = json.dumps(outcome.as_json(), indent=2) + "\n"
        (self.out / TRAINING / REPORT).write_text(told, encoding="utf-8")


def _load_teacher(spec: str, device: torch.device) -> Encoder:
    # Not "cuda" there: of several teachers one may run on a CPU only.
    encoder = registry.load(spec, "cpu" if device.type == "cpu" else "auto")
    return on_device(towers_of(encoder), device)


def _said(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items()) or "nothing held out"
