from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from embedsearch.errors import EmbedSearchError, PictureError
from embedsearch.images.colour import _to_srgb_transform
from embedsearch.images.decode import Decoded, FileBytes, decode, read


def in_memory(data: bytes) -> FileBytes:
    return FileBytes(b"made in memory", len(data), 0, data)


def decoded(image: Image.Image, format: str, at_least: int = 1000, **options: object) -> Decoded:
    return decode(in_memory(pictures.encoded(image, format, **options)), at_least)


def assert_shows(found: Decoded, expected: pictures.Corners, tolerance: int = 3) -> None:
    off = np.abs(pictures.corners(found.pixels) - np.asarray(expected)).max()
    assert off <= tolerance, pictures.corners(found.pixels).tolist()


# Formats and colours


@pytest.mark.parametrize("good", pictures.GOOD, ids=lambda good: good.name)
def test_every_kind_of_file_comes_out_upright_and_in_its_colours(
    good: pictures.Good, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / good.name
    good.make(path)
    found = decode(path, 1000)
    assert_shows(found, good.shows, good.tolerance)
    assert found.pixels.shape == (pictures.HEIGHT, pictures.WIDTH, 3)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.flags.c_contiguous and found.pixels.flags.writeable
    assert (found.width, found.height) == (pictures.WIDTH, pictures.HEIGHT)
    assert found.format == good.format
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("good", pictures.GOOD, ids=lambda good: good.name)
def test_every_kind_of_file_shows_the_same_when_it_is_reduced(
    good: pictures.Good, tmp_path: Path
) -> None:
    path = tmp_path / good.name
    good.make(path)
    found = decode(path, 16)
    assert found.pixels.shape == (16, 24, 3)
    assert (found.width, found.height) == (pictures.WIDTH, pictures.HEIGHT)
    assert_shows(found, good.shows, good.tolerance + 2)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations_are_turned_upright(orientation: int, format: str) -> None:
    data = pictures.oriented(orientation, format)
    for at_least, shape in ((1000, (64, 96, 3)), (16, (16, 24, 3))):
        found = decode(in_memory(data), at_least)
        assert found.pixels.shape == shape
        assert (found.width, found.height) == (96, 64)
        assert_shows(found, pictures.QUARTERS, 8)


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 77
    found = decoded(pictures.quarters(), "PNG", exif=exif)
    assert_shows(found, pictures.QUARTERS, 0)


def test_an_srgb_profile_changes_no_pixel_and_costs_no_transform() -> None:
    profile = pictures.srgb_profile()
    photo = pictures.photograph()
    plain = decoded(photo, "PNG")
    tagged = decoded(photo, "PNG", icc_profile=profile)
    assert np.array_equal(plain.pixels, tagged.pixels)
    assert _to_srgb_transform(profile, "RGB") is None


def test_a_profile_is_judged_by_what_it_does_and_not_by_its_name() -> None:
    profile = pictures.swapped_rgb_profile()
    assert b"sRGB" in profile
    assert _to_srgb_transform(profile, "RGB") is not None


def test_cmyk_goes_through_its_profile() -> None:
    cmyk = pictures.quarters().convert("CMYK")
    found = decoded(cmyk, "TIFF", icc_profile=pictures.inky_cmyk_profile())
    inks = np.asarray(cmyk, float)[[16, 16, 48, 48], [24, 72, 24, 72]].sum(axis=1) / 255
    # L* of the profile, to linear light (CIE 1976), to sRGB (IEC 61966-2-1)
    light = ((100 - 25 * inks + 16) / 116) ** 3
    grey = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(pictures.corners(found.pixels) - grey[:, None]).max() <= 3


def test_a_jpeg_in_cmyk_goes_through_its_profile_the_right_way_round() -> None:
    found = decoded(
        Image.new("CMYK", (32, 32), (0, 0, 0, 0)),
        "JPEG",
        icc_profile=pictures.inky_cmyk_profile(),
    )
    assert found.pixels.min() >= 252  # no ink is white paper


def test_a_transparent_palette_entry_shows_white() -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (20, 0, 40, 40))
    found = decoded(image, "PNG", transparency=0)
    assert found.pixels[20, 5].tolist() == [255, 255, 255]
    assert found.pixels[20, 35].tolist() == [0, 0, 255]


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    found = decoded(Image.new("RGBA", (8, 8), (200, 0, 100, 128)), "PNG")
    assert np.abs(found.pixels.astype(int) - (227, 127, 177)).max() <= 1


