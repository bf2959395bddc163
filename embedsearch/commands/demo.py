"""``demo``: the whole tour on pictures that it makes itself."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from embedsearch.records import Hit

QUERIES: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("a cat", ("a cat",), {"text": "a cat"}),
    ("red flower", ("red flower",), {"text": "red flower"}),
    ("exit 24, read in the picture", ("exit 24",), {"text": "exit 24"}),
    ("a tie, an object in the picture", ("--object", "a tie"), {"objects": ["a tie"]}),
    ("a motorcycle, in pictures and in a clip", ("a motorcycle",), {"text": "a motorcycle"}),
    (
        "a helicopter",
        ("a helicopter", "--min-score", "auto"),
        {"text": "a helicopter", "min_score": "auto"},
    ),
)
"""A heading, the words of the command line, and what they ask for."""


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where pictures, index and gallery go.")
    ] = Path("demo"),
    enrich: Annotated[
        str,
        typer.Option(
            "--enrich",
            metavar="none|all|STAGES",
            help="What to find in the pictures; reading words takes most of the time.",
        ),
    ] = "all",
) -> None:
    """Make a few pictures and a clip, index them, and ask by words and by example.

    \b
    Example:
      embedsearch demo --out demo
    """
    from embedsearch.commands.clustering import write_cluster_gallery, write_cluster_sheet
    from embedsearch.commands.demo_clip import make_clip
    from embedsearch.commands.demo_pictures import make_pictures
    from embedsearch.commands.output import write_hit_gallery
    from embedsearch.index import Index
    from embedsearch.render.clusters import clusters_table
    from embedsearch.render.table import hits_table, index_summary, show

    photos, folder = out / "photos", out / "index"
    made = make_pictures(photos)
    make_clip(photos)
    print(f"{len(made)} pictures, two of them broken on purpose, and a clip in {photos}.")
    sections: list[tuple[str, list[Hit]]] = []
    with Index(folder) as index:
        _say("index", photos, "--enrich", enrich, "--index", folder)
        report = index.add(photos)
        enriched = index.enrich(enrich, photos)
        show(index_summary(replace(report, stages=enriched.stages, warnings=enriched.warnings)))
        for heading, words, asked in QUERIES:
            _say("search", *words, "-k", 3, "--index", folder)
            hits = index.search(**asked, k=3)
            show(hits_table(hits)) if hits else print("Nothing matches.")
            if hits:
                sections.append((heading, hits))
        example = index.search("a cat", k=1)[0].path
        _say("similar", example, "-k", 3, "--index", folder)
        hits = index.similar(example, k=3)
        show(hits_table(hits))
        sections.append((f"Similar to {Path(example).name}", hits))
        write_hit_gallery(index, sections, "embedsearch demo", out / "gallery.html")
        clusters, sheet = out / "clusters.html", out / "clusters.png"
        _say("cluster", "--html", clusters, "--sheet", sheet, "--index", folder)
        found = index.cluster()
        show(clusters_table(found.clusters))
        write_cluster_gallery(index, found, clusters)
        write_cluster_sheet(index, found, sheet)
        drawn = index.map()
        for file in (out / "map.html", out / "map.png"):
            _say("map", "--out", file, "--index", folder)
            index.draw_map(drawn, file)
    print(f"\nOpen these in a browser, all in {out}: gallery.html, clusters.html, map.html.")
    print("Now with your own: embedsearch index ~/Pictures")


def _say(*words: object) -> None:
    print(f"\n$ embedsearch {shlex.join(str(word) for word in words)}")
    sys.stdout.flush()
