"""A teacher's rows on as many axes as its student has."""

from __future__ import annotations

import numpy as np
import pytest

from embedsearch.encoders.base import Embeddings
from embedsearch.training.distill.principal_axes import on_axes, principal_axes


def unit(rows: np.ndarray) -> Embeddings:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_rows_that_span_few_axes_keep_their_cosines_and_lie_where_the_student_has_them() -> None:
    rng = np.random.default_rng(0)
    mine = unit(rng.standard_normal((50, 4)))
    turn, _ = np.linalg.qr(rng.standard_normal((9, 4)))
    taught = (mine @ turn.T).astype(np.float32)  # the same in nine dimensions
    axes = principal_axes((taught, None), (mine, None))
    assert axes.shape == (4, 9)
    assert axes @ axes.T == pytest.approx(np.eye(4), abs=1e-5)
    assert on_axes(taught, axes).astype(np.float32) == pytest.approx(mine, abs=2e-3)


def test_texts_count_as_much_as_photos_however_few_they_are() -> None:
    photos = unit(np.eye(6)[np.arange(60) % 2] + 1e-3)
    texts = unit(np.eye(6)[[4, 5]] + 1e-3)
    mine = unit(np.random.default_rng(0).standard_normal((60, 4)))
    axes = principal_axes((photos, texts), (mine, mine[:2]))
    kept = np.linalg.norm(texts @ axes.T, axis=1)
    assert kept == pytest.approx(1, abs=1e-2)


def test_rows_keep_their_shape_and_are_unit_vectors() -> None:
    looks = np.random.default_rng(1).standard_normal((5, 3, 8)).astype(np.float16)
    found = on_axes(looks, np.eye(8, dtype=np.float32)[:2])
    assert found.shape == (5, 3, 2) and found.dtype == np.float16
    assert np.linalg.norm(found.astype(np.float32), axis=2) == pytest.approx(1, abs=2e-3)
