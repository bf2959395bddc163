"""``info``, ``models`` and ``export``: what is there."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import print_json


class ExportChoice(StrEnum):
    csv = "csv"
    jsonl = "jsonl"
    npy = "npy"
    parquet = "parquet"
    clip_retrieval = "clip-retrieval"


def info(folder: options.IndexFolder = None, as_json: options.Json = False) -> None:
    """Tell what an index holds, and which pictures could not be used.

    \b
    Examples:
      embedsearch info
      embedsearch info --json
    """
    from embedsearch.index import Index

    with Index(folder) as opened:
        told = opened.info()
    if as_json:
        print_json(asdict(told))
        return
    from embedsearch.render.table import info_panel, show

    show(info_panel(told))


def models(as_json: options.Json = False) -> None:
    """List the encoders that can be named with --encoder, and where each runs.

    \b
    Examples:
      embedsearch models
      embedsearch models --json
    """
    from embedsearch.encoders import registry

    found = [registry.load(spec).info for spec in registry.in_the_box()]
    if as_json:
        families = [asdict(family) for family in registry.FAMILIES]
        print_json({"models": [asdict(one) for one in found], "families": families})
        return
    from embedsearch.render.table import models_table, plain_table, show

    show(models_table(found))
    print("\nIn the box: no download. Runs on: CPU.\n")
    show(
        plain_table(
            ("beside these", "texts", "runs on"),
            [
                *(
                    (family.spec, "yes" if family.has_text else "no", family.runs_on)
                    for family in registry.FAMILIES
                ),
                ("a folder that holds an encoder.json", "as it says", "CPU"),
            ],
        )
    )
    print(
        "Their weights are downloaded by the library, or named: @/path/to/checkpoint after the "
        "model.\nFor example: " + ", ".join(family.example for family in registry.FAMILIES)
    )


def export(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="PATH",
            help="The file to write, or for clip-retrieval the folder; - is stdout.",
        ),
    ],
    format: Annotated[
        ExportChoice, typer.Option("--format", help="csv has no embeddings.")
    ] = ExportChoice.jsonl,
    folder: options.IndexFolder = None,
    encoder: options.Encoder = None,
    as_json: options.Json = False,
) -> None:
    """Write every region of an index, with its embedding, to a file or a folder.

    clip-retrieval writes a folder that clip-retrieval, autofaiss and embedding-reader read, and
    that embedsearch index --from-clip-retrieval reads back.

    \b
    Examples:
      embedsearch export --format parquet --out photos.parquet
      embedsearch export --format csv --out - | head
      embedsearch export --format clip-retrieval --out embeddings/
    """
    from embedsearch.index import Index

    with Index(folder) as opened:
        target = sys.stdout.buffer if str(out) == "-" else out
        rows = opened.export(target, format.value, encoder=encoder)
    if as_json:
        print_json({"rows": rows, "out": str(out)})
    else:
        print(f"Wrote {rows:,} rows to {out}.", file=sys.stderr)
