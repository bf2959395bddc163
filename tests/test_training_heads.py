"""Fitting heads to features and texts, and writing them as an encoder folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from embedsearch.encoders.onnx import OnnxEncoder, verify_files
from embedsearch.encoders.text import TextTower, token_ids, wordpiece
from embedsearch.errors import DataError
from embedsearch.training.data.photos import Photo
from embedsearch.training.mini.fit import Recipe, Texts, fit_heads, scale_features
from embedsearch.training.networks.encoder_files import write_encoder
from embedsearch.training.networks.export import attach_head
from embedsearch.training.networks.heads import MAX_SCALE, SMALLEST_DEVIATION, Heads, ImageHead
from embedsearch.training.networks.token_table import TokenTable, quantize_rows, read_potion

WORDS = ["red", "blue", "green", "grey"]
TOKENS = ["[UNK]", *WORDS, "a", "photo", "of", "the", "picture", "never"]
WIDTH, DIM = 8, 16
RECIPE = Recipe(
    dim=DIM, hidden=8, epochs=30, captioned=16, labelled=4, rate=3e-3, table_rate=1e-2, warm_up=5
)


@pytest.fixture(scope="module")
def table() -> TokenTable:
    rows = np.random.default_rng(0).normal(size=(len(TOKENS), WIDTH)).astype(np.float32)
    return TokenTable(TOKENS, rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    """Of each colour, ten photos with a caption, and two of grey with a label only."""
    made = [
        Photo(Path(f"{w}{n}"), "s", (), (f"a {w} photo", w)) for n in range(10) for w in WORDS[:3]
    ]
    return made + [Photo(Path(f"grey{n}"), "s", ("grey",), ()) for n in range(2)]


@pytest.fixture(scope="module")
def features(photos: list[Photo]) -> np.ndarray:
    """Two noisy views, in which each colour has channels of its own."""
    rng = np.random.default_rng(1)
    made = rng.random((2, len(photos), 1280)) * 0.3
    for place, photo in enumerate(photos):
        colour = next(n for n, word in enumerate(WORDS) if photo.file.name.startswith(word))
        made[:, place, colour * 100 : colour * 100 + 100] += 1
    return made.astype(np.float16)


def fitted(photos, features, table, recipe=RECIPE, held=()) -> tuple[Heads, TokenTable]:
    return fit_heads(photos, features, table, wordpiece(TOKENS), recipe, held)


def test_fitted_heads_find_photos_by_words_labels_included(photos, features, table) -> None:
    heads, trained = fitted(photos, features, table)
    tokenizer = wordpiece(TOKENS)
    texts = Texts(tokenizer, [f"a photo of a {word}" for word in WORDS])
    heads.text.table.weight.data = torch.from_numpy(trained.rows[texts.used])
    with torch.no_grad():
        pictures = heads.image(scale_features(features[0]))
        words = heads.text(*texts.bag([f"a photo of a {word}" for word in WORDS]))
    found = (pictures @ words.T).argmax(dim=1)
    right = [n for p in photos for n, w in enumerate(WORDS) if p.file.name.startswith(w)]
    assert found.tolist() == right


def test_the_same_seed_gives_the_same_heads_and_another_others(photos, features, table) -> None:
    recipe = replace(RECIPE, epochs=2)
    first, again = (fitted(photos, features, table, recipe)[0] for _ in range(2))
    other = fitted(photos, features, table, replace(recipe, seed=1))[0]
    assert torch.equal(first.image.linear.weight, again.image.linear.weight)
    assert not torch.equal(first.image.linear.weight, other.image.linear.weight)


def test_only_rows_of_tokens_that_occur_are_trained(photos, features, table) -> None:
    before = table.rows.copy()
    _, trained = fitted(photos, features, table, replace(RECIPE, epochs=1))
    changed = (trained.rows != before).any(axis=1)
    assert dict(zip(TOKENS, changed.tolist(), strict=True))["red"]
    assert not changed[TOKENS.index("never")] and not changed[TOKENS.index("[UNK]")]
    assert (table.rows == before).all()


def test_photos_held_out_do_not_change_what_is_learned(photos, features, table) -> None:
    recipe, held = replace(RECIPE, epochs=2), {0, 4, 8}
    expected = fitted(photos, features, table, recipe, held)[0]
    spoiled = features.copy()
    spoiled[:, sorted(held)] = 7
    got = fitted(photos, spoiled, table, recipe, held)[0]
    assert torch.equal(got.image.linear.weight, expected.image.linear.weight)


def test_each_epoch_is_told_with_its_loss(photos, features, table) -> None:
    told: list[tuple[int, float]] = []
    fit_heads(
        photos,
        features,
        table,
        wordpiece(TOKENS),
        RECIPE,
        told=lambda epoch, loss, heads, texts: told.append((epoch, loss)),
    )
    assert [epoch for epoch, _ in told] == list(range(1, 31))
    assert told[-1][1] < told[0][1] / 2


def test_fewer_photos_than_a_batch_are_one_batch_and_none_with_captions_an_error(
    photos, features, table
) -> None:
    few = replace(RECIPE, captioned=1000, epochs=1)
    before = Heads(torch.from_numpy(table.rows), dim=DIM, hidden=8, dropout=0, temperature=0.05)
    heads, _ = fitted(photos, features, table, few)
    assert heads.image.linear.weight.shape == before.image.linear.weight.shape
    with pytest.raises(DataError, match="no photo to train on has captions"):
        fitted(photos[-2:], features[:, -2:], table)


def test_the_temperature_cannot_fall_without_end(table) -> None:
    heads = Heads(torch.from_numpy(table.rows), dim=DIM, hidden=8, dropout=0, temperature=1e-9)
    assert heads.scale().item() == MAX_SCALE


def test_the_image_head_standardises_each_channel_and_folds_into_one_layer() -> None:
    features = torch.randn(50, 1280, generator=torch.Generator().manual_seed(0)) * 3 + 1
    features[:, 5] = 0.25  # a channel that never changes is not blown up
    head = ImageHead(DIM, dropout=0.0)
    head.standardise(features)
    standard = (features - head.mean) / head.deviation
    torch.testing.assert_close(standard.mean(0), torch.zeros(1280), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(0)[:5], torch.ones(5), atol=1e-5, rtol=0)
    assert head.deviation[5].item() == pytest.approx(SMALLEST_DEVIATION)
    weight, bias = (torch.from_numpy(array) for array in head.folded())
    with torch.no_grad():
        expected = head(features)
    got = torch.nn.functional.normalize(features @ weight.T + bias, dim=1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_features_are_scaled_to_one_a_channel() -> None:
    scaled = scale_features(np.full((2, 3, 1280), 5, np.float16))
    torch.testing.assert_close(scaled, torch.ones(2, 3, 1280))


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


# The folder that is written


def backbone() -> onnx.ModelProto:
    """Pixels to 1280 features, by cutting out as many of them."""
    size, start, end = 32, 0, 1280
    cast = helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT)
    flat = helper.make_node("Flatten", ["real"], ["flat"])
    cut = helper.make_node("Slice", ["flat", "start", "end", "axis"], ["features"])
    values = [("start", start), ("end", end), ("axis", 1)]
    graph = helper.make_graph(
        [cast, flat, cut],
        "cut",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", size, size, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 1280])],
        [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in values],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_is_written_encodes_as_the_heads_do(tmp_path: Path, photos, features, table) -> None:
    heads, trained = fitted(photos, features, table, replace(RECIPE, epochs=3))
    about = write_encoder(
        tmp_path / "made",
        attach_head(backbone(), *heads.image.folded()),
        trained,
        heads.text,
        name="tiny",
        licence="none",
        description="for tests",
        dim=DIM,
        size=32,
        pooling="avg",
    )
    verify_files(tmp_path / "made")
    encoder = OnnxEncoder(tmp_path / "made", spec="made")
    assert encoder.info.id == about.id and encoder.info.has_text
    pixels = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
    cut = pixels.reshape(1, -1)[:, :1280].astype(np.float32)
    tokenizer, words = wordpiece(TOKENS), "a red photo"
    ids = torch.tensor(token_ids(tokenizer, words))
    heads.text.table.weight.data = torch.from_numpy(trained.rows)
    with torch.no_grad():
        picture = heads.image(scale_features(cut)).numpy()
        text = heads.text(ids, torch.tensor([0])).numpy()
    np.testing.assert_allclose(encoder.encode_images([pixels]), picture, atol=1e-5)
    # The table is rounded to 8 bits.
    np.testing.assert_allclose(encoder.encode_texts([words]), text, atol=0.02)
    assert TextTower(tmp_path / "made", DIM).encode([words]).shape == (1, DIM)