def test_the_colour_of_transparent_pixels_does_not_bleed_in_when_a_picture_is_reduced() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[::2] = (0, 0, 255, 255)
    pixels[1::2] = (0, 255, 0, 0)  # green that nobody sees
    found = decoded(Image.fromarray(pixels), "PNG", at_least=16)
    assert np.abs(found.pixels.astype(int) - (127, 127, 255)).max() <= 2


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    for format in ("PNG", "TIFF"):
        found = decoded(Image.fromarray(ramp), format).pixels[..., 0]
        assert found.ravel().tolist() == (ramp >> 8).ravel().tolist()


def test_one_value_of_16_bit_grey_can_stand_for_transparent() -> None:
    values = np.full((8, 8), 30_000, np.uint16)
    values[:4] = 20_000
    found = decoded(Image.fromarray(values), "PNG", transparency=20_000)
    assert found.pixels[0, 0].tolist() == [255] * 3
    assert found.pixels[7, 7].tolist() == [30_000 >> 8] * 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # a share of white
        ([0.0, 100.0, 255.0], [0, 100, 255]),  # 8 bits kept as floats
        ([0.0, 32767.5, 65535.0], [0, 128, 255]),  # 16 bits kept as floats
        ([-10.0, 0.0, 10.0], [0, 128, 255]),  # no known range
        ([np.nan, 0.5, 1.0], [0, 128, 255]),
        ([-np.inf, 0.5, np.inf], [0, 128, 255]),
        ([3e38, 3e38, 3e38], [255, 255, 255]),
    ],
)
def test_floats_are_scaled_by_the_range_that_they_show(
    values: list[float], expected: list[int]
) -> None:
    image = Image.fromarray(np.asarray([values], np.float32))
    assert decoded(image, "TIFF").pixels[0, :, 0].tolist() == expected


# Sizes


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    at_least=st.integers(1, 400),
    format=st.sampled_from(["JPEG", "PNG"]),
)
def test_the_shorter_side_stays_within_its_bounds_and_the_shape_is_kept(
    width: int, height: int, at_least: int, format: str
) -> None:
    found = decoded(Image.new("RGB", (width, height), pictures.BLUE), format, at_least)
    rows, columns, _ = found.pixels.shape
    shorter = min(width, height)
    assert (found.width, found.height) == (width, height)
    assert min(rows, columns) >= min(at_least, shorter)
    assert min(rows, columns) < 2 * at_least or shorter <= min(rows, columns) == 1
    if shorter <= at_least:
        assert (rows, columns) == (height, width)
    factor = width / columns
    assert abs(height / rows - factor) <= factor * factor / min(rows, columns) + 1e-9


def test_a_reduced_photograph_looks_like_the_whole_one() -> None:
    photo = pictures.photograph().resize((1280, 854))
    whole = decoded(photo, "JPEG", 2000, quality=95).pixels
    reduced = decoded(photo, "JPEG", 210, quality=95).pixels
    assert reduced.shape == (214, 320, 3)
    expected = np.asarray(Image.fromarray(whole).reduce(4), int)
    assert np.abs(reduced - expected).mean() < 1.5


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "HEIF"])
def test_a_picture_of_one_pixel_is_a_picture(format: str) -> None:
    found = decoded(Image.new("RGB", (1, 1), (200, 40, 40)), format, 224)
    assert found.pixels.shape == (1, 1, 3)
    assert np.abs(found.pixels[0, 0].astype(int) - (200, 40, 40)).max() <= 8


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_panorama_of_30000_by_500_is_a_picture(format: str) -> None:
    image = pictures.quarters(30_000, 500)
    found = decoded(image, format, 224)
    assert found.pixels.shape == (250, 15_000, 3)
    assert (found.width, found.height) == (30_000, 500)
    assert_shows(found, pictures.QUARTERS, 3)


# Pictures that are in memory already


