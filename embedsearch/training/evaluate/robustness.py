"""``robustness``: what is left of an encoder's answers as its pictures get worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Embeddings, Encoder, Pixels
from embedsearch.errors import DataError, PictureError
from embedsearch.images.decode import decode
from embedsearch.training.augment.corruptions import CORRUPTIONS
from embedsearch.training.evaluate.copies import ORIGINAL
from embedsearch.training.evaluate.ground_truth import (
    Progress,
    Row,
    encode_texts,
    read_csv,
    read_json_lines,
    silent,
)
from embedsearch.training.evaluate.metrics import first_ranks

LEVELS = tuple((name, level) for name, one in CORRUPTIONS.items() for level in one.levels)
"""Every corruption at every strength it is measured at."""
AGREEMENT, ITSELF, BY_TEXT, BY_LABEL = "agreement", "R@1", "text_R@10", "label_R@1"
FIGURES = {
    AGREEMENT: "cosine of the spoilt picture's embedding with that of the clean one, mean",
    ITSELF: "share of spoilt pictures whose nearest clean picture is their own",
    BY_TEXT: "share of captions whose picture is among the ten nearest, all pictures spoilt",
    BY_LABEL: "share of spoilt pictures whose nearest other picture, clean, has the same label",
}
_SHORTER_SIDE = 512
"""Photos larger than this are reduced before they are spoilt, so that all encoders get the same
pixels."""
_PRIME = 1_000_003
"""Keeps the seeds of neighbouring runs apart."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Subjects:
    """The pictures to spoil, and what is asked of them beside."""

    files: list[tuple[Path, str]]
    """A file and where it is named."""
    captions: list[tuple[str, str]]
    owners: NDArray[np.int64]
    """The picture of each caption."""
    labels: list[tuple[str, str]] | None
    """Set and label of each picture; None where the ground truth does not say."""


@dataclass(frozen=True)
class Measured:
    """The figures of one encoder; the keys of every ``Figures`` are some of :data:`FIGURES`."""

    spec: str
    id: str
    clean: Figures
    levels: dict[str, dict[float, Figures]]
    """By corruption and strength."""

    def means(self) -> dict[str, Figures]:
        """The mean of the levels of each corruption, and as ``all`` that of the corruptions."""
        means = {name: _mean(list(levels.values())) for name, levels in self.levels.items()}
        return {**means, "all": _mean(list(means.values()))}

    def told(self) -> dict[str, Any]:
        """As one JSON object."""
        return {
            "spec": self.spec,
            "id": self.id,
            "clean": self.clean,
            "corruptions": {
                name: [
                    {"strength": strength, "told": CORRUPTIONS[name].told(strength), **figures}
                    for strength, figures in levels.items()
                ]
                for name, levels in self.levels.items()
            },
            "mean": self.means(),
        }


def evaluate_robustness(
    path: Path,
    encoders: Sequence[Encoder],
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
) -> tuple[int, list[Measured]]:
    """Measure each encoder on pictures spoilt by every one of :data:`LEVELS`: how many pictures
    these were, and the figures, encoder by encoder.

    ``path`` is ground truth of ``captions``, ``category`` or ``copies`` (its originals); ``sample``
    pictures of it are drawn, or all are taken. All encoders see the same spoilt pixels. Raises
    :class:`~embedsearch.errors.DataError`.
    """
    asked = read_subjects(path, sample, seed)
    found = spoilt_embeddings(asked.files, encoders, seed=seed, workers=workers, progress=progress)
    measured = []
    for encoder, embeddings in zip(encoders, found, strict=True):
        texts = None
        if asked.captions and encoder.info.has_text:
            texts = encode_texts(encoder, asked.captions)
        clean, *spoilt = (
            robustness_figures(rows, embeddings[0], asked, texts) for rows in embeddings
        )
        levels: dict[str, dict[float, Figures]] = {}
        for (name, strength), figures in zip(LEVELS, spoilt, strict=True):
            levels.setdefault(name, {})[strength] = figures
        measured.append(Measured(encoder.info.spec, encoder.info.id, clean, levels))
    return len(asked.files), measured


def robustness_figures(
    spoilt: Embeddings, clean: Embeddings, asked: Subjects, texts: Embeddings | None
) -> Figures:
    """Figures of one corruption at one strength; see :data:`FIGURES`.

    ``spoilt`` and ``clean`` are (N, dim), ``texts`` (C, dim) the embeddings of the captions.
    """
    itself = np.eye(len(clean), dtype=bool)
    figures = {
        AGREEMENT: float((spoilt * clean).sum(axis=1).mean()),
        ITSELF: float((first_ranks(spoilt @ clean.T, itself) == 1).mean()),
    }
    if texts is not None:
        relevant = asked.owners[:, None] == np.arange(len(spoilt))[None, :]
        figures[BY_TEXT] = float((first_ranks(texts @ spoilt.T, relevant) <= 10).mean())
    if asked.labels is not None:
        figures |= _label_figure(spoilt @ clean.T, asked.labels)
    return figures


