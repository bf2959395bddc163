"""From a query vector to hits: vector search, filter, the pictures that the regions belong to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.records import Hit, Signal
from embedsearch.store.catalogue import Catalogue, Ids, StoredEncoder
from embedsearch.store.pictures_view import matching_images
from embedsearch.store.vector_index import VectorIndex


class Engine:
    """Searches one encoder's embeddings as they are in one snapshot of the catalogue."""

    def __init__(self, catalogue: Catalogue, encoder: StoredEncoder, vectors: Path) -> None:
        self.encoder = encoder
        self._catalogue = catalogue
        self._vectors = VectorIndex(catalogue, encoder, vectors)

    def close(self) -> None:
        self._vectors.close()

    def embedding_of(self, path: str) -> NDArray[np.float32] | None:
        """The embedding of the picture at an absolute path, float32 (dim,), if the index has it
        and the file is as it was indexed."""
        image = self._catalogue.image_at(os.fsencode(path))
        if image is None or image.status != "ok":
            return None
        try:
            status = os.stat(path)
        except OSError:
            return None
        if (status.st_size, status.st_mtime_ns) != (image.size, image.mtime_ns):
            return None
        return self._catalogue.embedding_of(image, self.encoder)

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        where: str | None = None,
        min_score: float | None = None,
        without: str | None = None,
    ) -> list[Hit]:
        """The ``k`` pictures most similar to ``query``, float32 (dim,), L2-normalised.

        ``where`` keeps pictures for which an SQL expression over the view ``pictures`` is true,
        ``min_score`` those of at least this cosine, ``without`` leaves one picture (its absolute
        path) out.
        """
        excluded = self._catalogue.hidden_region_ids()
        if without is not None and (image := self._catalogue.image_at(os.fsencode(without))):
            own = self._catalogue.region_ids_of_images([image.id])
            excluded = np.union1d(excluded, own)
        allowed = None if where is None else self._allowed(where)
        ids, scores = self._vectors.search(query, k, allowed=allowed, excluded=excluded)
        scores = scores.clip(-1, 1)  # rows are only nearly of unit length, being read from float16
        if min_score is not None:
            ids, scores = ids[scores >= min_score], scores[scores >= min_score]
        regions = self._catalogue.regions(ids.tolist())
        hits: list[Hit] = []
        for id_, score in zip(ids.tolist(), scores.tolist(), strict=True):
            if (region := regions.get(id_)) is not None:
                signal = Signal(region.kind, score, region.box, region.label)
                hits.append(Hit(len(hits) + 1, region.path, score, (signal,)))
        return hits

    def _allowed(self, where: str) -> Ids:
        return self._catalogue.region_ids_of_images(matching_images(self._catalogue.path, where))