def test_pillow_images_are_decoded_like_files_and_left_as_they_were() -> None:
    with Image.open(io.BytesIO(pictures.oriented(6))) as image:
        size, mode = image.size, image.mode
        found = decode(image, 16)
        assert (image.size, image.mode) == (size, mode)
    assert found.pixels.shape == (16, 24, 3)
    assert_shows(found, pictures.QUARTERS, 8)
    assert (found.width, found.height, found.format) == (96, 64, "JPEG")


def test_a_pillow_image_that_turns_out_to_be_broken_is_named_so() -> None:
    data = pictures.cut(pictures.encoded(pictures.photograph(), "PNG"))
    with (
        Image.open(io.BytesIO(data)) as image,
        pytest.raises(PictureError, match="the PNG is cut short"),
    ):
        decode(image, 16)


def test_arrays_are_taken_as_upright_srgb() -> None:
    pixels = np.asarray(pictures.quarters())
    assert np.array_equal(decode(pixels, 1000).pixels, pixels)
    assert np.array_equal(decode(pixels[:, ::-1], 1000).pixels, pixels[:, ::-1])
    assert decode(pixels, 16).pixels.shape == (16, 24, 3)
    grey = np.full((5, 7), 9, np.uint8)
    assert decode(grey, 1000).pixels.tolist() == np.full((5, 7, 3), 9).tolist()
    seen = decode(np.asarray(pictures.with_alpha()), 1000)
    assert_shows(seen, (pictures.WHITE, *pictures.QUARTERS[1:]), 0)
    assert seen.format is None


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(16, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array: np.ndarray) -> None:
    with pytest.raises(PictureError, match="is not a picture; give uint8 of shape"):
        decode(array, 16)


def test_at_least_one_pixel_must_be_asked_for() -> None:
    with pytest.raises(ValueError, match="at_least must be 1 or more, not 0"):
        decode(np.zeros((4, 4, 3), np.uint8), 0)


# Files that cannot be used


@pytest.mark.parametrize("bad", pictures.BAD, ids=lambda bad: bad.name)
def test_every_bad_file_is_refused_with_a_reason_and_in_silence(
    bad: pictures.Bad, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / bad.name
    bad.make(path)
    with pytest.raises(PictureError, match=bad.says) as refused:
        decode(path, 224)
    assert refused.value.stage == bad.stage
    assert "\n" not in refused.value.reason
    assert capfd.readouterr() == ("", "")


def test_a_picture_of_too_many_pixels_is_refused_with_both_numbers_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = Image.new("L", (1000, 800))
    monkeypatch.setenv("EMBEDSEARCH_MAX_PIXELS", "799999")
    with pytest.raises(PictureError, match=r"800,000 .* 799,999; set EMBEDSEARCH_MAX_PIXELS"):
        decoded(image, "PNG", 100)
    monkeypatch.setenv("EMBEDSEARCH_MAX_PIXELS", "800000")
    assert decoded(image, "PNG", 100).pixels.shape == (100, 125, 3)


def test_only_pixels_that_are_held_in_memory_count_against_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = Image.new("RGB", (1600, 1600))
    monkeypatch.setenv("EMBEDSEARCH_MAX_PIXELS", "40000")
    assert decoded(image, "JPEG", 200).pixels.shape == (200, 200, 3)
    with pytest.raises(PictureError, match="2,560,000 pixels in memory"):
        decoded(image, "JPEG", 200, progressive=True)


@pytest.mark.parametrize("said", ["many", "0", "-5", "1e9"])
def test_a_limit_that_is_no_number_is_a_named_error_and_no_fault_of_the_picture(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDSEARCH_MAX_PIXELS", said)
    with pytest.raises(EmbedSearchError, match="must be a whole number of pixels") as wrong:
        decoded(pictures.quarters(), "PNG")
    assert not isinstance(wrong.value, PictureError)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_broken_exif_block_costs_only_itself(
    format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x0f\x01\x02\0\xff\xff\xff\x7f\x00\xff\xff\xff" * 3
    if format == "TIFF":
        data = bytearray(pictures.encoded(pictures.quarters(), format, description="x" * 40))
        at = data.index(b"\x0e\x01\x02\0")  # the tag of the description: its length made absurd
        data[at + 4 : at + 8] = b"\xff\xff\xff\x7f"
        found = decode(in_memory(bytes(data)), 1000)
    else:
        found = decoded(pictures.quarters(), format, exif=exif, quality=95, lossless=True)
    assert_shows(found, pictures.QUARTERS, 4)
    assert found.taken_at is None
    assert capfd.readouterr() == ("", "")


@lru_cache
def small_files() -> tuple[bytes, ...]:
    photo = pictures.photograph().resize((40, 28))
    return tuple(
        pictures.encoded(photo, format, **options)
        for format, options in (
            ("JPEG", {"exif": b"Exif\0\0" + pictures.oriented(6, "TIFF")[:200]}),
            ("JPEG", {"progressive": True, "icc_profile": pictures.srgb_profile()}),
            ("PNG", {"icc_profile": pictures.swapped_rgb_profile()}),
            ("WEBP", {}),
            ("WEBP", {"lossless": True}),
            ("GIF", {}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "jpeg"}),
            ("AVIF", {}),
        )
    )


def assert_picture_or_picture_error(data: bytes) -> None:
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EMBEDSEARCH_MAX_PIXELS", "1000000")  # made-up sizes take their time
            found = decode(in_memory(data), 16)
    except PictureError as refused:
        assert refused.stage == "decode"
        return
    rows, columns, channels = found.pixels.shape
    assert rows >= 1 and columns >= 1 and channels == 3
    assert found.width >= columns and found.height >= rows
    assert found.pixels.dtype == np.uint8
    json.dumps(found.exif, allow_nan=False)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_a_damaged_file_is_a_picture_or_a_picture_error_and_nothing_else(
    data: st.DataObject,
) -> None:
    sound = bytearray(data.draw(st.sampled_from(small_files())))
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(sound) - 1))
        sound[at] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(sound)), st.integers(1, len(sound))))
    assert_picture_or_picture_error(bytes(sound[:length]))


