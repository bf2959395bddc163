"""What rows tell hubs apart by: the centres of groups of sentences, kept in an encoder folder."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from embedsearch.encoders.base import Embeddings
from embedsearch.encoders.folder import HUBS, EncoderFolder, hash_file
from embedsearch.encoders.hubs import NEAREST, nearness, unit_centres
from embedsearch.errors import DataError

_ROUNDS = 20


def write_hub_centres(
    about: EncoderFolder, sentences: Embeddings, pictures: Embeddings, groups: int
) -> EncoderFolder:
    """Let the rows of the encoder in a folder tell hubs apart (:mod:`~embedsearch.encoders.hubs`).

    ``sentences``, float32 (N, dim), are gathered into ``groups``; ``pictures``, float32 (M, dim),
    are of the kind that they are about. Both are unit rows of the towers. Raises
    :class:`~embedsearch.errors.DataError` for fewer sentences than groups.
    """
    if len(sentences) < groups or groups < NEAREST:
        raise DataError(
            f"model.hubs={groups}: there are {len(sentences):,} captions to gather into so many "
            f"groups. Ask for {NEAREST} at least, and for no more than there are captions."
        )
    centres = group_centres(sentences, groups)
    np.save(about.path / HUBS, centres)
    unit = unit_centres(centres)
    return _with_hubs(about, float(np.mean([nearness(row, unit) for row in pictures])))


def take_hub_centres(about: EncoderFolder, source: EncoderFolder) -> EncoderFolder:
    """Let the rows of an encoder tell hubs apart by the centres of another with the same towers."""
    shutil.copyfile(source.path / HUBS, about.path / HUBS)
    return _with_hubs(about, source.hub_mean)


def _with_hubs(about: EncoderFolder, mean: float | None) -> EncoderFolder:
    hashes = {**about.hashes, HUBS: hash_file(about.path / HUBS)}
    written = replace(about, hub_mean=mean, hashes=hashes)
    written.write()
    return written


def group_centres(rows: Embeddings, groups: int) -> NDArray[np.int8]:
    """The centres that k-means finds among unit rows (N, dim): int8 (groups, dim), each as long as
    fits."""
    drawn = KMeans(groups, n_init=1, max_iter=_ROUNDS, random_state=0)
    with warnings.catch_warnings():  # that it might go on, or that rows are alike
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = drawn.fit(rows).cluster_centers_
    largest = np.abs(found).max(axis=1, keepdims=True)
    centres: NDArray[np.int8] = np.rint(127 * found / largest).astype(np.int8)
    return centres
