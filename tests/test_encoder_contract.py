"""The contract of :mod:`embedsearch.encoders.base`, held by every encoder there is."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch_models
from colour_encoder import ColourEncoder
from encoder_folder import make_encoder_folder, make_litert_folder
from PIL import Image

from embedsearch.encoders import registry
from embedsearch.encoders.base import Encoder
from embedsearch.errors import EncoderError, QueryError
from embedsearch.images.decode import decode
from embedsearch.index import Index

KINDS = (
    "mini",
    "folder",
    "colour",
    "openclip",
    "timm",
    "timm of a layer, GeM",
    "torchvision",
    "torchvision of a layer, R-MAC",
    "reduced",
    "reduced, pictures only",
    "joined",
    "joined, pictures only, weighted",
    "joined, then reduced",
    "averaged",
    "litert",
    "litert, a file alone",
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    """One of each kind, by the spec a user writes."""
    folder = tmp_path_factory.mktemp("weights")
    timm = f"timm:{torch_models.TIMM}@{torch_models.save_timm(folder)}"
    vision = f"torchvision:{torch_models.TORCHVISION}@{torch_models.save_torchvision(folder)}"
    specs = {
        "mini": "mini",
        "folder": str(make_encoder_folder(folder / "folder")),
        "openclip": f"openclip:{torch_models.ARCH}@{torch_models.save_openclip(folder)}",
        "timm": timm,
        "timm of a layer, GeM": f"{timm}?layer=layer3&pool=gem",
        "torchvision": vision,
        "torchvision of a layer, R-MAC": f"{vision}?pool=rmac&layer=features.6",
    }
    specs["litert"] = f"litert:{make_litert_folder(folder / 'litert')}"
    alone = shutil.copy(
        specs["litert"].removeprefix("litert:") + "/image.tflite", folder / "a.tflite"
    )
    specs["litert, a file alone"] = f"litert:{alone}"
    other = f"openclip:{torch_models.ARCH}@{torch_models.save_openclip(folder, seed=1)}"
    specs["joined"] = f"mini+{timm}"
    specs["joined, pictures only, weighted"] = f"{timm}?weight=2+{specs['folder']}"
    specs["averaged"] = f"({specs['openclip']}+{other})?join=mean"
    made: dict[str, Encoder] = {kind: registry.load(spec) for kind, spec in specs.items()}
    for kind, spec in (
        ("reduced", "mini?dim=12"),
        ("reduced, pictures only", f"{vision}?layer=features.6&dim=5"),
        ("joined, then reduced", f"(mini+{specs['folder']})?dim=9"),
    ):
        made[kind] = registry.load(str(fitted(spec, folder / f"index {kind}")))
    return made | {"colour": ColourEncoder()}


def fitted(spec: str, index_folder: Path) -> Path:
    """The folder of an encoder that an index fitted on pictures of its own."""
    photos = index_folder.with_name(f"photos of {index_folder.name}")
    photos.mkdir()
    random = np.random.default_rng(1)
    for place in range(14):
        pixels = random.integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(photos / f"{place}.png")
    with Index(index_folder) as index:
        index.add(photos, encoder=spec)
        return index_folder / "encoders" / index.info().encoders[0].id


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, encoders: dict[str, Encoder]) -> Encoder:
    return encoders[request.param]


def pictures() -> list[np.ndarray]:
    """Upright, wide, tall, tiny, and one that has the very size of an input."""
    random = np.random.default_rng(5)
    sizes = ((60, 60), (40, 90), (90, 40), (3, 2), (224, 224))
    return [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def test_rows_are_float32_of_unit_length_and_as_wide_as_the_encoder_says(each: Encoder) -> None:
    assert isinstance(each, Encoder)
    rows = each.encode_images(pictures())
    assert (rows.shape, rows.dtype) == ((5, each.info.dim), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert each.encode_images([]).shape == (0, each.info.dim)


def test_different_pictures_have_different_rows(each: Encoder) -> None:
    rows = each.encode_images(pictures())
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_a_batch_of_many_gives_what_batches_of_one_give(each: Encoder) -> None:
    together = each.encode_images(pictures())
    for picture, row in zip(pictures(), together, strict=True):
        assert np.array_equal(each.encode_images([picture])[0], row)


def test_encoding_twice_and_from_several_threads_gives_the_same(each: Encoder) -> None:
    expected = each.encode_images(pictures())
    assert np.array_equal(each.encode_images(pictures()), expected)
    with ThreadPoolExecutor(2) as pool:
        for rows in pool.map(each.encode_images, [pictures()] * 4):
            assert np.array_equal(rows, expected)


def test_an_array_a_pillow_image_and_a_file_give_the_same(each: Encoder, tmp_path: Path) -> None:
    pixels = pictures()[1]
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    with Image.open(path) as opened:
        rows = [
            each.encode_images([decode(source, each.info.input_size).pixels])
            for source in (pixels, opened, path)
        ]
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])


def test_a_picture_is_not_changed_and_may_be_a_view(each: Encoder) -> None:
    pixels = pictures()[0]
    before = pixels.copy()
    pixels.flags.writeable = False
    mirrored = each.encode_images([pixels[:, ::-1]])
    assert np.array_equal(pixels, before)
    assert np.array_equal(mirrored, each.encode_images([pixels[:, ::-1].copy()]))


def test_a_very_long_picture_is_encoded_in_little_memory(each: Encoder) -> None:
    long = np.zeros((2, 30_000, 3), np.uint8)
    long[:, 15_000:] = 255
    assert np.isfinite(each.encode_images([long])).all()


def test_texts_have_rows_where_there_is_a_text_tower_and_else_an_error(each: Encoder) -> None:
    texts = ["a red car", "two blue dogs", "green"]
    if not each.info.has_text:
        with pytest.raises(EncoderError, match="no text tower; search with --image"):
            each.encode_texts(texts)
        return
    rows = each.encode_texts(texts)
    assert (rows.shape, rows.dtype) == ((3, each.info.dim), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert len(np.unique(rows, axis=0)) == 3
    for text, row in zip(texts, rows, strict=True):
        assert np.array_equal(each.encode_texts([text])[0], row)
    with pytest.raises(QueryError):
        each.encode_texts(["a red car", "  "])


def test_ids_are_a_slug_and_twelve_hex_digits_and_each_is_its_own(
    encoders: dict[str, Encoder],
) -> None:
    infos = [encoder.info for encoder in encoders.values()]
    for info in infos:
        slug, _, digits = info.id.rpartition("-")
        assert slug == slug.lower() and "/" not in slug
        assert len(digits) == 12 and int(digits, 16) >= 0
        assert len(info.weights_hash) == 64
    assert len({info.id for info in infos}) == len(KINDS) == len(infos)


def test_the_stored_info_leads_back_to_the_same_encoder(
    encoders: dict[str, Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in set(KINDS) - {"colour"}:
        info = encoders[kind].info
        assert registry.load_stored(info, tmp_path).info == info


def test_one_colour_is_one_colour_at_any_size(each: Encoder) -> None:
    colour = (200, 120, 40)
    rows = each.encode_images(
        [np.full((*size, 3), colour, np.uint8) for size in ((8, 8), (80, 50))]
    )
    assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-4)
