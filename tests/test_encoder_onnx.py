"""Encoder folders on ONNX Runtime: the one in the box, and whatever may be wrong with another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skimage
from encoder_folder import make_encoder_folder
from PIL import Image

from embedsearch.encoders import registry
from embedsearch.encoders.base import Encoder
from embedsearch.encoders.folder import HUB_NUMBERS, combined_hash, hash_file, read_folder
from embedsearch.encoders.onnx import IMAGE, OnnxEncoder, verify_files
from embedsearch.errors import EncoderError, EncoderMismatchError
from embedsearch.images.decode import decode
from embedsearch.index import Index

BOX = registry.WEIGHTS / "mini"
PHOTOS = Path(skimage.__file__).parent / "data"
SMALL = 12_000_000


@pytest.fixture(scope="module")
def mini() -> OnnxEncoder:
    return OnnxEncoder(BOX, spec="mini")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the encoder in the box, to be damaged."""
    return Path(shutil.copytree(BOX, tmp_path / "mini"))


def rendered() -> np.ndarray:
    """A picture that needs no file: a red disc on a blue and green gradient, 240 x 320."""
    down, across = np.mgrid[:240, :320]
    pixels = np.stack([0 * down, down, across * 3 // 4], axis=2).astype(np.uint8)
    pixels[(down - 120) ** 2 + (across - 160) ** 2 < 80**2] = (220, 30, 30)
    return pixels


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# The encoder in the box


def test_it_keeps_the_contract(mini: OnnxEncoder) -> None:
    assert isinstance(mini, Encoder)
    assert (mini.info.spec, mini.info.dim, mini.info.has_text) == ("mini", 260, True)
    assert mini.info.id.startswith("mini-") and len(mini.info.id) == len("mini-") + 12
    assert (mini.info.input_size, mini.info.resize) == (208, "squash")


def test_the_whole_folder_is_small_and_whole() -> None:
    boxed = [file for file in registry.WEIGHTS.rglob("*") if file.is_file()]
    assert BOX / "encoder.json" in boxed
    assert sum(file.stat().st_size for file in boxed) <= SMALL  # the detector and the segmenter too
    verify_files(BOX)
    assert {"LICENSE", "MODEL_CARD.md", "encoder.json"} <= {file.name for file in BOX.iterdir()}


def test_embeddings_are_unit_float32_rows_whatever_the_size(mini: OnnxEncoder) -> None:
    pictures = [noise(1, 1), noise(500, 7), noise(224, 224), noise(20, 3000), rendered()]
    vectors = mini.encode_images(pictures)
    assert (vectors.shape, vectors.dtype) == ((5, 260), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_an_extremely_long_picture_is_embedded(mini: OnnxEncoder) -> None:
    long = np.repeat(noise(500, 300), 100, axis=1)
    assert mini.encode_images([long])[0] @ mini.encode_images([noise(500, 300)])[0] > 0.5


def test_a_batch_of_many_gives_exactly_what_batches_of_one_give(mini: OnnxEncoder) -> None:
    pictures = [noise(50, 60, seed) for seed in range(5)] + [rendered()]
    alone = np.concatenate([mini.encode_images([picture]) for picture in pictures])
    assert (mini.encode_images(pictures) == alone).all()
    assert (mini.encode_images(pictures[::-1])[::-1] == alone).all()


def test_threads_that_share_an_encoder_get_what_one_thread_gets() -> None:
    pictures = [noise(64, 64, seed) for seed in range(24)]
    expected = OnnxEncoder(BOX, spec="mini").encode_images(pictures)
    shared = OnnxEncoder(BOX, spec="mini")  # not loaded yet: they race for that too
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda picture: shared.encode_images([picture])[0], pictures))
    assert (np.stack(got) == expected).all()


def test_several_threads_a_picture_change_nothing(mini: OnnxEncoder) -> None:
    wide = OnnxEncoder(BOX, spec="mini", threads=2)
    np.testing.assert_allclose(
        wide.encode_images([rendered()]), mini.encode_images([rendered()]), atol=1e-6
    )


def test_no_pictures_give_no_rows(mini: OnnxEncoder) -> None:
    assert mini.encode_images([]).shape == (0, 260)
    assert mini.encode_texts([]).shape == (0, 260)


def test_words_find_photos_of_what_they_say(mini: OnnxEncoder) -> None:
    asked = {
        "chelsea.png": "a photo of a cat",
        "coffee.png": "a photo of a cup",
        "astronaut.png": "a smiling woman in an orange suit",
        "motorcycle_left.png": "a photo of a motorcycle",
    }
    photos = [decode(PHOTOS / name, mini.info.input_size).pixels for name in asked]
    scores = mini.encode_texts(list(asked.values())) @ mini.encode_images(photos).T
    assert scores.argmax(axis=1).tolist() == list(range(len(asked)))


def test_a_mirrored_and_a_shrunken_photo_are_nearer_than_another(mini: OnnxEncoder) -> None:
    cat = decode(PHOTOS / "chelsea.png", 224).pixels
    cup = decode(PHOTOS / "coffee.png", 224).pixels
    one, mirrored, small, other = mini.encode_images([cat, cat[:, ::-1], cat[::3, ::3], cup])
    assert min(one @ mirrored, one @ small) > 0.8 > one @ other


def test_canonical_vectors_have_not_moved(mini: OnnxEncoder) -> None:
    """What an index holds must be what a query of today is compared with."""
    assert mini.info.id == CANONICAL_ID
    picture, words = mini.encode_images([rendered()])[0], mini.encode_texts(["a red ball"])[0]
    # Integer arithmetic is exact everywhere; rounding between the layers may differ by one step
    # from processor to processor, which moves a component by some thousandths.
    np.testing.assert_allclose(picture[PINNED], CANONICAL_PICTURE, atol=0.01)
    np.testing.assert_allclose(words[PINNED], CANONICAL_WORDS, atol=1e-5)


def test_a_sentence_tells_hubs_apart_and_the_towers_are_those_of_the_sixth() -> None:
    mini = OnnxEncoder(BOX, spec="mini")
    plain = mini.without_hubs()
    assert mini.info.dim == plain.info.dim + HUB_NUMBERS
    np.testing.assert_allclose(plain.encode_images([rendered()])[0][:3], SIXTH, atol=0.01)
    short, long = mini.encode_texts(["a dog", "a brown dog runs over the sand with a stick"])
    assert short[-HUB_NUMBERS] == 0 < long[-HUB_NUMBERS]


CANONICAL_ID = "mini-ecf68a20835c"
PINNED = [0, 1, 2, 3, 4, 5, -4, -3, -2, -1]
CANONICAL_PICTURE = [
    *(0.014646, -0.001077, -0.013912, -0.066188, -0.037266, -0.043456),
    *(0.097014, 0.0, 0.222288, 0.0),
]
CANONICAL_WORDS = [
    *(-0.021048, -0.081882, -0.006699, -0.022774, 0.06592, -0.091756),
    *(0.0, 0.371391, 0.0, 0.0),
]
SIXTH = [0.015097, -0.00111, -0.01434]


# What an id depends on


def test_the_id_is_that_of_weights_preprocessing_and_pooling(copied: Path) -> None:
    told = json.loads((copied / "encoder.json").read_text())
    ids = {OnnxEncoder(copied, spec="mini").info.id}
    changes: list[dict[str, Any]] = [
        {"resize": "pad"},
        {"interpolation": "bilinear"},
        {"input_size": 192},
        {"mean": [0.5, 0.5, 0.5]},
        {"std": [0.5, 0.5, 0.5]},
        {"pooling": "max"},
    ]
    for change in changes:
        (copied / "encoder.json").write_text(json.dumps(told | change))
        ids.add(OnnxEncoder(copied, spec="mini").info.id)
    files = told["files"] | {IMAGE: "0" * 64}
    other = {"files": files, "weights_hash": combined_hash(files)}
    (copied / "encoder.json").write_text(json.dumps(told | other))
    ids.add(OnnxEncoder(copied, spec="mini").info.id)
    assert len(ids) == len(changes) + 2
    # What people write about it does not make it another encoder.
    (copied / "encoder.json").write_text(json.dumps(told | {"description": "x", "licence": "y"}))
    assert OnnxEncoder(copied, spec="elsewhere").info.id in ids


def test_info_needs_nothing_but_encoder_json(tmp_path: Path) -> None:
    shutil.copy(BOX / "encoder.json", tmp_path)
    encoder = OnnxEncoder(tmp_path, spec="here")
    assert encoder.info.id == read_folder(BOX).id
    with pytest.raises(EncoderError, match=r"image\.onnx: cannot be read"):
        encoder.encode_images([rendered()])
    with pytest.raises(EncoderError, match=r"token_rows\.npy: cannot be read"):
        encoder.encode_texts(["a dog"])


def test_info_loads_no_library_to_run_it_with() -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from embedsearch.encoders.onnx import OnnxEncoder\n"
        f"OnnxEncoder(Path({str(BOX)!r}), spec='mini').info\n"
        "print(sorted({'onnxruntime', 'tokenizers', 'PIL', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Wrong and damaged folders

Change = Callable[[dict[str, Any]], Any]


def without(key: str) -> Change:
    return lambda told: {name: value for name, value in told.items() if name != key}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("dim"), "'dim' is missing"),
        (without("format"), "'format' is missing"),
        (without("weights_hash"), "'weights_hash' is missing"),
        (lambda told: told | {"format": 2}, "format 2, but this version of embedsearch reads"),
        (lambda told: told | {"dim": -1}, "'dim' is -1"),
        (lambda told: told | {"dim": True}, "'dim' is True"),
        (lambda told: told | {"resize": "stretch"}, "'resize' is 'stretch'"),
        (lambda told: told | {"mean": [1, 2]}, "'mean' is"),
        (lambda told: told | {"name": "../up"}, "'name' is"),
        (lambda told: told | {"files": {"../up": "0" * 64}}, "'files' is"),
        (lambda told: told | {"files": {"image.onnx": "short"}}, "'files' is"),
        (lambda told: told | {"weights_hash": "0" * 64}, "does not agree"),
        (lambda told: [told], "not a JSON object"),
    ],
)
def test_a_wrong_encoder_json_is_named(copied: Path, change: Change, said: str) -> None:
    path = copied / "encoder.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(EncoderError, match=said) as caught:
        OnnxEncoder(copied, spec="mini")
    assert str(path) in str(caught.value)


