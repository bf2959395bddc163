"""What is opened of an index folder, and kept open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from embedsearch import settings
from embedsearch.errors import QueryError
from embedsearch.search.engine import Engine
from embedsearch.settings import Device
from embedsearch.store.catalogue import Catalogue, StoredEncoder
from embedsearch.store.database import CATALOGUE
from embedsearch.store.vector_file import vector_path

if TYPE_CHECKING:
    from embedsearch.encoders.base import Encoder
    from embedsearch.encoders.registry import Fit
    from embedsearch.images.thumbnails import Thumbnails
    from embedsearch.store.ledger import Ledger

AnyPath = str | bytes | os.PathLike[str]


class OpenedIndex:
    """What all parts of :class:`embedsearch.index.Index` share."""

    def __init__(self, folder: AnyPath | None = None) -> None:
        given = None if folder is None else Path(os.fsdecode(folder))
        self.folder = settings.index_folder(given)
        self._catalogue: Catalogue | None = None
        self._engines: dict[str, Engine] = {}
        self._encoders: dict[str, Encoder] = {}

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def thumbnails(self) -> Thumbnails:
        """Small JPEGs of pictures, kept in the index folder where that can be written."""
        from embedsearch.images.thumbnails import Thumbnails

        return Thumbnails(self.folder / "thumbnails")

    def _reader(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = Catalogue.open(self.folder / CATALOGUE)
        return self._catalogue

    @contextmanager
    def _writer(self, wait_seconds: float, *, make: bool = False) -> Iterator[Ledger]:
        """The catalogue, to write to. An index that is not there is an error, unless ``make``."""
        from embedsearch.store.ledger import Ledger
        from embedsearch.store.lock import index_lock

        if make:
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            self._reader()
        self.close()
        with (
            index_lock(self.folder, wait_seconds=wait_seconds),
            Ledger.open(self.folder / CATALOGUE) as ledger,
        ):
            yield ledger
            ledger.checkpoint()

    def _engine(self, named: str | None) -> Engine:
        """The engine of an encoder as the snapshot has it."""
        stored = self._reader().encoder(named)
        engine = self._engines.get(stored.info.id)
        if engine is None or engine.encoder.revision != stored.revision:
            if engine is not None:
                engine.close()
            path = vector_path(self.folder, stored.info.id)
            engine = self._engines[stored.info.id] = Engine(self._reader(), stored, path)
        return engine

    def _encoder(self, stored: StoredEncoder) -> Encoder:
        from embedsearch.encoders import registry

        if stored.info.id not in self._encoders:
            self._encoders[stored.info.id] = registry.load_stored(stored.info, self.folder)
        return self._encoders[stored.info.id]

    def _encoder_to_add(
        self, catalogue: Catalogue, spec: str | None, device: Device, fit: Fit | None
    ) -> Encoder:
        from embedsearch.encoders import registry

        for one in catalogue.encoders():
            # A spec may lead to newer weights than those of the index: it names what it says.
            if spec is None or spec == one.info.id:
                return registry.load_stored(one.info, self.folder, device)
        return registry.load(spec or settings.default_encoder(), device, fit)

    def _encoder_to_use(
        self, catalogue: Catalogue, named: str | None, device: Device, fit: Fit | None
    ) -> Encoder:
        """What ``named`` leads to now; an id of this index names the very one that it has."""
        from embedsearch.encoders import registry

        for one in catalogue.encoders():
            if named == one.info.id:
                return registry.load_stored(one.info, self.folder, device)
        return registry.load(named or catalogue.encoder().info.spec, device, fit)


def check_k(k: int) -> None:
    """Raises :class:`~embedsearch.errors.QueryError` where ``k`` is no number of hits."""
    if k < 1:
        raise QueryError(f"-k is {k}; ask for at least one picture.")
