"""The text tower: its files, its tokens, its arithmetic, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from embedsearch.encoders import registry, text
from embedsearch.encoders.text import TextTower, load_tokenizer, token_ids, wordpiece
from embedsearch.errors import EncoderError, QueryError

TOKENS = ["[PAD]", "[UNK]", "dog", "cat", "run", "##ning", "a", "!", "cafe"]
WIDTH, HIDDEN, DIM = 4, 3, 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text tower small enough to compute by hand."""
    rng = np.random.default_rng(7)
    (tmp_path / text.VOCABULARY).write_text("".join(f"{token}\n" for token in TOKENS))
    np.save(tmp_path / text.ROWS, rng.integers(-127, 128, (len(TOKENS), WIDTH), np.int8))
    np.save(tmp_path / text.SCALES, rng.uniform(0.01, 0.02, len(TOKENS)).astype(np.float32))
    for name, shape in (
        (text.HIDDEN_WEIGHT, (WIDTH, HIDDEN)),
        (text.HIDDEN_BIAS, (HIDDEN,)),
        (text.OUTPUT_WEIGHT, (HIDDEN + WIDTH, DIM)),
        (text.OUTPUT_BIAS, (DIM,)),
    ):
        np.save(tmp_path / name, rng.normal(size=shape).astype(np.float32))
    return tmp_path


def by_hand(folder: Path, ids: list[int]) -> np.ndarray:
    part = {name: np.load(folder / name).astype(np.float64) for name in text.FILES[1:]}
    mean = np.mean([part[text.ROWS][i] * part[text.SCALES][i] for i in ids], axis=0)
    hidden = np.maximum(mean @ part[text.HIDDEN_WEIGHT] + part[text.HIDDEN_BIAS], 0)
    output = np.append(hidden, mean) @ part[text.OUTPUT_WEIGHT] + part[text.OUTPUT_BIAS]
    return output / np.linalg.norm(output)


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("dog", [2]),
        ("a DOG running!", [6, 2, 4, 5, 7]),
        ("dog dog cat", [2, 2, 3]),  # twice said counts twice
        ("dog zebra", [2]),  # an unknown word is left out, not taken for [UNK]
        ("Café", [8]),  # accents are stripped
        ("dog\n\tcat", [2, 3]),
        ("dog\udcff cat", [2, 3]),  # a lone surrogate, as in a file name, is dropped
    ],
)
def test_a_text_is_the_mean_of_its_rows_through_the_network(
    folder: Path, words: str, ids: list[int]
) -> None:
    got = TextTower(folder, DIM).encode([words])
    assert (got.dtype, got.shape) == (np.float32, (1, DIM))
    np.testing.assert_allclose(got[0], by_hand(folder, ids), atol=1e-6)


def test_weights_may_be_stored_in_16_bits(folder: Path) -> None:
    whole = TextTower(folder, DIM).encode(["dog"])
    for name in text.NETWORK:
        np.save(folder / name, np.load(folder / name).astype(np.float16))
    got = TextTower(folder, DIM).encode(["dog"])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], by_hand(folder, [2]), atol=1e-6)  # computed in float32
    assert 0 < np.abs(got - whole).max() < 2e-3


@pytest.mark.parametrize("words", ["", "   ", "zebra", "\n", "狗"])
def test_a_text_without_a_known_word_is_refused(folder: Path, words: str) -> None:
    with pytest.raises(QueryError, match="holds no word that the encoder knows"):
        TextTower(folder, DIM).encode([words])


def test_no_texts_give_no_rows(folder: Path) -> None:
    assert TextTower(folder, DIM).encode([]).shape == (0, DIM)


@settings(max_examples=200, deadline=None)
@given(st.text().filter(lambda words: "[" not in words))  # the library takes "[SEP]" for a command
def test_tokens_are_those_of_the_librarys_own_bert_tokeniser(words: str) -> None:
    tokens = [*TOKENS, "[CLS]", "[SEP]"]  # the library insists on these two
    library = BertWordPieceTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    expected = library.encode(words, add_special_tokens=False).ids
    assert token_ids(wordpiece(tokens), words) == expected


def test_a_vocabulary_in_a_file_and_in_a_list_are_the_same(folder: Path) -> None:
    words = "a dog running! zebra"
    assert token_ids(load_tokenizer(folder / text.VOCABULARY), words) == token_ids(
        wordpiece(TOKENS), words
    )


# Damaged folders


@pytest.mark.parametrize("name", text.FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(EncoderError, match=name.replace(".", r"\.")):
        TextTower(folder, DIM)


@pytest.mark.parametrize("name", text.FILES)
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", bytes(range(256))])
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(EncoderError, match=name.replace(".", r"\.")):
        TextTower(folder, DIM)


@pytest.mark.parametrize("name", text.FILES[1:])
def test_an_array_of_another_shape_or_type_is_named(folder: Path, name: str) -> None:
    array = np.load(folder / name)
    np.save(folder / name, array.astype(np.float64))
    with pytest.raises(EncoderError, match=name.replace(".", r"\.")):
        TextTower(folder, DIM)
    np.save(folder / name, np.concatenate([array, array]))
    with pytest.raises(EncoderError, match=r"\.npy: shape|rows"):
        TextTower(folder, DIM)
    np.save(folder / name, array[None])
    with pytest.raises(EncoderError, match=name.replace(".", r"\.")):
        TextTower(folder, DIM)


def test_a_vocabulary_that_does_not_fit_the_table_is_named(folder: Path) -> None:
    (folder / text.VOCABULARY).write_text("".join(f"{token}\n" for token in TOKENS[:-1]))
    with pytest.raises(EncoderError, match=r"8 tokens, but token_rows\.npy has 9 rows"):
        TextTower(folder, DIM)


# The tower in the box


@pytest.fixture(scope="module")
def mini() -> TextTower:
    return TextTower(registry.WEIGHTS / "mini", 256)


def test_the_tower_in_the_box_knows_which_words_are_near(mini: TextTower) -> None:
    dog, puppy, car, automobile = mini.encode(
        ["a dog on the grass", "a puppy on a lawn", "a red car", "an automobile"]
    )
    assert dog @ puppy > 0.5 > dog @ car
    assert car @ automobile > max(car @ dog, automobile @ dog)


def test_a_batch_of_many_gives_exactly_what_batches_of_one_give(mini: TextTower) -> None:
    texts = [f"{what} number {n}" for n in range(20) for what in ("a dog", "two men", "!")]
    together = mini.encode(texts)
    assert (together == np.concatenate([mini.encode([one]) for one in texts])).all()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_a_text_takes_less_than_a_millisecond(mini: TextTower) -> None:
    query = ["a black dog jumping over a fallen log in the snow"]
    mini.encode(query)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        mini.encode(query)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 1e-3


def test_encoding_a_text_loads_neither_torch_nor_onnxruntime_nor_pillow() -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from embedsearch.encoders.onnx import OnnxEncoder\n"
        f"encoder = OnnxEncoder(Path({str(registry.WEIGHTS / 'mini')!r}), spec='mini')\n"
        "assert encoder.encode_texts(['a dog']).shape == (1, 260)\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'PIL', 'faiss', 'open_clip', 'sqlite_utils'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