def test_an_encoder_json_that_is_missing_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"encoder\.json: cannot be read"):
        OnnxEncoder(tmp_path, spec="mini")
    (tmp_path / "encoder.json").write_bytes(b"\xff{")
    with pytest.raises(EncoderError, match=r"encoder\.json: not JSON"):
        OnnxEncoder(tmp_path, spec="mini")


@pytest.mark.parametrize("name", sorted(read_folder(BOX).hashes))
def test_verify_names_the_file_with_one_flipped_bit(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(EncoderError, match="damaged") as caught:
        verify_files(copied)
    assert str(copied / name) in str(caught.value)
    (copied / name).unlink()
    with pytest.raises(EncoderError, match="cannot be read"):
        verify_files(copied)


def test_an_image_tower_with_one_flipped_bit_is_refused_before_it_answers(copied: Path) -> None:
    content = bytearray((copied / IMAGE).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / IMAGE).write_bytes(content)
    with pytest.raises(EncoderError, match=r"image\.onnx: damaged"):
        OnnxEncoder(copied, spec="mini").encode_images([rendered()])


def seal(folder: Path, **change: Any) -> Path:
    """Record the files as they are now, as whoever made the folder would."""
    path = folder / "encoder.json"
    told = json.loads(path.read_text()) | change
    told["files"] = {name: hash_file(folder / name) for name in told["files"]}
    told["weights_hash"] = combined_hash(told["files"])
    path.write_text(json.dumps(told))
    return folder


def test_an_image_tower_that_is_no_onnx_is_named(tmp_path: Path) -> None:
    folder = make_encoder_folder(tmp_path / "tiny")
    (folder / IMAGE).write_bytes(b"not a network")
    with pytest.raises(EncoderError, match=r"image\.onnx: ONNX Runtime cannot load it"):
        OnnxEncoder(seal(folder), spec="tiny").encode_images([rendered()])


def test_an_image_tower_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = make_encoder_folder(tmp_path / "tiny")
    with pytest.raises(EncoderError, match=r"image\.onnx: takes .* expected uint8 \(N, 4, 4, 3\)"):
        OnnxEncoder(seal(folder, dim=7), spec="tiny").encode_images([rendered()])


def test_an_image_tower_that_is_not_listed_is_not_run(tmp_path: Path) -> None:
    folder = make_encoder_folder(tmp_path / "tiny")
    (folder / "other.onnx").write_bytes(b"")
    told = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(told | {"files": {"other.onnx": ""}}))
    with pytest.raises(EncoderError, match=r"does not list image\.onnx"):
        OnnxEncoder(seal(folder), spec="tiny").encode_images([rendered()])


