"""The collection as a whole: clusters, tags, duplicates, maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedsearch import settings
from embedsearch.errors import IndexLockedError, OutputError, QueryError
from embedsearch.index.opened import AnyPath, OpenedIndex, check_k
from embedsearch.records import (
    ClusterReport,
    DuplicateReport,
    PictureMap,
    TagCount,
)

if TYPE_CHECKING:
    from embedsearch.explore.projection import Method
    from embedsearch.render.colouring import Colour


class Exploring(OpenedIndex):
    """The part of :class:`embedsearch.index.Index` that looks at all of a collection."""

    def cluster(
        self,
        clusters: int | None = None,
        *,
        method: Literal["kmeans", "density"] | None = None,
        where: str | None = None,
        encoder: str | None = None,
        anew: bool = False,
        wait_seconds: float = 0.0,
    ) -> ClusterReport:
        """Group pictures that are alike, and name the groups; kept in the index.

        Where there are clusters already, pictures that came since are added to them, unless
        something else is asked for than was, or ``anew``. ``clusters`` is how many k-means makes;
        chosen by default. See :mod:`embedsearch.explore.cluster`.

        Raises :class:`~embedsearch.errors.QueryError` and
        :class:`~embedsearch.errors.IndexLockedError`.
        """
        from embedsearch.explore import cluster

        if clusters is not None and clusters < 1:
            raise QueryError(f"{clusters} clusters cannot be made; ask for at least one.")
        wishes = cluster.Wishes(method, clusters, where, encoder, anew)
        with self._writer(wait_seconds) as ledger:
            return cluster.run(ledger, wishes, self._encoder)

    def clusters(self) -> ClusterReport:
        """The clusters as the last :meth:`cluster` left them; none where it never ran."""
        from embedsearch.explore import cluster

        catalogue = self._reader()
        with catalogue.snapshot():
            return cluster.report(catalogue)

    def cluster_pictures(self, number: int, k: int = 10) -> list[tuple[str, float]]:
        """Paths of the ``k`` pictures most typical of a cluster, the medoid first, each with its
        cosine to the cluster's centre."""
        from embedsearch.store.clusterings import nearest_members

        check_k(k)
        catalogue = self._reader()
        with catalogue.snapshot():
            found = nearest_members(catalogue, number, k)
            regions = catalogue.regions(region for region, _ in found)
            return [(regions[region].path, cosine) for region, cosine in found]

    def tag(
        self, *, where: str | None = None, encoder: str | None = None, wait_seconds: float = 0.0
    ) -> int:
        """Tag pictures with words for what they show. Returns how many were looked at.

        Raises :class:`~embedsearch.errors.EncoderError` where the encoder knows no words.
        """
        from embedsearch.explore.tags import find_tags

        with self._writer(wait_seconds) as ledger:
            stored = ledger.encoder(encoder)
            return find_tags(ledger, stored, self._encoder(stored), where)

    def change_tags(
        self,
        *paths: AnyPath,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        wait_seconds: float = 0.0,
    ) -> int:
        """Give the pictures at or under ``paths`` tags, and take others off. Returns how many
        pictures these are."""
        from embedsearch.explore.tags import change_tags

        with self._writer(wait_seconds) as ledger:
            named = [os.fsdecode(path) for path in paths]
            return change_tags(ledger, named, add=add, remove=remove)

    def tags(self) -> list[TagCount]:
        """All tags, the most frequent first."""
        from embedsearch.store.tag_table import tag_counts

        return tag_counts(self._reader())

    def duplicates(
        self,
        *,
        kinds: Sequence[Literal["exact", "near", "burst"]] = ("exact", "near", "burst"),
        where: str | None = None,
        min_similarity: float = 0.6,
        max_distance: int = 10,
        burst_seconds: float = 3.0,
        encoder: str | None = None,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DuplicateReport:
        """Groups of pictures of which one would do; removes nothing.

        ``min_similarity`` (cosine) and ``max_distance`` (bits of 64) are what makes a near copy,
        ``burst_seconds`` how far apart two shots of a burst may be. ``progress`` is called with
        how many pairs are compared, and of how many.
        """
        from embedsearch.explore import duplicates

        catalogue = self._reader()
        return duplicates.find(
            catalogue,
            catalogue.encoder(encoder),
            kinds=kinds,
            where=where,
            thresholds=duplicates.Thresholds(
                similarity=min_similarity, distance=max_distance, seconds=burst_seconds
            ),
            workers=settings.workers(workers),
            progress=progress,
        )

    def map(
        self,
        *,
        method: Method = "tsne",
        where: str | None = None,
        encoder: str | None = None,
        anew: bool = False,
        workers: int | None = None,
        wait_seconds: float = 0.0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> PictureMap:
        """All pictures laid out in the plane, or those ``where`` chooses, at their places in it.

        The map is kept in the index: next time the pictures that are new are placed into it and
        the others stay, unless ``anew``. Where the index cannot be written to, ``not_kept`` says
        why. ``progress`` is called with what is under way, how much is done, and of how much.
        """
        from embedsearch.explore import mapping
        from embedsearch.explore.projection import silent

        catalogue = self._reader()
        found, keep = mapping.make_map(
            catalogue,
            catalogue.encoder(encoder),
            method,
            where=where,
            anew=anew,
            workers=settings.workers(workers),
            progress=progress or silent,
        )
        if keep is None:
            return found
        try:
            with self._writer(wait_seconds) as ledger, ledger.transaction():
                made_at = keep(ledger)
        except (IndexLockedError, OutputError) as error:
            return mapping.not_kept(found, str(error))
        return mapping.kept(found, made_at)

    def draw_map(
        self,
        found: PictureMap,
        out: Path,
        *,
        colour: Colour | None = None,
        points_only: bool = False,
        width: int | None = None,
        workers: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> int:
        """Write a map to a ``.html``, ``.png``, ``.csv``, ``.parquet`` or ``.npy`` file; returns
        how many pictures are on it. ``points_only`` leaves out the thumbnails; ``width``, in
        pixels, is that of a ``.png``."""
        from embedsearch.explore import atlas
        from embedsearch.explore.projection import silent

        roots = [Path(os.fsdecode(root.path)).name or "/" for root in self._reader().roots()]
        return atlas.write(
            found,
            out,
            self.thumbnails(),
            colour=colour,
            points_only=points_only,
            width=width,
            title=", ".join(roots[:3]) + (", …" if len(roots) > 3 else ""),
            workers=settings.workers(workers),
            progress=progress or silent,
        )
