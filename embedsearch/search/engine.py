"""From a query to hits: vector search, labels, words; filter; one ranking, grouped by picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Encoder
from embedsearch.images.files import status
from embedsearch.records import Hit, Region, Signal
from embedsearch.search.count import Count
from embedsearch.search.fusion import WEIGHTS, Evidence, Weights, explained, ranked
from embedsearch.search.label_match import Meant, meant_labels, said_words
from embedsearch.search.matching import matches, standard_scores
from embedsearch.store.catalogue import Catalogue, Ids, StoredEncoder
from embedsearch.store.findings import has_lines, part_ids
from embedsearch.store.object_search import (
    images_with,
    labelled,
    labels,
    owners,
    whole_regions,
)
from embedsearch.store.pictures_view import matching_images
from embedsearch.store.vector_index import VectorIndex

CANDIDATES = 500
"""Of each kind of signal at least so many regions are looked at, and four times as many as hits are
wanted."""
LEAST_TEXT = 0.5
"""Words that stand in a picture by chance are not shown as a reason: half of those asked for must
be there, as they are."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the engine; pictures are to meet all of it."""

    vector: NDArray[np.float32] | None = None
    """float32 (dim,), L2-normalised: what whole pictures and, ``with_objects``, parts are to be
    like."""
    with_objects: bool = False
    text: str | None = None
    """Words that may also stand in the picture, or name an object in it."""
    objects: Sequence[tuple[str, NDArray[np.float32] | None]] = ()
    """Objects that must be there, each with the embedding of its words, where they have one."""
    counts: Sequence[Count] = ()
    words: str | None = None
    """Words that must stand in the picture."""
    where: str | None = None
    """An SQL expression over the view ``pictures``."""
    without: str | None = None
    """The absolute path of a picture that is left out."""


