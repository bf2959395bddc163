"""What is asked for, and the vector that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embedsearch.errors import EncoderError, QueryError
from embedsearch.images.decode import decode
from embedsearch.records import Box, EncoderInfo
from embedsearch.search.mixture import Part
from embedsearch.search.query import NEGATIVE, Query, embed, unit

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


def test_a_mixture_is_the_weighted_sum_with_negatives_at_half(
    encoder: ColourEncoder, png: PngMaker, tmp_path: Path
) -> None:
    blue = png(tmp_path / "blue.png", "blue")
    mixed = embed(Query.of(f"2:red + 0.5:{blue} - 3:green"), encoder)
    r, g, b = encoder.encode_texts(["red", "green", "blue"])
    wanted = 2 * r + 0.5 * b - NEGATIVE * 3 * g
    np.testing.assert_allclose(mixed, wanted / np.linalg.norm(wanted), atol=1e-6)
    assert NEGATIVE == 0.5


def test_negatives_are_parts_with_weight_or_picture_and_are_not_split(
    png: PngMaker, tmp_path: Path
) -> None:
    path = str(png(tmp_path / "a - b.png"))
    query = Query.of("red", ["x.png"], negatives=["2:blue", f"0.5:{path}", "a + b", " "])
    assert query.parts == (
        Part("red"),
        Part("x.png", is_picture=True),
        Part("blue", weight=2, is_negative=True),
        Part(path, True, 0.5, is_negative=True),
        Part("a + b", is_negative=True),
    )
    assert query.pictures == ("x.png", path)
    assert Query.of("red", negatives="blue") == Query.of("red - blue")


def test_a_negative_alone_turns_the_ranking_round(encoder: ColourEncoder) -> None:
    np.testing.assert_allclose(
        embed(Query.of(None, negatives="red"), encoder),
        -encoder.encode_texts(["red"])[0],
        atol=1e-6,
    )


def test_literal_texts_are_words_whatever_is_in_them() -> None:
    text = "2:red + ./none.png - blue"
    assert Query.of(text, literal=True).parts == (Part(text),)
    assert Query.of("red", negatives="2:a - b", literal=True).parts == (
        Part("red"),
        Part("2:a - b", is_negative=True),
    )


@pytest.mark.parametrize(
    "name", ["./none.png", "../none.png", "/none/x.jpg", "~/none.png", "~nobody-here", "/\0", "~\0"]
)
@pytest.mark.parametrize("query", ["{}", "red + 2:{}", "red - {} + blue"])
def test_a_picture_in_a_text_that_does_not_exist_is_named_with_the_way_out(
    name: str, query: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QueryError, match=r"There is no picture .*--literal.*--image") as caught:
        Query.of(query.format(name))
    assert repr(name) in str(caught.value)


def test_a_tilde_is_the_home_folder(
    png: PngMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = png(tmp_path / "a.png")
    assert Query.of("~/a.png").pictures == (str(path),)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=20))
def test_no_text_raises_anything_but_a_query_error(text: str) -> None:
    for asked in (text, f"./{text}", f"red - ~{text}", f"2:/{text}"):
        try:
            query = Query.of(asked, negatives=text)
        except QueryError:
            continue
        assert len(query.parts) >= 1
        assert isinstance(str(query), str)


@pytest.mark.parametrize(
    ("text", "negatives"), [("red - red", []), ("red", ["red"]), ("red - 2:red", [])]
)
def test_taking_away_what_is_asked_for_is_an_error(
    encoder: ColourEncoder, text: str, negatives: list[str]
) -> None:
    with pytest.raises(QueryError, match="cancel each other out"):
        embed(Query.of(text, negatives=negatives), encoder)


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """320 x 240 upright: red but for a blue rectangle from (200, 40) to (280, 100). Stored on its
    side, so that a box counted in the stored pixels would miss it."""
    upright = Image.new("RGB", (320, 240), "red")
    upright.paste("blue", (200, 40, 280, 100))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("region", "colour"),
    [
        ((200, 40, 80, 60), "blue"),
        ((0, 0, 190, 240), "red"),
        ((239.5, 69.5, 1, 1), "blue"),
        ((310, 230, 10, 10), "red"),
    ],
)
def test_a_region_is_cut_out_of_the_upright_picture(
    encoder: ColourEncoder, turned: Path, region: Box, colour: str
) -> None:
    vector = embed(Query.of(None, [str(turned)], region=region), encoder)
    flat = np.array(Image.new("RGB", (1, 1), colour))
    np.testing.assert_allclose(vector, encoder.encode_images([flat])[0], atol=1e-6)


def test_a_region_of_the_whole_picture_is_the_picture(encoder: ColourEncoder, turned: Path) -> None:
    whole = embed(Query.of(None, [str(turned)]), encoder)
    same = embed(Query.of(None, [str(turned)], region=(0, 0, 320, 240)), encoder)
    assert np.array_equal(whole, same)


@pytest.mark.parametrize(
    "region",
    [
        (320, 0, 10, 10),
        (300, 0, 21, 10),
        (0, 230, 10, 11),
        (-1, 0, 10, 10),
        (0, -1, 10, 10),
        (0, 0, 0, 10),
        (0, 0, 10, -5),
        (float("nan"), 0, 10, 10),
        (0, 0, float("inf"), 10),
    ],
)
def test_a_region_that_leaves_the_picture_is_an_error_with_its_size(
    encoder: ColourEncoder, turned: Path, region: Box
) -> None:
    with pytest.raises(QueryError, match=r"does not lie inside .*turned\.png.* 320 x 240 pixels"):
        embed(Query.of("red", [str(turned)], region=region), encoder)


@pytest.mark.parametrize(("images", "count"), [([], "none"), (["a.png", "b.png"], "2")])
def test_a_region_of_anything_but_one_picture_is_an_error(images: list[str], count: str) -> None:
    with pytest.raises(QueryError, match=f"exactly one example picture, not to {count}"):
        Query.of("red", images, region=(0, 0, 5, 5))


def test_a_region_may_belong_to_a_picture_in_the_text(encoder: ColourEncoder, turned: Path) -> None:
    by_text = embed(Query.of(f"red + {turned}", region=(200, 40, 80, 60)), encoder)
    by_option = embed(Query.of("red", [str(turned)], region=(200, 40, 80, 60)), encoder)
    assert np.array_equal(by_text, by_option)


@pytest.mark.parametrize(
    ("query", "summary"),
    [
        (Query.of("a red car"), ""),
        (Query.of(None, ["a.png"]), ""),
        (Query.of("2:red - blue", ["a.png"]), "more: 2:red, a.png · less: blue"),
        (Query.of(None, negatives="0.5:blue"), ""),
        (Query.of(None, ["a.png"], region=(1, 2, 3.5, 40)), "region: 1,2,3.5,40"),
    ],
)
def test_the_summary_says_what_counts_how_much(query: Query, summary: str) -> None:
    assert query.summary() == summary
