"""A small folder of pictures for ``demo``, made of what installed libraries bring along.

The photos are those that scikit-image, scikit-learn and matplotlib ship as examples; the rest is
drawn. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.errors import MissingExtraError, OutputError

if TYPE_CHECKING:
    from PIL.Image import Image

_EXIF_ORIENTATION, _EXIF_DATE, _EXIF_FOLDER, _EXIF_TAKEN = 274, 306, 34665, 36867

_FOLDERS = {
    "skimage": "data",
    "sklearn": "datasets/images",
    "matplotlib": "mpl-data/sample_data",
}
"""Where a library keeps its example photos."""

_PHOTOS = (
    ("animals/cat.jpg", "skimage", "chelsea.png", "2015:02:14 16:20:00"),
    ("animals/horse.png", "skimage", "horse.png", None),
    ("people/astronaut.jpg", "skimage", "astronaut.png", "1999:06:01 10:00:00"),
    ("people/grace hopper.jpg", "matplotlib", "grace_hopper.jpg", "1984:01:20 09:30:00"),
    ("people/cameraman.png", "skimage", "camera.png", None),
    ("food/coffee.jpg", "skimage", "coffee.png", "2013:11:09 08:15:00"),
    ("travel/pagoda.jpg", "sklearn", "china.jpg", "2006:10:03 14:00:00"),
    ("garden/dahlia.jpg", "sklearn", "flower.jpg", "2007:09:01 12:00:00"),
    ("garage/motorcycle left.jpg", "skimage", "motorcycle_left.png", "2014:07:07 11:00:00"),
    ("garage/motorcycle right.jpg", "skimage", "motorcycle_right.png", "2014:07:07 11:00:01"),
    ("space/rocket.jpg", "skimage", "rocket.jpg", "2014:12:30 05:40:00"),
    ("space/hubble.jpg", "skimage", "hubble_deep_field.jpg", None),
    ("space/moon.png", "skimage", "moon.png", None),
    ("science/retina.jpg", "skimage", "retina.jpg", None),
    ("science/tissue.jpg", "skimage", "ihc.png", None),
    ("things/coins.png", "skimage", "coins.png", None),
    ("things/gift.png", "matplotlib", "Minduka_Present_Blue_Pack.png", None),
    ("patterns/colour wheel.png", "skimage", "color.png", None),
    ("patterns/brick.jpg", "skimage", "brick.png", None),
    ("patterns/grass.jpg", "skimage", "grass.png", None),
    ("patterns/gravel.jpg", "skimage", "gravel.png", None),
    ("documents/book page.png", "skimage", "page.png", None),
    ("documents/handwriting.png", "skimage", "text.png", None),
)
"""Our name, library, its file, EXIF date."""


@dataclass(frozen=True, slots=True)
class _Picture:
    name: str
    """Relative to the demo folder; the suffix tells the format."""
    image: Image
    taken_at: str | None = None
    """EXIF date, ``YYYY:MM:DD HH:MM:SS``."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""


def make_pictures(folder: Path) -> list[Path]:
    """Fill ``folder`` with about fifty small pictures and give their paths, sorted.

    Two are broken on purpose, in ``broken/``. A file that is there with the same bytes is left as
    it is, so a second call changes nothing. Raises
    :class:`~embedsearch.errors.MissingExtraError` where a library that brings photos is missing.
    """
    made = []
    for name, content in _contents():
        path = folder / name
        write_if_other(path, content)
        made.append(path)
    return sorted(made)


