"""Pictures read again, after they were indexed, to be looked at closely."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from embedsearch.errors import PictureError
from embedsearch.explore.perceptual import SIDE, View
from embedsearch.explore.quality import MEASURED_SIDE, Quality, quality
from embedsearch.images.decode import decode
from embedsearch.images.files import status
from embedsearch.records import Failure, Image

VIEWS_KEPT = 32_768
"""4 kB each."""
_Made = TypeVar("_Made")
_Item = TypeVar("_Item")


class OpenedPictures:
    """Decodes pictures on ``workers`` threads. Those that are gone, changed or cannot be read are
    kept in :attr:`failures`, and looked at once only."""

    def __init__(self, workers: int) -> None:
        self.failures: dict[int, Failure] = {}
        self._views: OrderedDict[int, View] = OrderedDict()
        self._threads = ThreadPoolExecutor(max(1, workers))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def views(self, images: Iterable[Image]) -> dict[int, View]:
        """What pictures look like, by image id; without those that cannot be read."""
        wanted = {image.id: image for image in images}
        found = {id_: self._views[id_] for id_ in wanted if id_ in self._views}
        missing = [image for id_, image in wanted.items() if id_ not in found]
        found |= self._all(missing, lambda image: View(decode(image.path, SIDE).pixels))
        for id_, view in found.items():
            self._views[id_] = view
            self._views.move_to_end(id_)
        while len(self._views) > VIEWS_KEPT:
            self._views.popitem(last=False)
        return found

    def qualities(self, images: Sequence[Image]) -> dict[int, Quality]:
        """How good pictures are, by image id; without those that cannot be read."""
        return self._all(images, lambda image: quality(decode(image.path, MEASURED_SIDE).pixels))

    def together(self, work: Callable[[_Item], _Made], items: Sequence[_Item]) -> list[_Made]:
        """``work`` on all ``items``, on the threads, in order."""
        from threadpoolctl import threadpool_limits

        # Small products of matrices: BLAS would start threads of its own for each, and wait.
        with threadpool_limits(1, user_api="blas"):
            return list(self._threads.map(work, items))

    def unchanged(self, images: Iterable[Image]) -> list[tuple[Image, os.stat_result]]:
        """Pictures whose file is as it was indexed, with what the system says of it."""
        found = []
        for image in images:
            status = self._status(image)
            if status is not None:
                found.append((image, status))
        return found

    def _all(self, images: Sequence[Image], make: Callable[[Image], _Made]) -> dict[int, _Made]:
        present = [image for image, _ in self.unchanged(images)]

        def attempt(image: Image) -> _Made | PictureError:
            try:
                return make(image)
            except PictureError as error:
                return error

        made: dict[int, _Made] = {}
        for image, result in zip(present, self._threads.map(attempt, present), strict=True):
            if isinstance(result, PictureError):
                self.failures[image.id] = Failure(
                    image.path, "read" if result.stage == "read" else "decode", result.reason
                )
            else:
                made[image.id] = result
        return made

    def _status(self, image: Image) -> os.stat_result | None:
        if image.id in self.failures:
            return None
        try:
            if status(image.path) == (image.size, image.mtime_ns):
                return os.stat(image.path)
        except OSError:
            reason = "it is not there (any more)"
        else:
            reason = "it changed since it was indexed; run embedsearch index"
        self.failures[image.id] = Failure(image.path, "read", reason)
        return None
