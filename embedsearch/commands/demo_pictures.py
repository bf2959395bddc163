"""A small folder of pictures for ``demo``, made of what installed libraries bring along.

The photos are those that scikit-image, scikit-learn and matplotlib ship as examples; the rest is
drawn. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.errors import EmbedSearchError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

_EXIF_ORIENTATION, _EXIF_MAKE, _EXIF_DATE, _EXIF_FOLDER, _EXIF_TAKEN = 274, 271, 306, 34665, 36867

_PHOTOS = {
    "skimage": "data",
    "sklearn": "datasets/images",
    "matplotlib": "mpl-data/sample_data",
}


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photo of a library, saved under a name of ours."""

    name: str
    library: str
    file: str
    taken_at: str | None = None
    """EXIF date, ``YYYY:MM:DD HH:MM:SS``."""


_AS_THEY_ARE = (
    _Photo("animals/cat.jpg", "skimage", "chelsea.png", "2015:02:14 16:20:00"),
    _Photo("animals/horse.png", "skimage", "horse.png"),
    _Photo("people/astronaut.jpg", "skimage", "astronaut.png", "1999:06:01 10:00:00"),
    _Photo("people/grace hopper.jpg", "matplotlib", "grace_hopper.jpg", "1984:01:20 09:30:00"),
    _Photo("people/cameraman.png", "skimage", "camera.png"),
    _Photo("food/coffee.jpg", "skimage", "coffee.png", "2013:11:09 08:15:00"),
    _Photo("travel/pagoda.jpg", "sklearn", "china.jpg", "2006:10:03 14:00:00"),
    _Photo("garden/dahlia.jpg", "sklearn", "flower.jpg", "2007:09:01 12:00:00"),
    _Photo("garage/motorcycle left.jpg", "skimage", "motorcycle_left.png", "2014:07:07 11:00:00"),
    _Photo("garage/motorcycle right.jpg", "skimage", "motorcycle_right.png", "2014:07:07 11:00:01"),
    _Photo("space/rocket.jpg", "skimage", "rocket.jpg", "2014:12:30 05:40:00"),
    _Photo("space/hubble.jpg", "skimage", "hubble_deep_field.jpg"),
    _Photo("space/moon.png", "skimage", "moon.png"),
    _Photo("science/retina.jpg", "skimage", "retina.jpg"),
    _Photo("science/tissue.jpg", "skimage", "ihc.png"),
    _Photo("things/coins.png", "skimage", "coins.png"),
    _Photo("things/gift.png", "matplotlib", "Minduka_Present_Blue_Pack.png"),
    _Photo("patterns/colour wheel.png", "skimage", "color.png"),
    _Photo("patterns/brick.jpg", "skimage", "brick.png"),
    _Photo("patterns/grass.jpg", "skimage", "grass.png"),
    _Photo("patterns/gravel.jpg", "skimage", "gravel.png"),
    _Photo("documents/book page.png", "skimage", "page.png"),
    _Photo("documents/handwriting.png", "skimage", "text.png"),
)


def make_pictures(folder: Path) -> list[Path]:
    """Fill ``folder`` with about fifty small pictures and give their paths, sorted.

    Two are broken on purpose, in ``broken/``. A file that is there with the same bytes is left as
    it is, so a second call changes nothing. Raises
    :class:`~embedsearch.errors.MissingExtraError` where a library that brings photos is missing.
    """
    made = []
    for name, content in _contents():
        path = folder / name
        _write_if_other(path, content)
        made.append(path)
    return sorted(made)