class Engine:
    """Searches one encoder's embeddings as they are in one snapshot of the catalogue."""

    def __init__(self, catalogue: Catalogue, encoder: StoredEncoder, vectors: Path) -> None:
        self.encoder = encoder
        self._catalogue = catalogue
        self._vectors = VectorIndex(catalogue, encoder, vectors)
        self._parts: Ids | None = None

    def close(self) -> None:
        self._vectors.close()

    def embedding_of(self, path: str) -> NDArray[np.float32] | None:
        """The embedding of the picture at an absolute path, float32 (dim,), if the index has it
        and the file is as it was indexed."""
        image = self._catalogue.image_at(os.fsencode(path))
        if image is None or image.status != "ok":
            return None
        try:
            as_it_is = status(path)
        except OSError:
            return None
        if as_it_is != (image.size, image.mtime_ns):
            return None
        return self._catalogue.embedding_of(image, self.encoder)

    def search(
        self,
        asked: Asked,
        k: int,
        *,
        min_score: float | None = None,
        words: NDArray[np.float32] | None = None,
        tower: Encoder | None = None,
        weights: Weights = WEIGHTS,
    ) -> list[Hit]:
        """The ``k`` best pictures, each once. ``min_score`` keeps those of at least this score,
        which is a cosine where only embeddings speak; ``words``, embeddings of a vocabulary (W,
        dim), those that match at all (:mod:`embedsearch.search.matching`). ``tower`` says which
        labels words mean."""
        rich = len(self._part_ids()) > 0 or has_lines(self._catalogue)
        found = self.evidence(asked, max(CANDIDATES, 4 * k) if rich else k, tower)
        said = asked.vector if asked.vector is not None else _first_vector(asked)
        if words is not None and said is not None:
            found = self._matching(found, said, words)
        best = ranked(found, weights)
        if min_score is not None:
            best = [one for one in best if one[1] >= min_score]
        return self._hits(best[:k], found)

    def evidence(
        self, asked: Asked, candidates: int, tower: Encoder | None = None
    ) -> dict[int, Evidence]:
        """What speaks for which picture, by image id: the ``candidates`` best of each kind of
        signal, of pictures that meet all that is asked."""
        gathering = _Gathering(self._catalogue, candidates)
        allowed, left_out = self._allowed(asked), self._left_out(asked)
        if asked.words is not None:
            allowed = gathering.words(asked.words, allowed, every=True)
        for text, vector in asked.objects:
            allowed = self._object(gathering, text, vector, allowed, tower)
        for count in asked.counts:
            gathering.labelled([Meant(count.label, 1.0)], allowed)
        if asked.vector is not None:
            self._nearest(gathering, asked, allowed, left_out)
        if asked.text is not None and self._catalogue.knows_findings:
            meant = meant_labels(asked.text, labels(self._catalogue), tower)
            gathering.labelled(meant, allowed)
            gathering.words(asked.text, allowed, every=False)
        if asked.vector is not None:
            self._complete(gathering, asked.vector)
        elif allowed is not None and asked.text is None:
            for image_id in allowed:
                gathering.of(image_id)
        return {
            id_: one
            for id_, one in gathering.found.items()
            if id_ not in left_out and (allowed is None or id_ in allowed)
        }

    def _matching(
        self, found: dict[int, Evidence], vector: NDArray[np.float32], words: NDArray[np.float32]
    ) -> dict[int, Evidence]:
        near = [id_ for one in found.values() for id_ in (*one.whole_ids, *one.part_ids)]
        ids = np.unique(near)
        standing: dict[int, float] = {}
        for some, rows in self._catalogue.embeddings(self.encoder, ids.astype(np.int64)):
            scores = standard_scores(rows, vector, words).tolist()
            standing |= dict(zip(some.tolist(), scores, strict=True))

        def best(some: list[int]) -> float:
            return max((standing[id_] for id_ in some), default=-np.inf)

        return {
            image_id: one
            for image_id, one in found.items()
            if matches(one, best(one.whole_ids), best(one.part_ids))
        }

    def _hits(self, best: list[tuple[int, float]], found: dict[int, Evidence]) -> list[Hit]:
        wholes = whole_regions(self._catalogue, [image_id for image_id, _ in best])
        hits: list[Hit] = []
        for image_id, score in best:
            if (region := wholes.get(image_id)) is None:
                continue
            evidence = found[image_id]
            whole = None
            if evidence.whole is not None:
                whole = Signal("image", evidence.whole, region.box, region.label)
            signals = explained(evidence, whole)
            hits.append(Hit(len(hits) + 1, region.path, score, signals))
        return hits

    def _allowed(self, asked: Asked) -> set[int] | None:
        """Ids of the pictures that filters leave; None: all."""
        allowed: set[int] | None = None
        filters = [
            images_with(self._catalogue, count.label, count.operator, count.number)
            for count in asked.counts
        ]
        if asked.where is not None:
            filters.append(matching_images(self._catalogue.path, asked.where))
        for some in filters:
            allowed = set(some) if allowed is None else allowed & set(some)
        return allowed

    def _left_out(self, asked: Asked) -> list[int]:
        """Ids of the pictures that are asked to be left out: one or none."""
        if asked.without is None:
            return []
        image = self._catalogue.image_at(os.fsencode(asked.without))
        return [] if image is None else [image.id]

    def _nearest(
        self,
        gathering: _Gathering,
        asked: Asked,
        allowed: set[int] | None,
        left_out: Sequence[int],
    ) -> None:
        assert asked.vector is not None
        excluded = self._catalogue.hidden_region_ids()
        if left_out:
            excluded = np.union1d(excluded, self._catalogue.region_ids_of_images(left_out))
        parts = self._part_ids()
        regions = self._region_ids(allowed)
        if not len(parts):
            ids, scores = self._vectors.search(
                asked.vector, gathering.most, allowed=regions, excluded=excluded
            )
            gathering.wholes(ids, scores)
            return
        whole, of_parts = self._vectors.search_apart(
            asked.vector, gathering.most, parts, allowed=regions, excluded=excluded
        )
        gathering.wholes(*whole)
        gathering.parts(*of_parts, with_objects=asked.with_objects)

    def _object(
        self,
        gathering: _Gathering,
        text: str,
        vector: NDArray[np.float32] | None,
        allowed: set[int] | None,
        tower: Encoder | None,
    ) -> set[int]:
        """Pictures with an object: one whose label the words mean, ranked by its crop where the
        words say more; where they mean none, those whose crops are nearest."""
        meant = meant_labels(text, labels(self._catalogue), tower)
        some = gathering.labelled(meant, allowed)
        if vector is None:
            return some
        parts = self._part_ids()
        if meant:
            region_ids = np.array(sorted(gathering.regions_of(meant)), np.int64)
            parts = np.intersect1d(parts, region_ids)
        elif (regions := self._region_ids(allowed)) is not None:
            parts = np.intersect1d(parts, regions)
        hidden = self._catalogue.hidden_region_ids()
        ids, scores = self._vectors.search(vector, gathering.most, allowed=parts, excluded=hidden)
        near = gathering.parts(ids, scores, with_objects=True)
        return some if meant else near

    def _complete(self, gathering: _Gathering, vector: NDArray[np.float32]) -> None:
        """Give pictures that came in by something else the cosine of the whole."""
        lacking = [id_ for id_, one in gathering.found.items() if one.whole is None]
        wholes = whole_regions(self._catalogue, lacking)
        by_region = {region.id: image_id for image_id, region in wholes.items()}
        ids = np.array(sorted(by_region), np.int64)
        for some, rows in self._catalogue.embeddings(self.encoder, ids):
            for id_, cosine in zip(some.tolist(), (rows @ vector).tolist(), strict=True):
                evidence = gathering.found[by_region[id_]]
                evidence.whole = _cosine(cosine)
                evidence.whole_ids.append(id_)

    def _part_ids(self) -> Ids:
        if self._parts is None:
            self._parts = part_ids(self._catalogue)
        return self._parts

    def _region_ids(self, image_ids: set[int] | None) -> Ids | None:
        if image_ids is None:
            return None
        return self._catalogue.region_ids_of_images(sorted(image_ids))