def _label_figure(similarities: NDArray[np.float32], labels: Sequence[tuple[str, str]]) -> Figures:
    """As ``evaluate category`` counts it: within a set, the picture itself left out, and pictures
    without another of their label ask nothing."""
    sets, names = (np.array(column) for column in zip(*labels, strict=True))
    same_set = sets[:, None] == sets[None, :]
    relevant = same_set & (names[:, None] == names[None, :])
    np.fill_diagonal(relevant, False)
    np.fill_diagonal(same_set, False)
    asking = relevant.any(axis=1)
    if not asking.any():
        return {}
    among = np.where(same_set, similarities, -np.inf)
    return {BY_LABEL: float((first_ranks(among[asking], relevant[asking]) == 1).mean())}


def read_subjects(path: Path, sample: int | None, seed: int) -> Subjects:
    """Read the ground truth of ``captions`` (JSON lines), ``category`` or ``copies`` (CSV), and
    draw ``sample`` of its pictures. Raises :class:`~embedsearch.errors.DataError`."""
    if path.suffix.lower() != ".csv":
        rows = _drawn(read_json_lines(path), sample, seed)
        texts = [[(text, row.where) for text in row.texts("captions")] for row in rows]
        owners = np.repeat(np.arange(len(rows)), [len(some) for some in texts])
        captions = [text for some in texts for text in some]
        return Subjects([(row.file(), row.where) for row in rows], captions, owners, None)
    rows = read_csv(path, ("file",))
    labels = None
    if {"set", "label"} <= rows[0].values.keys():
        rows = _drawn(rows, sample, seed)
        labels = [(row.text("set"), row.text("label")) for row in rows]
    elif "kind" in rows[0].values:
        rows = _drawn([row for row in rows if row.text("kind") == ORIGINAL], sample, seed)
    else:
        raise DataError(
            f"{path}: is ground truth neither of category (columns set and label) nor of copies "
            "(column kind)"
        )
    if not rows:
        raise DataError(f"{path}: holds no picture of kind {ORIGINAL}")
    files = [(row.file(), row.where) for row in rows]
    return Subjects(files, [], np.empty(0, np.int64), labels)


def spoilt_embeddings(
    files: Sequence[tuple[Path, str]],
    encoders: Sequence[Encoder],
    *,
    seed: int,
    workers: int = 1,
    progress: Progress = silent,
) -> list[NDArray[np.float32]]:
    """Embed each picture clean and then at each of :data:`LEVELS`: for each encoder float32
    (1 + levels, len(files), dim).

    Raises :class:`~embedsearch.errors.DataError` for a file that cannot be read or shown.
    """
    most = max(_SHORTER_SIDE, *(encoder.info.input_size for encoder in encoders))

    def embedded(place: int) -> list[Embeddings]:
        file, where = files[place]
        try:
            pixels = decode(file, most).pixels
        except PictureError as error:
            raise DataError(f"{where}: {file} cannot be used: {error}") from error
        found: list[list[Embeddings]] = [[] for _ in encoders]
        for spoilt in _spoilt(pixels, seed * _PRIME + place):
            for rows, encoder in zip(found, encoders, strict=True):
                # Reduced as indexing reduces a picture.
                seen = decode(spoilt, encoder.info.input_size).pixels
                rows.append(encoder.encode_images([seen])[0])
        return [np.stack(rows) for rows in found]

    by_picture = []
    with ThreadPoolExecutor(workers) as pool:
        for done, rows in enumerate(pool.map(embedded, range(len(files))), 1):
            by_picture.append(rows)
            progress(done, len(files))
    return [np.stack(rows, axis=1) for rows in zip(*by_picture, strict=True)]


def _spoilt(pixels: Pixels, seed: int) -> Iterator[Pixels]:
    """The picture as it is, then at every one of :data:`LEVELS`. The same seed at all of them: what
    hides more hides what less of it hid."""
    yield pixels
    for name, strength in LEVELS:
        yield CORRUPTIONS[name](pixels, strength, seed)


def _drawn(rows: list[Row], sample: int | None, seed: int) -> list[Row]:
    """``sample`` of the rows in their order; all where there are no more than that."""
    if sample is None or sample >= len(rows):
        return rows
    chosen = np.random.default_rng(seed).permutation(len(rows))[:sample]
    return [rows[place] for place in sorted(chosen)]


def _mean(figures: Sequence[Figures]) -> Figures:
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
