"""What others say of the photos and texts of a run: a classifier's guesses, a sentence encoder's
rows. Losses of fine-tuning learn from them beside captions and labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from embedsearch.errors import DataError
from embedsearch.training.data.photo_set import PhotoSet
from embedsearch.training.data.photos import all_texts
from embedsearch.training.recipe import Data
from embedsearch.training.teachers.guesses import Guesses, guess, read_class_names
from embedsearch.training.teachers.sentences import SentenceRows, ask_sentences, read_words
from embedsearch.training.teachers.teacher import Progress

GUESSES, SENTENCES, WORDS = "guesses", "sentences", "words"
"""The losses that learn from them."""


@dataclass(frozen=True)
class Hints:
    """What was asked for."""

    guesses: Guesses | None = None
    """Of every photo."""
    sentences: SentenceRows | None = None
    """Of every text that a batch may hold."""
    words: SentenceRows | None = None


def ask_for_hints(
    losses: Collection[str],
    data: Data,
    found: PhotoSet,
    *,
    cache: Path,
    progress: Progress = lambda what, done, total: None,
) -> Hints:
    """Ask for what ``losses`` learn from; answers are kept in the folder ``cache``.

    Raises :class:`~embedsearch.errors.DataError` where nobody is named to ask, and what those who
    are asked raise.
    """
    guesses = sentences = words = None
    if GUESSES in losses:
        if data.classifier is None or data.class_names is None:
            raise DataError(
                "guesses needs a classifier and the names of its classes: "
                "--set data.classifier=litert:FILE --set data.class_names=FILE"
            )
        names = read_class_names(Path(data.class_names).expanduser())
        files = [photo.file for photo in found.photos]
        guesses = guess(data.classifier, names, files, cache=cache, progress=progress)
    if SENTENCES in losses:
        texts = all_texts(found.photos)
        sentences = ask_sentences(data.sentences, texts, cache=cache, progress=progress)
    if WORDS in losses:
        listed = read_words(None if data.words is None else Path(data.words))
        texts = [*listed, *found.names]
        words = ask_sentences(data.sentences, texts, cache=cache, progress=progress)
    return Hints(guesses, sentences, words)