def test_a_tower_that_gives_no_direction_is_an_error_not_a_wrong_answer(tmp_path: Path) -> None:
    folder = make_encoder_folder(tmp_path / "tiny")
    with pytest.raises(ValueError, match="a vector of length 0"):
        OnnxEncoder(folder, spec="tiny").encode_images([np.zeros((4, 4, 3), np.uint8)])


def test_an_encoder_without_a_text_tower_says_so(tmp_path: Path) -> None:
    folder = make_encoder_folder(tmp_path / "tiny")
    with pytest.raises(EncoderError, match="no text tower; search with --image"):
        OnnxEncoder(folder, spec="tiny").encode_texts(["a dog"])


def test_threads_must_be_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        OnnxEncoder(BOX, spec="mini", threads=0)


def test_the_tower_in_the_box_cannot_saturate_on_any_processor() -> None:
    """255 times two int8 weights of one sign must fit into 16 bits (see ``training.quantize``)."""
    model = onnx.load(BOX / IMAGE)
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    dense = [
        array.astype(int).reshape(len(array), -1)
        for array in arrays.values()
        if array.dtype == np.int8 and array.ndim == 4 and array.shape[1] > 1
    ]
    assert len(dense) == 36  # the stem, 17 expansions, 17 projections, the last
    for weight in dense:
        even, odd = weight[:, 0:-1:2], weight[:, 1::2]
        assert (np.maximum(even, 0) + np.maximum(odd, 0)).max() <= 128
        assert (np.minimum(even, 0) + np.minimum(odd, 0)).min() >= -128


def test_a_folder_is_asked_by_any_path_that_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_encoder_folder(tmp_path / "tiny")
    (tmp_path / "photos").mkdir()
    Image.fromarray(rendered()).save(tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path)
    with Index("index") as index:
        index.add("photos", encoder="tiny")
        for named in ("tiny", "./tiny", "photos/../tiny", str(folder)):
            assert len(index.search(images=["photos/a.png"], encoder=named)) == 1
        with pytest.raises(EncoderMismatchError, match="was not made with the encoder tin;"):
            index.search(images=["photos/a.png"], encoder="tin")