class _Gathering:
    """Collects what speaks for which picture."""

    def __init__(self, catalogue: Catalogue, most: int) -> None:
        self.most = most
        self.found: dict[int, Evidence] = {}
        self._catalogue = catalogue
        self._regions_of_label: dict[str, set[int]] = {}

    def of(self, image_id: int) -> Evidence:
        return self.found.setdefault(image_id, Evidence())

    def wholes(self, ids: Ids, scores: NDArray[np.float32]) -> None:
        images = owners(self._catalogue, ids.tolist())
        for id_, score in zip(ids.tolist(), scores.tolist(), strict=True):
            if id_ in images:
                self.of(images[id_]).whole = _cosine(score)
                self.of(images[id_]).whole_ids.append(id_)

    def parts(self, ids: Ids, scores: NDArray[np.float32], *, with_objects: bool) -> set[int]:
        images = owners(self._catalogue, ids.tolist())
        regions = self._catalogue.regions(ids.tolist())
        touched = set()
        for id_, score in zip(ids.tolist(), scores.tolist(), strict=True):
            region = regions.get(id_)
            if region is None or id_ not in images:
                continue
            if _is_shot(region):
                self.of(images[id_]).add_shot(_signal(region, score))
                self.of(images[id_]).whole_ids.append(id_)
            elif with_objects:
                self.of(images[id_]).parts.append(_signal(region, score))
                self.of(images[id_]).part_ids.append(id_)
                touched.add(images[id_])
        return touched

    def labelled(self, meant: Sequence[Meant], allowed: set[int] | None) -> set[int]:
        touched = set()
        for one in meant:
            for place in labelled(self._catalogue, [one.label], self.most):
                if allowed is not None and place.image_id not in allowed:
                    continue
                signal = Signal("label", place.score, place.box, place.label, time=place.at)
                self.of(place.image_id).add_label(signal, one.strength)
                self._regions_of_label.setdefault(one.label, set()).add(place.region_id)
                touched.add(place.image_id)
        return touched

    def regions_of(self, meant: Sequence[Meant]) -> set[int]:
        return set().union(*(self._regions_of_label.get(one.label, set()) for one in meant))

    def words(self, asked: str, allowed: set[int] | None, *, every: bool) -> set[int]:
        """Pictures in which words stand, and the line of each that fits best: ``every`` word, or,
        of a text that means pictures first, most of those that say something."""
        if not has_lines(self._catalogue):
            return set()
        from embedsearch.store.text_search import search_text

        if not every:
            asked = " ".join(said_words(asked))
        touched = set()
        for line in search_text(self._catalogue, asked, self.most, allowed, every=every):
            if not every and line.score < LEAST_TEXT:
                continue
            evidence = self.of(line.image_id)
            if evidence.text is None or evidence.text.score < line.score:
                evidence.text = Signal("text", line.score, line.box, text=line.text, time=line.at)
            touched.add(line.image_id)
        return touched


def _first_vector(asked: Asked) -> NDArray[np.float32] | None:
    return next((vector for _, vector in asked.objects if vector is not None), None)


def _is_shot(region: Region) -> bool:
    return region.kind == "track" and region.label is None


def _signal(region: Region, score: float) -> Signal:
    return Signal(region.kind, _cosine(score), region.box, region.label, time=region.at)


def _cosine(value: float) -> float:
    """Rows are only nearly of unit length, being read from float16."""
    return max(-1.0, min(1.0, value))
