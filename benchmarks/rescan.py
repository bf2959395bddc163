"""How long does ``index`` take where nothing changed?

Ours: a fresh ``embedsearch index FOLDER`` over 100,000 pictures that are all indexed. Beside it a
fresh Python process that only walks and stats the same files. Bar: at most 2 s.

    python benchmarks/rescan.py [--files 100000] [--runs 7]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from measure import EMBEDSEARCH, interleaved, median, process, ratios, report, spread
from PIL import Image

BARE = """
import os, sys
def walk(folder):
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from walk(entry.path)
        else:
            status = entry.stat()
            yield status.st_size, status.st_mtime_ns
print(sum(1 for _ in walk(os.fsencode(sys.argv[1]))))
"""


def make_files(folder: Path, files: int) -> None:
    """Folders of 1,000 small JPEGs."""
    first = folder / "first.jpg"
    folder.mkdir()
    Image.radial_gradient("L").resize((32, 32)).convert("RGB").save(first)
    for number in range(files - 1):
        inner = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            inner.mkdir()
        shutil.copyfile(first, inner / f"{number:07d}.jpg")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--files", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=7)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        photos, index = Path(temporary) / "photos", Path(temporary) / "index"
        make_files(photos, given.files)
        again = [EMBEDSEARCH, "index", str(photos), "--index", str(index), "--json"]
        first = process(again)
        assert f'"unchanged": {given.files}' in process(again).output
        walls = interleaved(
            given.runs,
            bare=lambda: process([sys.executable, "-c", BARE, str(photos)]).wall,
            ours=lambda: process(again).wall,
        )
        peak = process(again).peak
    report(
        "rescan",
        [
            ("scandir + stat, nothing else", f"{spread(walls['bare'])} s", ""),
            ("embedsearch index", f"{spread(walls['ours'])} s", "<= 2 s"),
            ("ours / bare", f"{ratios(walls['ours'], walls['bare']):.2f}", ""),
            ("peak", f"{peak:.0f} MB", ""),
            ("first run (all copies of one picture)", f"{first.wall:.1f} s", ""),
        ],
        {
            "about": f"{given.files:,} unchanged files, median (min-max) of {given.runs}",
            "files": given.files,
            "wall_s": walls,
            "median_s": {name: median(values) for name, values in walls.items()},
            "peak_mb": peak,
            "first_run_s": first.wall,
        },
    )


if __name__ == "__main__":
    main()
