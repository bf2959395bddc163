"""What an index is worth that knows what is in its pictures: measured on one made for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedsearch.errors import DataError
from embedsearch.index.asking import Asking
from embedsearch.index.telling import Telling
from embedsearch.index.writing import Writing
from embedsearch.search.engine import Asked
from embedsearch.search.fusion import WEIGHTS, Evidence, Weights, score

if TYPE_CHECKING:
    from embedsearch.indexing.progress import Progress
    from embedsearch.training.evaluate.objects import ObjectQueries


class MeasuredIndex(Writing, Asking, Telling):
    """An index of pictures whose objects are known."""

    def evidence(self, text: str) -> dict[str, Evidence]:
        """What speaks for every picture, by path, where ``text`` is asked for."""
        catalogue = self._reader()
        with catalogue.snapshot():
            engine = self._engine(None)
            tower = self._encoder(engine.encoder)
            (vector,) = tower.encode_texts([text])
            paths = {image.id: image.path for image in catalogue.images("ok")}
            asked = Asked(vector, with_objects=True, text=text)
            found = engine.evidence(asked, 50 * len(paths), tower)
            return {paths[image_id]: one for image_id, one in found.items()}


def measure_objects(
    path: Path,
    *,
    encoder: str | None = None,
    detector: str | None = None,
    half: Literal["odd", "even"] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Index the pictures of a ground truth as in ``evaluate detection``, find their objects, and
    ask for each label: ``{"global": {"all": {"mAP"}, "small": {"mAP"}}, "fused": {the same}}``;
    see :func:`~embedsearch.training.evaluate.objects.objects_figures`.

    Global is the cosine of whole pictures alone. Raises :class:`~embedsearch.errors.DataError`.
    """
    from embedsearch.training.evaluate.objects import objects_figures

    with tempfile.TemporaryDirectory(prefix="embedsearch-") as folder:
        queries, found = gather_objects(
            path, Path(folder), encoder=encoder, detector=detector, half=half, progress=progress
        )
    return {
        "global": objects_figures(queries, scores_of(found, None)),
        "fused": objects_figures(queries, scores_of(found, WEIGHTS)),
    }


def gather_objects(
    path: Path,
    folder: Path,
    *,
    encoder: str | None = None,
    detector: str | None = None,
    half: Literal["odd", "even"] | None = None,
    progress: Progress | None = None,
) -> tuple[ObjectQueries, list[list[Evidence]]]:
    """The queries, and what speaks for each picture where each is asked for: lists of (labels,
    photos). The index is made in ``folder``."""
    from embedsearch.training.evaluate.detection import read_photos
    from embedsearch.training.evaluate.objects import object_queries

    photos = read_photos(path, half)
    queries = object_queries(photos)
    paths = [os.path.abspath(photo.file) for photo in photos]
    with MeasuredIndex(folder) as index:
        report = index.add(*paths, encoder=encoder, progress=progress)
        if report.failures:
            first = report.failures[0]
            raise DataError(f"{first.path} cannot be used: {first.reason}")
        index.enrich("detect", specs={"detect": detector}, progress=progress)
        found = []
        for label in queries.labels:
            told = index.evidence(label)
            found.append(
                [told[os.path.realpath(one)] if one not in told else told[one] for one in paths]
            )
    return queries, found


def scores_of(found: list[list[Evidence]], weights: Weights | None) -> np.ndarray[Any, Any]:
    """Scores (labels, photos), float32: fused with ``weights``, or with None the cosines of whole
    pictures."""
    return np.array(
        [
            [(one.whole or 0.0) if weights is None else score(one, weights) for one in evidences]
            for evidences in found
        ],
        np.float32,
    )
