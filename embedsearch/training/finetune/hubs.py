"""What lets the rows of a written encoder tell hubs apart, from the captions of its photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from embedsearch.encoders.base import Embeddings
from embedsearch.encoders.folder import EncoderFolder
from embedsearch.encoders.known_texts import known_texts
from embedsearch.encoders.onnx import OnnxEncoder
from embedsearch.errors import DataError
from embedsearch.training.data.photos import Photo
from embedsearch.training.data.pixels import load_pixels
from embedsearch.training.networks.encoder import TrainableEncoder
from embedsearch.training.networks.hub_centres import take_hub_centres, write_hub_centres
from embedsearch.training.networks.towers import BagText
from embedsearch.training.recipe import Recipe
from embedsearch.training.teachers.teacher import in_groups

MEASURED_ON = 4096
"""So many photos show how near pictures are to sentences."""


def check_hubs(groups: int, photos: Sequence[Photo], encoder: TrainableEncoder) -> None:
    """Raise :class:`~embedsearch.errors.DataError` where hubs cannot be told."""
    if not groups:
        return
    if not any(photo.captions for photo in photos):
        raise DataError(f"model.hubs={groups}: hubs are told by captions, and no photo has one")
    if not isinstance(encoder.text, BagText):
        raise DataError(
            f"model.hubs={groups}: hubs are told by a text tower that lies in the folder, a bag of "
            "tokens; start one with --text DIR"
        )


def carry_hubs(
    written: EncoderFolder,
    recipe: Recipe,
    photos: Sequence[Photo],
    start: EncoderFolder | None,
    *,
    is_changed: bool,
    threads: int,
    tell: Callable[[str], None],
) -> None:
    """Let the rows of an encoder folder tell hubs apart where ``recipe`` asks for it, or where
    those of ``start`` do and the towers are still its own: nothing ``is_changed``, nothing was
    trained.

    Raises :class:`~embedsearch.errors.DataError` for fewer captions than groups.
    """
    groups, settings = recipe.model.hubs, recipe.optimisation
    if groups:
        tell_hubs(written, photos, groups, seed=settings.seed, threads=threads)
    elif start is not None and not (settings.epochs or is_changed):
        take_hub_centres(written, start)
    elif start is not None:
        tell(
            f"the rows of {recipe.model.start} tell hubs apart, these do not; let them: "
            f"embedsearch finetune CAPTIONS --encoder {written.path} --epochs 0 --set "
            "model.hubs=1024 --out OTHER"
        )


def tell_hubs(
    written: EncoderFolder, photos: Sequence[Photo], groups: int, *, seed: int, threads: int
) -> EncoderFolder:
    """Let the rows of an encoder folder tell hubs apart (:mod:`embedsearch.encoders.hubs`), by the
    captions of ``photos`` gathered into ``groups``.

    Raises :class:`~embedsearch.errors.DataError` for fewer captions than groups.
    """
    encoder = OnnxEncoder(written.path, spec=str(written.path))
    captioned = [photo for photo in photos if photo.captions]
    drawn = np.random.default_rng(seed).permutation(len(captioned))[:MEASURED_ON]
    files = [captioned[place].file for place in sorted(drawn)]

    def see(places: range) -> Embeddings:
        size = encoder.info.input_size
        return encoder.encode_images([load_pixels(files[place], size) for place in places])

    captions = sorted({text for photo in captioned for text in photo.captions})
    return write_hub_centres(
        written,
        known_texts(encoder, captions)[1],
        np.concatenate(in_groups(len(files), see, threads)),
        groups,
    )
