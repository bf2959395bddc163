"""What the teachers of a distillation say: of photos, or of each look at them, and of texts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Encoder
from embedsearch.errors import DataError
from embedsearch.training.augment.policies import augmentation
from embedsearch.training.data.photo_set import PhotoSet
from embedsearch.training.data.photos import all_texts
from embedsearch.training.distill.principal_axes import Axes, on_axes, principal_axes
from embedsearch.training.evaluate.category import prompt
from embedsearch.training.evaluate.held_out import embed_texts
from embedsearch.training.looks.eye import Eye
from embedsearch.training.looks.look_cache import cache_looks, fingerprint
from embedsearch.training.recipe import Distillation
from embedsearch.training.teachers.sentences import SentenceRows, ask_sentences, read_words
from embedsearch.training.teachers.teacher import Progress, teach_looks, teach_photos, teach_texts

AXES = ("learned", "principal")
OF_PHOTOS = frozenset({"cosine", "distances", "angles", "soft", "affinity"})
"""Losses that learn from what the teacher makes of photos."""
_AXES_OF = 8192
"""So many photos and texts are enough to choose axes by."""


@dataclass(frozen=True)
class Lessons:
    """All that the teachers say in a run."""

    held: NDArray[np.float16]
    """(photos held out, D)"""
    photos: NDArray[np.float16] | None = None
    """(photos, looks, D): of each kept look, or one of the photo itself. None where nothing is
    learned from them, or the teacher is asked live."""
    texts: Sequence[str] = ()
    text_rows: NDArray[np.float16] | None = None
    """(texts, D)"""
    prompts: Sequence[str] = ()
    """Names of classes as they are asked for."""
    prototypes: NDArray[np.float16] | None = None
    """(prompts, D)"""
    words: SentenceRows | None = None
    """By the text teacher."""
    axes: Axes | None = None
    """On which the rows are, where not on all that the teacher has."""

    def on(self, axes: Axes) -> Lessons:
        """The same in fewer dimensions."""
        text_rows = None if self.text_rows is None else on_axes(self.text_rows, axes)
        prototypes = None if self.prototypes is None else on_axes(self.prototypes, axes)
        photos = None if self.photos is None else on_axes(self.photos, axes)
        return replace(
            self,
            held=on_axes(self.held, axes),
            photos=photos,
            text_rows=text_rows,
            prototypes=prototypes,
            axes=axes,
        )


@dataclass(frozen=True)
class Asking:
    """Who is asked, and about what."""

    recipe: Distillation
    teacher: Encoder
    set: PhotoSet
    eye: Eye
    """The student's, as it is now."""
    cache: Path
    """Where answers are kept."""
    threads: int
    progress: Progress

    def lessons(self, losses: Collection[str]) -> Lessons:
        """Ask for what ``losses`` learn from. Raises
        :class:`~embedsearch.errors.EmbedSearchError`."""
        teaching, teacher, name = self.recipe.teacher, self.teacher, self.teacher.info.id
        if teaching.axes not in AXES:
            raise DataError(f"axes are {' or '.join(AXES)}, not {teaching.axes!r}")
        given = self._given
        told: dict[str, Any] = {}
        texts = all_texts(self.set.photos)
        if teacher.info.has_text and {"affinity", "text"} & set(losses):
            told |= {"texts": texts}
            told |= {"text_rows": teach_texts(teacher.encode_texts, name, texts, **given)}
        if teacher.info.has_text and "soft" in losses and self.set.names:
            prompts = [prompt(name) for name in self.set.names]
            told |= {"prompts": prompts}
            told |= {"prototypes": teach_texts(teacher.encode_texts, name, prompts, **given)}
        if teaching.sentences is not None and "words" in losses:
            named = None if teaching.words is None else Path(teaching.words)
            words = [*read_words(named), *self.set.names, *texts]
            told |= {"words": ask_sentences(teaching.sentences, words, **given)}
        photos = None
        if not teaching.live and set(losses) & OF_PHOTOS:
            everyone = range(len(self.set.photos))
            photos = self._of_photos(everyone) if teaching.sees is None else self._of_looks()
        held = self._of_photos(self.set.held) if photos is None else photos[self.set.held]
        lessons = Lessons(held[:, 0], photos, **told)
        if teaching.axes == "principal" and self.eye.looks.encoder.dim < teacher.info.dim:
            return lessons.on(self._axes(lessons))
        return lessons

    @property
    def _given(self) -> dict[str, Any]:
        """To everyone who is asked."""
        return {"cache": self.cache, "progress": self.progress}

    def _of_photos(self, places: Iterable[int]) -> NDArray[np.float16]:
        files = [self.set.photos[place].file for place in places]
        views = self.recipe.teacher.views
        return teach_photos(self.teacher, files, views, threads=self.threads, **self._given)[
            :, None
        ]

    def _of_looks(self) -> NDArray[np.float16]:
        """Of the looks that the student will have, as far as the teacher sees what is drawn."""
        teaching, freeze, looks = self.recipe.teacher, self.recipe.freeze, self.eye.looks
        if freeze.cache is None:
            raise DataError("what the teacher sees are looks that are kept: --cache-frozen DIR")
        size = teaching.look_size or self.teacher.info.input_size
        seen = augmentation(str(teaching.sees), size, looks.about.resize)
        looks = replace(looks, augmentation=seen, side=size)
        views, seed = freeze.views, self.recipe.optimisation.seed
        kept = cache_looks(
            looks,
            views=views,
            seed=seed,
            folder=Path(freeze.cache).expanduser(),
            threads=self.threads,
            progress=self.progress,
        )
        name = fingerprint(looks, views, seed)
        return teach_looks(self.teacher, kept, name=name, threads=self.threads, **self._given)

    def _axes(self, lessons: Lessons) -> Axes:
        rng = np.random.default_rng(self.recipe.optimisation.seed)
        student = self.eye.looks.encoder
        photos = np.sort(rng.permutation(len(self.set.photos))[:_AXES_OF])
        taught_texts = mine_texts = None
        if lessons.text_rows is not None and student.text is not None:
            texts = np.sort(rng.permutation(len(lessons.texts))[:_AXES_OF])
            taught_texts = lessons.text_rows[texts].astype(np.float32)
            mine_texts = embed_texts(student, [lessons.texts[n] for n in texts])
        rows = self._of_photos(photos) if lessons.photos is None else lessons.photos[photos]
        taught = rows[:, 0].astype(np.float32)
        return principal_axes((taught, taught_texts), (self.eye.embed(photos), mine_texts))