def _write_if_other(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
    except OSError as error:
        raise EmbedSearchError(
            f"Cannot write the demo picture {path}: {error.strerror}. "
            "Name a folder of your own with --out."
        ) from error


def _contents() -> Iterator[tuple[str, bytes]]:
    from embedsearch.commands.demo_drawings import drawings

    for photo in _AS_THEY_ARE:
        image = _open(photo.library, photo.file)
        yield photo.name, _encoded(image, photo.name, taken_at=photo.taken_at)
    for name, image in drawings():
        yield name, _encoded(image, name)
    yield from _edits()
    yield from _broken()


def _edits() -> Iterator[tuple[str, bytes]]:
    """Crops, copies and other formats of the photos, for `similar` to find."""
    from PIL import ImageEnhance, ImageOps
    from PIL.Image import Transpose

    cat, coffee = _open("skimage", "chelsea.png"), _open("skimage", "coffee.png")
    pagoda, dahlia = _open("sklearn", "china.jpg"), _open("sklearn", "flower.jpg")
    astronaut, rocket = _open("skimage", "astronaut.png"), _open("skimage", "rocket.jpg")

    yield "animals/cat face.jpg", _encoded(cat.crop((120, 20, 380, 280)), ".jpg")
    # As a phone held upright writes it: the pixels lie on their side, a tag says how to turn them.
    yield (
        "phone/IMG_0001.jpg",
        _encoded(cat.transpose(Transpose.ROTATE_90), ".jpg", "2015:02:14 16:20:05", orientation=6),
    )
    yield "phone/IMG_0002.heic", _encoded(pagoda, ".heic", "2006:10:03 14:00:07")
    yield "phone/IMG_0003.avif", _encoded(dahlia, ".avif")
    yield "phone/IMG_0004.webp", _encoded(coffee, ".webp")
    yield "food/coffee (copy).jpg", _encoded(coffee, ".jpg", "2013:11:09 08:15:00")
    yield "food/coffee small.jpg", _encoded(coffee.resize((240, 160)), ".jpg")
    yield "food/coffee bright.png", _encoded(ImageEnhance.Brightness(coffee).enhance(1.25), ".png")
    yield "travel/pagoda grey.jpg", _encoded(ImageOps.grayscale(pagoda), ".jpg")
    yield "travel/pagoda roof.png", _encoded(pagoda.crop((60, 20, 330, 230)), ".png")
    yield "garden/dahlia mirrored.gif", _encoded(ImageOps.mirror(dahlia), ".gif")
    yield "space/shuttle model.jpg", _encoded(astronaut.crop((330, 0, 512, 250)), ".jpg")
    yield "people/helmet.bmp", _encoded(astronaut.crop((280, 270, 512, 512)), ".bmp")
    yield "space/rocket at night.tiff", _encoded(rocket.crop((180, 0, 460, 427)), ".tiff")


def _broken() -> Iterator[tuple[str, bytes]]:
    whole = _encoded(_open("skimage", "coffee.png"), ".jpg")
    yield "broken/truncated.jpg", whole[: len(whole) // 3]
    yield "broken/notes.jpg", b"This is a text file that was named .jpg by mistake.\n"


def _open(library: str, file: str) -> Image:
    from PIL import Image

    # Found without importing the library, which would take seconds.
    spec = importlib.util.find_spec(library)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / _PHOTOS[library] / file
        if path.is_file():
            with Image.open(path) as image:
                image.load()
            return image
    raise MissingExtraError(f"embedsearch demo (for the photo {file} of {library})", "demo")


def _encoded(
    image: Image, name: str, taken_at: str | None = None, orientation: int | None = None
) -> bytes:
    """The bytes of a picture file in the format that the suffix of ``name`` tells."""
    from PIL import Image

    suffix = Path(name).suffix if "." in name.strip(".") else name
    options: dict[str, Any] = {
        ".jpg": {"quality": 88},
        ".webp": {"quality": 85},
        ".avif": {"quality": 75, "max_threads": 1},
        ".heic": {"quality": 75},
    }.get(suffix, {})
    if suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if suffix == ".jpg" and image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    exif = Image.Exif()
    if taken_at is not None:
        exif[_EXIF_MAKE] = "embedsearch demo"
        exif[_EXIF_DATE] = taken_at
        exif.get_ifd(_EXIF_FOLDER)[_EXIF_TAKEN] = taken_at
    if orientation is not None:
        exif[_EXIF_ORIENTATION] = orientation
    if exif:
        options = options | {"exif": exif.tobytes()}
    stream = io.BytesIO()
    image.save(stream, Image.registered_extensions()[suffix], **options)
    return stream.getvalue()
