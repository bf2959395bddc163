"""Pictures put straight into a catalogue, as a run would after reading them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from colour_encoder import ColourEncoder

from embedsearch.records import Image
from embedsearch.store.catalogue import Root, StoredEncoder
from embedsearch.store.ledger import Ledger
from embedsearch.store.picture_writer import Content, Outcome

ROOT = b"/photos"
DEVICE = 42


class Album:
    """One root in a ledger. A picture is known by its colour: the same colour is the same content.

    No file exists; which ones are gone is told with each call.
    """

    def __init__(self, ledger: Ledger, encoder: ColourEncoder, root: bytes = ROOT) -> None:
        self.ledger = ledger
        self.encoder = encoder
        with ledger.transaction():
            self.stored: StoredEncoder = ledger.add_encoder(encoder.info)
            self.root: Root = ledger.add_root(root, DEVICE)[0]

    def content(self, colour: str, *, mtime: int = 1, vector: bool = True) -> Content:
        digest = hashlib.md5(colour.encode()).hexdigest()
        return Content(
            size=1000 + int(digest[:2], 16),
            mtime_ns=mtime,
            hash=digest,
            width=40,
            height=30,
            format="PNG",
            taken_at="2024-05-06T07:08:09",
            exif={"Model": colour},
            vector=self.encoder.encode_texts([colour])[0] if vector else None,
        )

    def put(
        self,
        path: bytes,
        colour: str,
        *,
        mtime: int = 1,
        vector: bool = True,
        anew: bool = False,
        gone: Collection[bytes] = (),
    ) -> Outcome | None:
        """Store the picture at ``path`` below the root, in a transaction of its own."""
        with self.ledger.transaction():
            return self.ledger.store(
                self.root,
                path,
                self.content(colour, mtime=mtime, vector=vector),
                self.stored,
                anew=anew,
                is_gone=lambda root, path: path in gone,
            )

    def image(self, path: bytes) -> Image | None:
        return self.ledger.image_at(self.root.path.rstrip(b"/") + b"/" + path)

    def region_ids(self, path: bytes) -> list[int]:
        image = self.image(path)
        assert image is not None
        return [int(id_) for id_ in self.ledger.region_ids_of_images([image.id])]

    def region_id(self, path: bytes) -> int:
        (id_,) = self.region_ids(path)
        return id_

    def vector(self, path: bytes) -> Any:
        """The embedding of the picture, or None."""
        image = self.image(path)
        assert image is not None
        return self.ledger.embedding_of(image, self.stored)

    def revision(self) -> str:
        return self.ledger.encoder(self.encoder.info.id).revision
