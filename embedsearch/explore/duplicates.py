"""Pictures of which one would do: exact copies, near copies, bursts.

Three steps, each on what the one before leaves: of exact copies one goes on to be compared, of near
copies the best one. So every picture that is not the best of its group is a copy of one that is,
and removing all those others removes no picture altogether.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from embedsearch.explore.bursts import burst_pairs, seconds
from embedsearch.explore.opened import OpenedPictures
from embedsearch.explore.perceptual import Likeness, View, likeness
from embedsearch.explore.quality import Quality, best_first
from embedsearch.records import Duplicate, DuplicateGroup, DuplicateReport, Image
from embedsearch.store.catalogue import Catalogue, StoredEncoder
from embedsearch.store.neighbours import neighbour_pairs
from embedsearch.store.whole_pictures import half_precision_rows, images_by_id, whole_pictures

Kind = Literal["exact", "near", "burst"]
KINDS: tuple[Kind, ...] = ("exact", "near", "burst")
NEIGHBOURS = 16
"""Each picture is held against so many others at most; larger groups hang together all the same."""
_PAIRS = 256
"""Compared at a time."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as a duplicate. The defaults were chosen on edits of training photos
    (docs/duplicates.md)."""

    similarity: float = 0.6
    """Near copies: least cosine of the embeddings."""
    distance: int = 10
    """Near copies: most bits of 64 in which the perceptual hashes may differ."""
    seconds: float = 3.0
    """Bursts: most seconds between two shots."""
    burst_similarity: float = 0.7
    """Bursts: least cosine of the embeddings."""


Progress = Callable[[int, int], None]
"""Called with how many pairs are done, and of how many."""


def find(
    catalogue: Catalogue,
    encoder: StoredEncoder,
    *,
    kinds: Collection[Kind] = KINDS,
    where: str | None = None,
    thresholds: Thresholds | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> DuplicateReport:
    """Groups of duplicates, those of exact copies first. Reads files, changes none.

    Raises :class:`~embedsearch.errors.QueryError` for a ``where`` that cannot be used.
    """
    opened = OpenedPictures(workers)
    try:
        search = _Search(catalogue, encoder, where, thresholds or Thresholds(), opened)
        groups = search.exact()
        if set(kinds) != {"exact"}:
            groups += search.near(progress or (lambda done, total: None))
            groups += search.bursts()
    finally:
        opened.close()
    return DuplicateReport(
        groups=tuple(group for group in groups if group.kind in kinds),
        skipped=tuple(sorted(opened.failures.values(), key=lambda failure: failure.path)),
        pictures=len(search.pictures),
    )


class _Search:
    """One search. A picture is known by its position among :attr:`pictures`."""

    def __init__(
        self,
        catalogue: Catalogue,
        encoder: StoredEncoder,
        where: str | None,
        thresholds: Thresholds,
        opened: OpenedPictures,
    ) -> None:
        self._catalogue = catalogue
        self._thresholds = thresholds
        self._opened = opened
        with catalogue.snapshot():
            self.pictures = list(whole_pictures(catalogue, encoder, where))
            regions = np.fromiter((one.region_id for one in self.pictures), np.int64)
            self._rows = half_precision_rows(catalogue, encoder, regions)
        self._times = [seconds(one.taken_at) for one in self.pictures]
        self._left: list[int] = []
        """Positions of the pictures that the next step compares."""

    def exact(self) -> list[DuplicateGroup]:
        """Pictures of the same content."""
        by_content: dict[tuple[int, str], list[int]] = defaultdict(list)
        for position, one in enumerate(self.pictures):
            by_content[one.size, one.hash].append(position)
        groups, left = [], []
        for positions in by_content.values():
            copies = self._separate_files(positions) if len(positions) > 1 else []
            left.append(copies[0][0] if copies else positions[0])
            if len(copies) > 1:
                first, *others = [_duplicate(image) for _, image in copies]
                groups.append(DuplicateGroup("exact", first.path, (first, *others)))
        self._left = sorted(left)
        return sorted(groups, key=lambda group: group.best)

    def near(self, progress: Progress) -> list[DuplicateGroup]:
        """Pictures that look the same: embeddings and perceptual hashes agree."""
        left = np.array(self._left, np.int64)
        rows = self._rows if len(left) == len(self._rows) else self._rows[left]
        one, other, _ = neighbour_pairs(rows, self._thresholds.similarity, NEIGHBOURS)
        times = np.array(self._times)[left]
        apart = np.abs(times[one] - times[other])
        # An edited copy keeps the time of its original; two shots have two.
        shots = (apart > 0) & (apart <= self._thresholds.seconds)
        one, other = left[one[~shots]], left[other[~shots]]
        # Picture after picture, not by cosine: so each is read once or twice, not with every pair.
        order = np.argsort(one, kind="stable")
        one, other = one[order], other[order]
        alike: DisjointSet = DisjointSet()
        for start in range(0, len(one), _PAIRS):
            progress(start, len(one))
            block = slice(start, start + _PAIRS)
            self._join(alike, list(zip(one[block].tolist(), other[block].tolist(), strict=True)))
        progress(len(one), len(one))
        return self._grouped("near", alike)

    def bursts(self) -> list[DuplicateGroup]:
        """Shots of one moment."""
        left = np.array(self._left, np.int64)
        alike: DisjointSet = DisjointSet()
        limits = self._thresholds
        times = [self._times[position] for position in self._left]
        for one, other in burst_pairs(
            self._rows[left], times, limits.seconds, limits.burst_similarity
        ):
            _merge(alike, int(left[one]), int(left[other]))
        return self._grouped("burst", alike)

    def _separate_files(self, positions: Sequence[int]) -> list[tuple[int, Image]]:
        """Those of ``positions`` that are files of their own, as indexed, the best one first: no
        link where there is another, then the shortest path."""
        images = self._images(positions)
        present = self._opened.unchanged(images.values())
        position_of = {image.id: position for position, image in images.items()}
        present.sort(key=lambda it: (os.path.islink(it[0].path), len(it[0].path), it[0].path))
        files: dict[tuple[int, int], Image] = {}
        for image, status in present:
            # Two names of one file free no room, and one may be nothing without the other.
            files.setdefault((status.st_dev, status.st_ino), image)
        return [(position_of[image.id], image) for image in files.values()]

    def _join(self, alike: DisjointSet, pairs: Sequence[tuple[int, int]]) -> None:
        """Compare those ``pairs`` that do not hang together yet."""
        open_pairs = [
            (one, other)
            for one, other in pairs
            if not (one in alike and other in alike and alike.connected(one, other))
        ]
        views = self._views({position for pair in open_pairs for position in pair})
        readable = [(a, b) for a, b in open_pairs if a in views and b in views]
        most = self._thresholds.distance

        def look(pair: tuple[int, int]) -> bool:
            return likeness(views[pair[0]], views[pair[1]], most).distance <= most

        same = self._opened.together(look, readable)
        for (one, other), is_same in zip(readable, same, strict=True):
            if is_same:
                _merge(alike, one, other)

    def _grouped(self, kind: Literal["near", "burst"], alike: DisjointSet) -> list[DuplicateGroup]:
        """Groups from sets of pictures that hang together; of each only the best goes on."""
        groups = []
        dropped: set[int] = set()
        for positions in alike.subsets():
            images = self._images(positions)
            measured = self._opened.qualities(list(images.values()))
            rest = sorted(place for place, image in images.items() if image.id in measured)
            while len(rest) > 1:
                ordered = self._best_first(rest, images, measured)
                looks = self._looks(ordered) if kind == "near" else {}
                if kind == "near":
                    # A chain of small changes may lead anywhere: all must look like the best.
                    ordered = [it for it in ordered if self._is_copy(ordered[0], it, looks.get(it))]
                if len(ordered) > 1:
                    groups.append(self._group(kind, [images[it] for it in ordered], ordered, looks))
                    dropped.update(ordered[1:])
                first = ordered[0] if ordered else rest[0]
                rest = [it for it in rest if it not in ordered and it != first]
        self._left = [position for position in self._left if position not in dropped]
        return sorted(groups, key=lambda group: group.best)

    def _is_copy(self, best: int, place: int, look: Likeness | None) -> bool:
        """Whether a picture looks like the best one: as a whole, or in a part, and then the
        embeddings must agree too, since a part may be alike in pictures of other things."""
        if look is None or look.distance > self._thresholds.distance:
            return False
        one, other = self._rows[[best, place]].astype(np.float32)
        return not look.changed or float(one @ other) >= self._thresholds.similarity

    def _best_first(
        self, places: Sequence[int], images: dict[int, Image], measured: dict[int, Quality]
    ) -> list[int]:
        rows = self._rows[places].astype(np.float32)
        typical = (rows @ rows.sum(0) - 1) / (len(places) - 1)
        means = {images[it].id: float(mean) for it, mean in zip(places, typical, strict=True)}
        position_of = {images[it].id: it for it in places}
        ordered = best_first([images[it] for it in places], measured, means)
        return [position_of[image.id] for image in ordered]

    def _group(
        self,
        kind: Literal["near", "burst"],
        images: Sequence[Image],
        places: Sequence[int],
        looks: dict[int, Likeness],
    ) -> DuplicateGroup:
        rows = self._rows[places].astype(np.float32)
        members: list[Duplicate] = []
        for image, place, cosine in zip(images, places, rows @ rows[0], strict=True):
            look = looks.get(place)
            members.append(
                replace(
                    _duplicate(image),
                    similarity=min(1.0, float(cosine)) if members else 1.0,
                    hash_distance=None if look is None else look.distance,
                    changed="" if look is None else look.changed,
                )
            )
        return DuplicateGroup(kind, members[0].path, tuple(members))

    def _looks(self, places: Sequence[int]) -> dict[int, Likeness]:
        """How the pictures at ``places`` lie upon the first of them."""
        views = self._views(places)
        if places[0] not in views:
            return {}
        best, most = views[places[0]], self._thresholds.distance
        readable = [place for place in places if place in views]
        found = self._opened.together(lambda it: likeness(best, views[it], most), readable)
        return dict(zip(readable, found, strict=True))

    def _views(self, positions: Iterable[int]) -> dict[int, View]:
        images = self._images(list(positions))
        views = self._opened.views(images.values())
        return {place: views[image.id] for place, image in images.items() if image.id in views}

    def _images(self, positions: Collection[int]) -> dict[int, Image]:
        ids = {position: self.pictures[position].image_id for position in positions}
        found = images_by_id(self._catalogue, list(ids.values()))
        return {position: found[id_] for position, id_ in ids.items() if id_ in found}


def _merge(sets: DisjointSet, one: int, other: int) -> None:
    sets.add(one)
    sets.add(other)
    sets.merge(one, other)


def _duplicate(image: Image) -> Duplicate:
    return Duplicate(
        path=image.path,
        similarity=1.0,
        hash_distance=None,
        changed="",
        width=image.width,
        height=image.height,
        size=image.size,
        taken_at=image.taken_at,
    )
