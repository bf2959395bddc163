"""Write the pictures of docs/ and of the README anew: galleries, the map and the contact sheet of
the demo's own pictures, as Chromium shows the pages on a desktop, in the dark and on a telephone.

python docs/generate_screenshots.py

Does nothing, and says so, where no Chromium is installed.
"""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image  # noqa: TID253

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import CHROMIUM, QUIET, Browser

from embedsearch.commands.demo_clip import make_clip
from embedsearch.commands.demo_pictures import make_pictures
from embedsearch.commands.output import write_hit_gallery
from embedsearch.images.decode import decode
from embedsearch.index import Index
from embedsearch.training.augment.sheet import draw_sheet

DOCS = Path(__file__).parent
EMBEDSEARCH = str(Path(sys.executable).with_name("embedsearch"))
SEEN = ("--allow-file-access-from-files", "--virtual-time-budget=5000")
MOUSE = "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
AUGMENTED = ("animals/cat.jpg", "food/coffee.jpg", "space/rocket.jpg")
FOUND: tuple[tuple[str, dict[str, Any]], ...] = (
    ("“exit 24”, read in the picture", {"text": "exit 24", "k": 2}),
    ("a tie, an object in the picture", {"objects": ["a tie"], "k": 2}),
    ("a cat, with its outline", {"text": "a cat", "k": 3}),
    ("a motorcycle, in pictures and in a clip", {"text": "a motorcycle", "k": 3}),
)
QUALITY = 82
"""Of the WebP."""
FRAME = """<body style="margin: 0">
<iframe src="{page}" style="border: 0; width: {width}px; height: {height}px"></iframe>"""
LOOK = '<script>onload = () => document.querySelectorAll(".look")[{number}].click()</script></body>'


def main() -> None:
    if CHROMIUM is None:
        sys.stderr.write("No Chromium here: the screenshots stay as they are.\n")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        make_pictures(folder / "demo/photos")
        with Index(folder / "demo/index") as index:
            index.add(folder / "demo/photos")
        cup = made(folder, "search", "coffee in a cup", "-k", "24")
        twice = made(folder, "duplicates")
        take(cup, DOCS / "gallery.webp", 1280, 800)
        take(cup, DOCS / "images/gallery-dark.webp", 1280, 800, dark=True)
        take(cup, DOCS / "images/gallery-phone.webp", 390, 800)
        take(twice, DOCS / "images/gallery-duplicates.webp", 1280, 800)
        take(looking(cup, 0), DOCS / "images/gallery-closer.webp", 1280, 800)
        sheet, page = folder / "clusters.png", folder / "map.html"
        run(folder, "cluster", "--sheet", str(sheet))
        with Image.open(sheet) as strips:
            keep(
                strips,
                DOCS / "images/clusters.webp",
                (640, round(640 * strips.height / strips.width)),
            )
        take_found(folder)
        take_augmentations(folder / "demo/photos", DOCS / "images/augmentations.webp")
        run(folder, "map", "--out", str(page))
        take_map(page, DOCS / "images/map.webp", 1280, 800)


def take_found(folder: Path) -> None:
    """A written word, an object, an outline and a track, each found by a query."""
    photos, page = folder / "demo/photos", folder / "found.html"
    make_clip(photos)
    with Index(folder / "demo/index") as index:
        index.add(photos)
        index.enrich("detect,segment,track")
        index.enrich("ocr", photos / "signs")
        sections = [(heading, index.search(**asked)) for heading, asked in FOUND]
        write_hit_gallery(index, sections, "What is in pictures", page)
    take(page, DOCS / "images/found.webp", 1280, 1500)


def take_augmentations(photos: Path, out: Path) -> None:
    """What a policy does to three of the demo's photos."""
    pictures = [decode(photos / name, 224).pixels for name in AUGMENTED]
    sheet = photos.parent / "augmentations.png"
    draw_sheet(pictures, "strong + hardy", sheet)
    with Image.open(sheet) as drawn:
        keep(drawn, out, (1100, round(1100 * drawn.height / drawn.width)))


def made(folder: Path, *command: str) -> Path:
    """The gallery that a command writes."""
    page = folder / f"{command[0]}.html"
    run(folder, *command, "--html", str(page))
    return page


def run(folder: Path, *command: str) -> None:
    """Run a command on the index of the demo's pictures."""
    subprocess.run(
        [EMBEDSEARCH, *command, "--index", "demo/index"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def looking(page: Path, number: int) -> Path:
    """The same with one picture looked at closer: a click that the page's own policy lets in."""
    text = page.read_text("utf-8")
    start = text.index("script-src 'sha256-")
    end = text.index("'", start + len("script-src '"))
    text = text.replace(f'title="{page.parent}/', 'title="/home/you/')
    text = f"{text[:start]}script-src 'unsafe-inline{text[end:]}"
    clicked = page.with_name("closer.html")
    clicked.write_text(text.replace("</body>", LOOK.format(number=number)), "utf-8")
    return clicked


def take(page: Path, out: Path, width: int, height: int, *, dark: bool = False) -> None:
    """Write ``out``. A window cannot be narrower than 500 pixels, a frame in it can."""
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(page=page.as_uri(), width=width, height=height))
    shot = page.with_name("shot.png")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                str(CHROMIUM),
                *QUIET,
                *SEEN,
                f"--user-data-dir={profile}",
                f"--window-size={max(width, 600)},{height + 100}",
                f"--blink-settings=preferredColorScheme={0 if dark else 1},{MOUSE}",
                f"--screenshot={shot}",
                frame.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    with Image.open(shot) as taken:
        keep(taken.crop((0, 0, width, height)), out, (width, height))


def take_map(page: Path, out: Path, width: int, height: int) -> None:
    """Write ``out`` once the map has its thumbnails, which it reads in its own time."""
    with Browser() as browser:
        opened = browser.open(page.as_uri(), width, height)
        opened.until("document.documentElement.dataset.pictured")
        shot = base64.b64decode(opened.call("Page.captureScreenshot")["data"])
    with Image.open(io.BytesIO(shot)) as taken:
        keep(taken, out, (width, height))


def keep(picture: Image.Image, out: Path, size: tuple[int, int]) -> None:
    """Write ``picture`` as WebP of this size."""
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(
        out, quality=QUALITY, method=6
    )
    sys.stderr.write(f"{out.relative_to(DOCS.parent)}: {out.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
