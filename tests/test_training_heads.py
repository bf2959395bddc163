"""The head on pooled features, and the table of token embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from embedsearch.errors import DataError
from embedsearch.training.heads import SMALLEST_DEVIATION, ImageHead
from embedsearch.training.token_table import quantize_rows, read_potion

WIDTH, DIM = 8, 16


def test_the_image_head_standardises_each_channel() -> None:
    features = torch.randn(50, 1280, generator=torch.Generator().manual_seed(0)) * 3 + 1
    features[:, 5] = 0.25  # a channel that never changes is not blown up
    head = ImageHead(DIM, dropout=0.0)
    head.standardise(features)
    standard = (features - head.mean) / head.deviation
    torch.testing.assert_close(standard.mean(0), torch.zeros(1280), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(0)[:5], torch.ones(5), atol=1e-5, rtol=0)
    assert head.deviation[5].item() == pytest.approx(SMALLEST_DEVIATION)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(head.linear(standard), dim=1)
        torch.testing.assert_close(head(features), expected)


# The token table


def test_rows_are_rounded_by_at_most_half_a_step() -> None:
    rows = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32)
    rows[7] = 0
    whole, scales = quantize_rows(rows)
    assert whole.dtype == np.int8 and scales[7] == 0
    error = np.abs(whole * scales[:, None] - rows)
    assert (error <= scales[:, None] / 2 * (1 + 1e-4)).all()
    assert (np.abs(whole).max(axis=1)[np.arange(50) != 7] == 127).all()


def write_potion(folder: Path, vocabulary: list[str], rows: np.ndarray, **model: object) -> Path:
    folder.mkdir(exist_ok=True)
    told = {
        "model": {"type": "WordPiece", "vocab": {t: n for n, t in enumerate(vocabulary)}} | model,
        "normalizer": {"type": "BertNormalizer", "lowercase": True},
    }
    (folder / "tokenizer.json").write_text(json.dumps(told))
    save_file({"embeddings": rows}, folder / "model.safetensors")
    return folder


def test_a_model2vec_folder_is_read_and_scaled_to_a_mean_length_of_one(tmp_path: Path) -> None:
    rows = np.array([[3, 4], [0, 10], [0, 0]], np.int8)
    table = read_potion(write_potion(tmp_path, ["[UNK]", "dog", "cat"], rows))
    assert table.tokens == ["[UNK]", "dog", "cat"]
    np.testing.assert_allclose(table.rows, rows / 5)


def test_a_folder_that_is_not_one_is_named(tmp_path: Path) -> None:
    rows = np.ones((2, 2), np.int8)
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read"):
        read_potion(tmp_path)
    with pytest.raises(DataError, match="not the lower-case WordPiece tokeniser"):
        read_potion(write_potion(tmp_path, ["[UNK]", "dog"], rows, type="BPE"))
    with pytest.raises(DataError, match="not the lower-case WordPiece tokeniser"):
        read_potion(write_potion(tmp_path, ["cat", "dog"], rows))
    with pytest.raises(DataError, match="2 rows for a vocabulary of 3"):
        read_potion(write_potion(tmp_path, ["[UNK]", "dog", "cat"], rows))
    (write_potion(tmp_path, ["[UNK]", "dog"], rows) / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read"):
        read_potion(tmp_path)
