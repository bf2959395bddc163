"""``cluster``: groups of pictures that are alike, with names."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import html_file, print_json, show_gallery, thumbnail_of

if TYPE_CHECKING:
    from embedsearch.index import Index
    from embedsearch.records import ClusterReport

SHOWN, FEWEST, IN_ALL = 24, 6, 1500
"""Pictures of each cluster in the gallery, and at least how many where there are so many clusters
that they would be more than so many in all: a browser shows these at once."""
IN_STRIP = 8
"""Pictures of each cluster on the contact sheet."""


class MethodChoice(StrEnum):
    kmeans = "kmeans"
    density = "density"


def cluster(
    method: Annotated[
        MethodChoice | None,
        typer.Option(
            help="kmeans (the default) puts every picture into a cluster; density leaves out those "
            "that are like few others, and finds smaller clusters.",
        ),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option(
            "--clusters",
            "-n",
            metavar="N",
            min=1,
            help="kmeans: how many clusters. Default: chosen by how well they are apart.",
        ),
    ] = None,
    folder: options.IndexFolder = None,
    where: options.Where = None,
    encoder: options.Encoder = None,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="Make the clusters anew, also where nothing else is asked."),
    ] = False,
    as_json: options.Json = False,
    html: options.Html = None,
    open_html: options.OpenHtml = False,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet", metavar="FILE", help="Write a contact sheet of all clusters (PNG)."
        ),
    ] = None,
    wait: options.Wait = 0.0,
) -> None:
    """Group pictures that are alike, and name the groups. Kept in the index.

    The first run makes clusters. Later ones add the pictures that came since, and leave numbers
    and names alone; with --anew, or where another method, number, filter or encoder is asked for,
    the clusters are made anew, and those that stay mostly the same keep their number and name.

    search, duplicates and the like filter by them: --where "cluster = 3". export tells them.

    \b
    Examples:
      embedsearch cluster
      embedsearch cluster --html clusters.html --open
      embedsearch cluster -n 20 --sheet clusters.png
      embedsearch cluster --method density --json
      embedsearch cluster --anew --where "folder like '%/2023%'"
    """
    html_file(html, open_html)
    if clusters is not None and method is MethodChoice.density:
        raise typer.BadParameter("--clusters belongs to kmeans; density finds the number itself")
    from embedsearch.index import Index

    with Index(folder) as opened:
        found = opened.cluster(
            clusters,
            method=None if method is None else method.value,
            where=where,
            encoder=encoder,
            anew=anew,
            wait_seconds=wait,
        )
        if html is not None:
            write_cluster_gallery(opened, found, html)
        if sheet is not None:
            write_cluster_sheet(opened, found, sheet)
    _print(found, as_json)
    if sheet is not None:
        print(f"Contact sheet: {sheet}", file=sys.stderr)
    if html is not None:
        show_gallery(html, open_html)


def _print(found: ClusterReport, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "clusters": [asdict(one) for one in found.clusters],
                "unclustered": found.unclustered,
            }
        )
        return
    from embedsearch.render.clusters import clusters_table
    from embedsearch.render.table import show

    if found.clusters:
        show(clusters_table(found.clusters))
    print(_summary(found), file=sys.stderr)


def _summary(found: ClusterReport) -> str:
    from embedsearch.render.wording import counted

    made = "made anew" if found.anew else f"{counted(found.added, 'picture')} added"
    left = f"; {counted(found.unclustered, 'picture')} in none" if found.unclustered else ""
    only = f", of pictures where {found.where}" if found.where else ""
    known = sum(one.size for one in found.clusters) - found.added
    hint = " Most are new: --anew makes clusters that fit them." if found.added > known else ""
    return f"{counted(len(found.clusters), 'cluster')} ({found.method}{only}), {made}{left}." + (
        "" if found.anew else hint
    )


def write_cluster_gallery(index: Index, found: ClusterReport, out: Path) -> None:
    """One section a cluster: the medoid, then those most like the whole cluster."""
    from embedsearch.render.gallery import Card, Section, write_sections

    thumbnails = index.thumbnails()
    shown = max(FEWEST, min(SHOWN, IN_ALL // max(1, len(found.clusters))))
    sections = []
    for one in found.clusters:
        pictures = index.cluster_pictures(one.cluster, shown)
        sizes = index.sizes([path for path, _ in pictures])
        cards = [
            Card(
                path=path,
                rank=rank,
                score=cosine,
                thumbnail=thumbnail_of(thumbnails, path),
                width=sizes[path][0],
                height=sizes[path][1],
            )
            for rank, (path, cosine) in enumerate(pictures, 1)
        ]
        more = one.size - len(cards)
        note = f"{len(cards)} of {one.size:,} pictures" if more else ""
        sections.append(Section(f"{one.cluster}. {one.name}", cards, note))
    write_sections(
        out,
        sections,
        title="Clusters",
        query_summary=f"{_summary(found)} The score is the cosine with the middle of the cluster.",
        index_folder=index.folder,
    )


def write_cluster_sheet(index: Index, found: ClusterReport, out: Path) -> None:
    from embedsearch.render.clusters import Strip, write_sheet

    thumbnails = index.thumbnails()
    strips = [
        Strip(
            one.cluster,
            one.name,
            one.size,
            [
                thumbnail_of(thumbnails, path)
                for path, _ in index.cluster_pictures(one.cluster, IN_STRIP)
            ],
        )
        for one in found.clusters
    ]
    write_sheet(strips, out)
