"""What is asked for, and the vector that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from embedsearch.errors import EncoderError, QueryError
from embedsearch.images.decode import decode
from embedsearch.records import EncoderInfo
from embedsearch.search.mixture import Part
from embedsearch.search.query import Query, embed, unit

PngMaker = Callable[..., Path]


class PicturesOnly(ColourEncoder):
    """As an encoder without a text tower is: asking it for words is an error."""

    @property
    def info(self) -> EncoderInfo:
        return replace(super().info, has_text=False)

    def encode_texts(self, texts: object) -> np.ndarray:
        raise AssertionError("has no text tower")


@pytest.mark.parametrize(
    ("text", "images", "texts"),
    [
        ("a red car", [], ("a red car",)),
        (["red", "blue"], [], ("red", "blue")),
        (None, ["a.png"], ()),
        ("", ["a.png"], ()),
        (["  ", "red", "\n"], ["a.png", "b.png"], ("red",)),
    ],
)
def test_a_query_is_its_words_and_its_pictures(
    text: str | list[str] | None, images: list[str], texts: tuple[str, ...]
) -> None:
    pictures = tuple(Part(image, is_picture=True) for image in images)
    assert Query.of(text, images) == Query((*map(Part, texts), *pictures))


@pytest.mark.parametrize("nothing", [None, "", "  \t\n", [], ["", " "]])
def test_asking_for_nothing_is_an_error_that_shows_how_to_ask(
    nothing: str | list[str] | None,
) -> None:
    with pytest.raises(QueryError, match=r'embedsearch search "a red car".*--image photo\.jpg'):
        Query.of(nothing)


def test_a_query_reads_as_what_was_asked() -> None:
    assert str(Query.of(["red", "blue"], ["a.png"])) == "red + blue + a.png"


def test_one_text_is_its_own_embedding(encoder: ColourEncoder) -> None:
    vector = embed(Query.of("something red"), encoder)
    assert (vector.dtype.name, vector.shape) == ("float32", (encoder.info.dim,))
    np.testing.assert_allclose(vector, encoder.encode_texts(["red"])[0], atol=1e-6)


def test_one_picture_is_its_own_embedding(
    encoder: ColourEncoder, png: PngMaker, tmp_path: Path
) -> None:
    path = png(tmp_path / "blue.png", "blue")
    vector = embed(Query.of(None, [str(path)]), encoder)
    np.testing.assert_allclose(vector, encoder.encode_texts(["blue"])[0], atol=1e-6)


def test_every_part_counts_the_same(encoder: ColourEncoder, png: PngMaker, tmp_path: Path) -> None:
    images = [str(png(tmp_path / "blue.png", "blue"))]
    red, green, blue = encoder.encode_texts(["red", "green", "blue"])
    mixed = embed(Query.of(["red", "green"], images), encoder)
    sum_of_parts = red + green + blue
    np.testing.assert_allclose(mixed, sum_of_parts / np.linalg.norm(sum_of_parts), atol=1e-6)
    text_and_image = embed(Query.of("red", images), encoder)
    np.testing.assert_allclose(text_and_image, (red + blue) / np.linalg.norm(red + blue), atol=1e-6)
    assert text_and_image @ red == pytest.approx(text_and_image @ blue, abs=1e-6)


def test_pictures_are_seen_as_they_are_when_indexed(encoder: ColourEncoder, tmp_path: Path) -> None:
    """Upright, and reduced while they are decoded."""
    path = tmp_path / "turned.jpg"
    picture = Image.new("RGB", (640, 480), "red")
    picture.paste("blue", (0, 0, 320, 480))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    indexed = encoder.encode_images([decode(str(path), encoder.info.input_size).pixels])[0]
    assert np.array_equal(embed(Query.of(None, [str(path)]), encoder), unit(indexed))


def test_parts_that_cancel_each_other_out_are_an_error(encoder: ColourEncoder) -> None:
    class Opposites(ColourEncoder):
        def encode_texts(self, texts: object) -> np.ndarray:
            one = super().encode_texts(["red"])
            return np.concatenate([one, -one])

    with pytest.raises(QueryError, match="cancel each other out"):
        embed(Query.of(["hot", "cold"]), Opposites())


def test_words_that_the_encoder_does_not_know_are_an_error(encoder: ColourEncoder) -> None:
    with pytest.raises(QueryError, match="xyzzy"):
        embed(Query.of("xyzzy"), encoder)


def test_words_for_an_encoder_without_text_tower_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EncoderError, match=r"colour knows pictures only.*--image"):
        embed(Query.of("red"), PicturesOnly())


def test_an_encoder_without_text_tower_can_be_asked_by_example(
    png: PngMaker, tmp_path: Path
) -> None:
    path = png(tmp_path / "red.png", "red")
    vector = embed(Query.of(None, [str(path)]), PicturesOnly())
    np.testing.assert_allclose(vector, ColourEncoder().encode_texts(["red"])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "not there"), (b"", "empty"), (b"no picture at all", "picture")],
)
def test_an_example_that_is_no_picture_is_named_with_the_reason(
    encoder: ColourEncoder, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "example.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        QueryError, match=r"example\.jpg cannot be used as an example: .+"
    ) as caught:
        embed(Query.of(None, [str(path)]), encoder)
    assert reason in str(caught.value)


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20).filter(
        lambda values: np.linalg.norm(values) > 1e-3
    )
)
def test_a_unit_vector_has_length_one_and_the_same_direction(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    found = unit(vector)
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found * np.linalg.norm(vector), vector, rtol=1e-4, atol=1e-6)