def write_if_other(path: Path, content: bytes) -> None:
    """Write a file, unless it is there with these very bytes. Raises
    :class:`~embedsearch.errors.OutputError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
    except OSError as error:
        raise OutputError(
            f"Cannot write the demo picture {path}: {error.strerror}. "
            "Name a folder of your own with --out."
        ) from error


def _contents() -> Iterator[tuple[str, bytes]]:
    for picture in chain(_photos(), _drawn(), _edits()):
        yield picture.name, _encoded(picture)
    whole = _encoded(_Picture("coffee.jpg", open_example("skimage", "coffee.png")))
    yield "broken/truncated.jpg", whole[: len(whole) // 3]
    yield "broken/notes.jpg", b"This is a text file that was named .jpg by mistake.\n"


def _photos() -> Iterator[_Picture]:
    for name, library, file, taken_at in _PHOTOS:
        yield _Picture(name, open_example(library, file), taken_at)


def _drawn() -> Iterator[_Picture]:
    from embedsearch.commands.demo_drawings import drawings

    for name, image in drawings():
        yield _Picture(name, image)


def _edits() -> Iterator[_Picture]:
    """Crops, copies and other formats of the photos, for ``similar`` to find."""
    from PIL import ImageEnhance, ImageOps
    from PIL.Image import Transpose

    cat, coffee = open_example("skimage", "chelsea.png"), open_example("skimage", "coffee.png")
    pagoda, dahlia = open_example("sklearn", "china.jpg"), open_example("sklearn", "flower.jpg")
    astronaut, rocket = (
        open_example("skimage", "astronaut.png"),
        open_example("skimage", "rocket.jpg"),
    )

    # As a phone held upright writes it: the pixels lie on their side, a tag says how to turn them.
    on_its_side = cat.transpose(Transpose.ROTATE_90)
    yield _Picture("phone/IMG_0001.jpg", on_its_side, "2015:02:14 16:20:05", orientation=6)
    yield _Picture("phone/IMG_0002.heic", pagoda.resize((480, 320)), "2006:10:03 14:00:07")
    yield _Picture("phone/IMG_0003.avif", dahlia)
    yield _Picture("phone/IMG_0004.webp", coffee)
    yield _Picture("animals/cat face.jpg", cat.crop((120, 20, 380, 280)))
    yield _Picture("food/coffee (copy).jpg", coffee, "2013:11:09 08:15:00")
    yield _Picture("food/coffee small.jpg", coffee.resize((240, 160)))
    yield _Picture("food/coffee bright.png", ImageEnhance.Brightness(coffee).enhance(1.25))
    yield _Picture("travel/pagoda grey.jpg", ImageOps.grayscale(pagoda))
    yield _Picture("travel/pagoda roof.png", pagoda.crop((60, 20, 330, 230)))
    yield _Picture("garden/dahlia mirrored.gif", ImageOps.mirror(dahlia))
    yield _Picture("space/shuttle model.jpg", astronaut.crop((330, 0, 512, 250)))
    yield _Picture("people/helmet.bmp", astronaut.crop((280, 270, 512, 512)))
    yield _Picture("space/rocket at night.tiff", rocket.crop((180, 0, 460, 427)))


def open_example(library: str, file: str) -> Image:
    """An example photo that a library brings. Raises
    :class:`~embedsearch.errors.MissingExtraError`."""
    from PIL import Image

    # Found without importing the library, which would take seconds.
    spec = importlib.util.find_spec(library)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / _FOLDERS[library] / file
        if path.is_file():
            with Image.open(path) as image:
                image.load()
            return image
    raise MissingExtraError(f"embedsearch demo (for the photo {file} of {library})", "demo")


def _encoded(picture: _Picture) -> bytes:
    """The bytes of a picture file; the same at every call."""
    from PIL import Image

    image, suffix = picture.image, Path(picture.name).suffix
    options: dict[str, Any] = {
        ".jpg": {"quality": 88},
        ".webp": {"quality": 85},
        ".avif": {"quality": 75, "max_threads": 1},
        ".heic": {"quality": 75},
    }.get(suffix, {})
    if suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if picture.taken_at is not None or picture.orientation != 1:
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = picture.orientation
        if picture.taken_at is not None:
            exif[_EXIF_DATE] = picture.taken_at
            exif.get_ifd(_EXIF_FOLDER)[_EXIF_TAKEN] = picture.taken_at
        options = options | {"exif": exif.tobytes()}
    stream = io.BytesIO()
    image.save(stream, Image.registered_extensions()[suffix], **options)
    return stream.getvalue()