@settings(deadline=None, max_examples=200)
@given(
    start=st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"II*\0",
            b"MM\0*",
            b"RIFF\x40\0\0\0WEBPVP8 ",
            b"\0\0\0\x18ftypavif",
            b"\0\0\0\x18ftypheic",
        ]
    ),
    rest=st.binary(min_size=1, max_size=300),
)
def test_random_bytes_are_a_picture_or_a_picture_error_and_nothing_else(
    start: bytes, rest: bytes
) -> None:
    assert_picture_or_picture_error(start + rest)


# EXIF


def test_the_date_place_and_camera_are_read_from_exif() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera & Co \0\0"
    exif[ExifTags.Base.Model] = "X-1"
    exif[ExifTags.Base.Orientation] = 3
    exif[ExifTags.Base.DateTime] = "2024:02:03 04:05:06"
    shot = exif.get_ifd(ExifTags.IFD.Exif)
    shot[ExifTags.Base.DateTimeOriginal] = "2019:07:31 23:59:58"
    shot[ExifTags.Base.OffsetTimeOriginal] = "-03:30"
    shot[ExifTags.Base.ExposureTime] = IFDRational(1, 250)
    shot[ExifTags.Base.FNumber] = IFDRational(0, 0)  # not a number
    shot[ExifTags.Base.ISOSpeedRatings] = 400
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "S"
    place[ExifTags.GPS.GPSLatitude] = (33.0, 51.0, 36.0)
    place[ExifTags.GPS.GPSLongitudeRef] = "E"
    place[ExifTags.GPS.GPSLongitude] = (151.0, 12.0, 0.0)
    place[ExifTags.GPS.GPSAltitude] = IFDRational(585, 10)
    for format in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF"):
        block = exif.tobytes() if format in ("TIFF", "HEIF") else exif  # each wants its own
        found = decoded(pictures.quarters(), format, exif=block)
        assert found.taken_at == "2019-07-31T23:59:58-03:30", format
        expected = {
            "make": "Camera & Co",
            "model": "X-1",
            "orientation": 3,
            "exposure_time": 0.004,
            "iso": 400,
            "latitude": -33.86,
            "longitude": 151.2,
            "altitude": 58.5,
        }
        if format in ("TIFF", "HEIF"):  # Pillow has turned it, and forgotten how it was stored
            del expected["orientation"]
        assert found.exif == expected, format
        json.dumps(found.exif, allow_nan=False)


