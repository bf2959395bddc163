"""What an index holds, and its contents for elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from embedsearch.errors import OutputError
from embedsearch.index.opened import OpenedIndex
from embedsearch.records import (
    Hit,
    IndexInfo,
    Model,
)
from embedsearch.settings import Device
from embedsearch.store.database import CATALOGUE

if TYPE_CHECKING:
    from embedsearch.enrichers.outlines import Outline
    from embedsearch.render.export import Format
    from embedsearch.store.catalogue import Catalogue


class Telling(OpenedIndex):
    """The part of :class:`embedsearch.index.Index` that tells what there is."""

    def info(self) -> IndexInfo:
        """What is in the index, what its last run did, and which pictures cannot be used."""
        from embedsearch.store.findings import coverage

        catalogue = self._reader()
        with catalogue.snapshot():
            counts = catalogue.picture_counts()
            return IndexInfo(
                path=str(self.folder.absolute()),
                pictures=counts["ok"],
                vanished=counts["vanished"],
                regions=catalogue.region_count(),
                roots=tuple(os.fsdecode(root.path) for root in catalogue.roots()),
                encoders=tuple(stored.info for stored in catalogue.encoders()),
                embeddings=catalogue.embedding_counts(),
                bytes_on_disk=sum(
                    file.stat().st_size for file in self.folder.rglob("*") if file.is_file()
                ),
                last_run=catalogue.last_run(),
                failures=tuple(catalogue.failures()),
                newer=self._all_newer(catalogue),
                stages=tuple(coverage(catalogue)),
            )

    def newer(self, encoder: str | None = None) -> str | None:
        """Id of the newer encoder that is to be had under the spec of the one that queries use
        (that of ``encoder``, or the first): see :meth:`embedsearch.index.Index.re_encode`."""
        from embedsearch.encoders.newer import newer_than

        stored = self._reader().encoder(encoder)
        return None if encoder == stored.info.id else newer_than(stored.info, self.folder)

    def _all_newer(self, catalogue: Catalogue) -> dict[str, str]:
        from embedsearch.encoders.newer import newer_than

        stored = catalogue.encoders()
        used = stored[0].info.id if stored else ""
        found = {one.info.id: newer_than(one.info, self.folder) for one in stored}
        return {id_: newer for id_, newer in found.items() if newer not in (None, used)}

    def models(
        self, specs: Sequence[str] = (), *, required: bool = True, device: Device = "auto"
    ) -> list[Model]:
        """The encoders in the box, those of this index, and those that ``specs`` name, with what
        each costs. Where the index need not be there, it is left out unless it is."""
        from embedsearch.explore.models import listed

        there = required or (self.folder / CATALOGUE).exists()
        return listed(specs, self._reader() if there else None, device)

    def export(
        self,
        out: Path | BinaryIO,
        format: Format | Literal["clip-retrieval"] = "jsonl",
        *,
        encoder: str | None = None,
    ) -> int:
        """Write one row a region to ``out``: csv, jsonl, npy or parquet, or a folder in the layout
        of clip-retrieval. Returns the number of rows."""
        from embedsearch.render.clip_retrieval import write_clip_retrieval
        from embedsearch.render.export import write_export

        catalogue = self._reader()
        with catalogue.snapshot():
            stored = catalogue.encoder(encoder)
            rows = catalogue.export_rows(stored)
            if format != "clip-retrieval":
                return write_export(rows, format, out, stored.info.dim)
            if not isinstance(out, Path):
                raise OutputError("clip-retrieval is a folder: name it with --out DIR.")
            at_most = catalogue.embedding_counts()[stored.info.id]
            return write_clip_retrieval(rows, out, stored.info, at_most)

    def sizes(self, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Width and height, in pixels, of those pictures at absolute ``paths`` that are indexed."""
        found = {path: self._reader().image_at(os.fsencode(path)) for path in paths}
        return {path: (image.width, image.height) for path, image in found.items() if image}

    def outlines(self, hits: Sequence[Hit]) -> dict[str, tuple[Outline, ...]]:
        """By the path of a hit, the lines around those objects of it whose label or box speaks for
        it, where their masks are known, in pixels of the upright picture."""
        from embedsearch.enrichers.outlines import outlines
        from embedsearch.store.findings import masks_of

        catalogue = self._reader()
        images = {hit.path: catalogue.image_at(os.fsencode(hit.path)) for hit in hits}
        masks = masks_of(catalogue, [image.id for image in images.values() if image])
        drawn: dict[str, tuple[Outline, ...]] = {}
        for hit in hits:
            image = images[hit.path]
            labels = {signal.label for signal in hit.signals if signal.label}
            boxes = {signal.box for signal in hit.signals if signal.kind in ("object", "label")}
            meant = [
                one
                for one in (masks.get(image.id, []) if image else [])
                if one.mask is not None and (one.label in labels or one.box in boxes)
            ]
            if image is not None and meant:
                lines = [outlines(one.mask, image.width, image.height) for one in meant if one.mask]
                drawn[hit.path] = tuple(line for some in lines for line in some)
        return drawn

    def last_looks(self, paths: Sequence[str]) -> dict[str, bytes | None]:
        """Thumbnails of pictures of the index, as JPEG; of one that is gone, or cannot be read, the
        one that was kept, if any."""
        from embedsearch.errors import PictureError

        thumbnails, looks = self.thumbnails(), dict.fromkeys(paths, None)
        for path in paths:
            image = self._reader().image_at(os.fsencode(path))
            if image is None:
                continue
            try:
                looks[path] = thumbnails.of(image)
            except PictureError:
                looks[path] = thumbnails.kept(image)
        return looks

    def paths(self) -> Iterator[str]:
        """Absolute paths of all pictures, in the order they were indexed."""
        return (image.path for image in self._reader().images("ok"))
