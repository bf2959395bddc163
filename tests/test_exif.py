from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from embedsearch.images.exif import Exif, read_exif, taken_at


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({306: "2001:02:03 04:05:06"}, "2001-02-03T04:05:06"),
        ({306: "2001:02:03 04:05:06", 36868: "2002:02:03 04:05:06"}, "2002-02-03T04:05:06"),
        ({36868: "2002:02:03 04:05:06", 36867: "2003:02:03 04:05:06"}, "2003-02-03T04:05:06"),
        ({36867: "0000:00:00 00:00:00", 306: "2001:02:03 04:05:06"}, "2001-02-03T04:05:06"),
        ({36867: "2003-02-03T04:05:06"}, "2003-02-03T04:05:06"),
        ({36867: b"2003:02:03 04:05:06\0"}, "2003-02-03T04:05:06"),
        ({36867: "2003:02:03 04:05:06", 36881: "+02:00"}, "2003-02-03T04:05:06+02:00"),
        ({36867: "2003:02:03 04:05:06", 36881: "Z"}, "2003-02-03T04:05:06+00:00"),
        ({36867: "2003:02:03 04:05:06", 36881: "   :  "}, "2003-02-03T04:05:06"),
        ({36867: "2003:02:03 04:05:06", 36881: "+99:00"}, "2003-02-03T04:05:06"),
        # an offset belongs to its own date only
        ({306: "2001:02:03 04:05:06", 36881: "+02:00"}, "2001-02-03T04:05:06"),
        ({36867: "    :  :     :  :  "}, None),
        ({36867: "2003:13:03 04:05:06"}, None),
        ({36867: "2003:02:30 04:05:06"}, None),
        ({36867: "0001:01:01 00:00:00"}, None),
        ({36867: "yesterday"}, None),
        ({36867: 20030203}, None),
        ({36867: None}, None),
        ({}, None),
    ],
)
def test_junk_dates_are_no_dates(tags: dict[int, object], expected: str | None) -> None:
    assert taken_at(tags) == expected


def with_exif(exif: Image.Exif | bytes) -> Image.Image:
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = exif if isinstance(exif, bytes) else exif.tobytes()
    return image


def test_a_place_beyond_the_globe_is_no_place() -> None:
    exif = Image.Exif()
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitude] = (91.0, 0.0, 0.0)
    place[ExifTags.GPS.GPSLongitude] = (10.0, 0.0, 0.0)
    assert read_exif(with_exif(exif)).fields == {}


def test_a_place_in_the_south_and_west_is_negative() -> None:
    exif = Image.Exif()
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "S"
    place[ExifTags.GPS.GPSLatitude] = (22.0, 54.0, 36.0)
    place[ExifTags.GPS.GPSLongitudeRef] = "W"
    place[ExifTags.GPS.GPSLongitude] = (43.0, 12.0, 0.0)
    place[ExifTags.GPS.GPSAltitudeRef] = b"\x01"
    place[ExifTags.GPS.GPSAltitude] = 12.5
    assert read_exif(with_exif(exif)).fields == {
        "latitude": -22.91,
        "longitude": -43.2,
        "altitude": -12.5,
    }


def test_texts_that_json_cannot_hold_are_made_harmless() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker\0 and rubbish after it"
    exif[ExifTags.Base.Model] = "   "
    exif[ExifTags.Base.ImageDescription] = "x" * 100_000
    fields = read_exif(with_exif(exif)).fields
    assert fields["make"] == "Maker"
    assert "model" not in fields
    assert len(fields["description"]) == 1000


def test_a_picture_without_a_block_has_the_defaults() -> None:
    assert read_exif(Image.new("RGB", (4, 4))) == Exif(1, None, {})


@settings(deadline=None, max_examples=300)
@given(
    body=st.binary(max_size=200),
    head=st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
)
@pytest.mark.filterwarnings("ignore:::PIL")
def test_no_block_of_any_bytes_raises_or_gives_what_json_cannot_hold(
    head: bytes, body: bytes
) -> None:
    found = read_exif(with_exif(head + body))
    assert 1 <= found.orientation <= 8
    json.dumps(found.fields, allow_nan=False).encode("ascii")
