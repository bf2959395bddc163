"""What a picture's EXIF block tells: which way is up, when and where it was taken, by what."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from PIL import ExifTags, Image

T = TypeVar("T")

_DATE = re.compile(r"\s*(\d{4})[:\-/.](\d{2})[:\-/.](\d{2})[ T](\d{2}):(\d{2}):(\d{2})")
_OFFSET = re.compile(r"\s*(?:Z|([+-])(\d{2}):?(\d{2}))\s*\0*\s*$")

# (date, its offset from UTC), best first. The date of the shot is worth more than that of the
# scan, and that more than the file's last edit.
_DATES = (
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized),
    (ExifTags.Base.DateTime, ExifTags.Base.OffsetTime),
)


class Exif(NamedTuple):
    """The parts of an EXIF block that are of use; every part is safe to write as JSON."""

    orientation: int
    """1 to 8: how the stored rows must be turned to stand upright."""
    taken_at: str | None
    """ISO 8601; local time, with the offset from UTC where the block gives it."""
    fields: Mapping[str, Any]
    """Some of make, model, lens, description, orientation, f_number, exposure_time (seconds),
    iso, focal_length (mm), latitude, longitude (degrees, north and east positive) and altitude
    (metres above sea level)."""


def read_exif(image: Image.Image) -> Exif:
    """Read the EXIF block of an opened picture.

    A missing or broken block tells nothing, and the picture counts as upright.
    """
    info = image.info
    if not (
        "exif" in info
        or "xmp" in info
        or "XML:com.adobe.xmp" in info
        or "Raw profile type exif" in info
        or hasattr(image, "tag_v2")
    ):
        return Exif(1, None, {})
    # Parsers of third-party blocks raise nearly anything; nothing in them is worth losing the
    # picture for, nor one of their parts for another.
    exif = _attempt(image.getexif)
    if exif is None:
        return Exif(1, None, {})
    shot = _attempt(lambda: exif.get_ifd(ExifTags.IFD.Exif)) or {}
    place = _attempt(lambda: exif.get_ifd(ExifTags.IFD.GPSInfo)) or {}
    orientation = _attempt(lambda: int(exif.get(ExifTags.Base.Orientation, 1)))
    if orientation is None or not 1 <= orientation <= 8:
        orientation = 1
    tags: dict[int, Any] = dict(shot)
    for tag in (*_TEXTS, ExifTags.Base.DateTime):
        if tag not in tags:
            tags[tag] = _attempt(lambda tag=tag: exif.get(tag))  # type: ignore[misc]
    fields = _fields(tags, place)
    if orientation != 1:
        fields["orientation"] = orientation
    return Exif(orientation, taken_at(tags), fields)


def taken_at(tags: Mapping[int, Any]) -> str | None:
    """The first believable date among the EXIF tags as ISO 8601, or ``None``.

    Cameras without a set clock write zeros, blanks or text; those count as no date.
    """
    for date_tag, offset_tag in _DATES:
        found = _DATE.match(_text(tags.get(date_tag)) or "")
        if not found:
            continue
        try:
            moment = datetime.fromisoformat("{}-{}-{}T{}:{}:{}".format(*found.groups()))
        except ValueError:
            continue
        if moment.year < 1800:  # older than photography: a clock that was never set
            continue
        return moment.isoformat() + _offset(_text(tags.get(offset_tag)) or "")
    return None


def _offset(text: str) -> str:
    found = _OFFSET.match(text)
    if not found:
        return ""
    sign, hours, minutes = found.groups()
    if sign is None:
        return "+00:00"
    return f"{sign}{hours}:{minutes}" if int(hours) <= 14 and int(minutes) < 60 else ""


_TEXTS: dict[int, str] = {
    ExifTags.Base.Make: "make",
    ExifTags.Base.Model: "model",
    ExifTags.Base.LensModel: "lens",
    ExifTags.Base.ImageDescription: "description",
}
_NUMBERS: dict[int, str] = {
    ExifTags.Base.FNumber: "f_number",
    ExifTags.Base.ExposureTime: "exposure_time",
    ExifTags.Base.ISOSpeedRatings: "iso",
    ExifTags.Base.FocalLength: "focal_length",
}


def _fields(tags: Mapping[int, Any], place: Mapping[int, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tag, name in _TEXTS.items():
        if text := _text(tags.get(tag)):
            found[name] = text
    for tag, name in _NUMBERS.items():
        value = _number(tags.get(tag))
        if value is not None:
            found[name] = value
    latitude = _degrees(place.get(ExifTags.GPS.GPSLatitude), 90)
    longitude = _degrees(place.get(ExifTags.GPS.GPSLongitude), 180)
    if latitude is not None and longitude is not None:
        south = _text(place.get(ExifTags.GPS.GPSLatitudeRef)) == "S"
        west = _text(place.get(ExifTags.GPS.GPSLongitudeRef)) == "W"
        found["latitude"] = -latitude if south else latitude
        found["longitude"] = -longitude if west else longitude
    altitude = _number(place.get(ExifTags.GPS.GPSAltitude))
    if altitude is not None:
        below = place.get(ExifTags.GPS.GPSAltitudeRef) in (1, b"\x01")
        found["altitude"] = -altitude if below else altitude
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    # Writers pad with zeros and blanks; a lone surrogate could not be written as JSON.
    value = value.split("\0", 1)[0].strip().encode("utf-8", "replace").decode()
    return value[:1000] or None


def _number(value: Any) -> float | int | None:
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, int):
        return value
    number = _attempt(lambda: float(value))
    return round(number, 9) if number is not None and math.isfinite(number) else None


def _degrees(value: Any, most: int) -> float | None:
    """Degrees, minutes and seconds as one number; ``None`` unless it is from 0 to ``most``."""
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    parts = [_number(part) for part in value]
    if any(part is None for part in parts):
        return None
    degrees, minutes, seconds = (float(part) for part in parts if part is not None)
    total = degrees + minutes / 60 + seconds / 3600
    return round(total, 7) if 0 <= total <= most else None


def _attempt(action: Callable[[], T]) -> T | None:
    try:
        return action()
    except Exception:
        return None