def test_a_picture_without_exif_has_no_date_and_no_fields() -> None:
    found = decoded(pictures.quarters(), "JPEG")
    assert found.taken_at is None
    assert found.exif == {}


# Threads, memory, imports


def test_many_threads_decode_at_once_and_get_what_one_gets(tmp_path: Path) -> None:
    paths = []
    for good in pictures.GOOD:
        paths.append(tmp_path / good.name)
        good.make(paths[-1])
    alone = [decode(path, 24).pixels for path in paths]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda path: decode(path, 24).pixels, paths * 6))
    for at, found in enumerate(together):
        assert np.array_equal(found, alone[at % len(paths)]), paths[at % len(paths)].name


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_large_bitmaps_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (8000, 8000), 100).save(path, compress_level=1)  # 64 MB a bitmap
    found = run_python(
        """
import pathlib, re, sys
from concurrent.futures import ThreadPoolExecutor
from embedsearch.images.decode import decode

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024

decode(sys.argv[1], 200)
one = peak()
with ThreadPoolExecutor(6) as threads:
    list(threads.map(lambda _: decode(sys.argv[1], 200), range(6)))
print(one, peak())
""",
        str(path),
    )
    one, six = map(float, found.stdout.split())
    assert one > 64  # the bitmap did exist
    assert six < one + 50


def test_pillow_and_libtiff_write_nothing_to_stderr(tmp_path: Path) -> None:
    data = bytearray(pictures.encoded(pictures.photograph(), "TIFF", compression="tiff_lzw"))
    data[2000:2600] = bytes(600)
    (tmp_path / "damaged.tif").write_bytes(data)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x0f\x01\x02\0\xff\0\0\0\x00\xff\xff\xff" * 3
    Image.new("RGB", (9, 9)).save(tmp_path / "exif.jpg", exif=exif)
    absurd = bytearray(pictures.deep_rgb_tiff())
    absurd[10 + 6 * 12 + 8] = 250  # samples a pixel
    (tmp_path / "absurd.tif").write_bytes(absurd)
    found = run_python(
        """
import sys
from embedsearch.errors import PictureError
from embedsearch.images.decode import decode
for path in sys.argv[1:]:
    try:
        print(decode(path, 100).pixels.shape)
    except PictureError as refused:
        print(refused)
""",
        str(tmp_path / "damaged.tif"),
        str(tmp_path / "exif.jpg"),
        str(tmp_path / "absurd.tif"),
    )
    damaged, exif_only, absurd_too = found.stdout.splitlines()
    assert "the TIFF is damaged" in damaged
    assert exif_only == "(9, 9, 3)"
    assert "the TIFF is damaged" in absurd_too
    assert found.stderr == ""


def test_parts_that_few_pictures_need_are_imported_only_for_those(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    (tmp_path / "b.heic").write_bytes(pictures.encoded(Image.new("RGB", (9, 9)), "HEIF"))
    found = run_python(
        """
import sys
from embedsearch.images.decode import decode
decode(sys.argv[1], 9)
rare = {"pillow_heif", "PIL.ImageCms", "PIL.AvifImagePlugin", "PIL.WebPImagePlugin"}
print(sorted(rare & set(sys.modules)))
decode(sys.argv[2], 9)
print("pillow_heif" in sys.modules)
""",
        str(tmp_path / "a.jpg"),
        str(tmp_path / "b.heic"),
    )
    assert found.stdout.split("\n")[:2] == ["[]", "True"]


def test_read_then_decode_uses_the_bytes_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(pictures.encoded(pictures.quarters(), "PNG"))
    file = read(path)
    path.unlink()
    assert_shows(decode(file, 1000), pictures.QUARTERS, 0)


def test_threads_are_not_held_up_by_the_lock_after_a_failure() -> None:
    data = pictures.cut(pictures.encoded(Image.new("L", (5000, 4000), 7), "PNG"), 0.5)
    for _ in range(2):
        with pytest.raises(PictureError, match="cut short"):
            decode(in_memory(data), 100)
    done = threading.Event()
    threading.Thread(
        target=lambda: (decoded(Image.new("L", (5000, 4000), 7), "PNG", 100), done.set())
    ).start()
    assert done.wait(30)
