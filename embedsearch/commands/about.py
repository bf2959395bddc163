"""``info``, ``models`` and ``export``: what is there."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedsearch.commands import options
from embedsearch.commands.output import print_json

if TYPE_CHECKING:
    from embedsearch.encoders.registry import Family
    from embedsearch.records import Model


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


def models(
    photo: Annotated[
        Path | None,
        typer.Option(
            "--try",
            metavar="PHOTO",
            help="Encode this photo with each: time, memory, nearest words.",
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", metavar="SPEC", help="Another encoder; may be repeated."),
    ] = None,
    folder: options.IndexFolder = None,
    device: Annotated[
        options.DeviceChoice, typer.Option("--device", help="Where the encoders run.")
    ] = options.DeviceChoice.auto,
    as_json: options.Json = False,
) -> None:
    """List the encoders that can be named with --encoder, what each costs, and where it runs.

    Those in the box and those of the index are listed, and those named; then what reads words,
    finds objects and outlines, and follows them. With --try each encoder is run on
    a photo, in a process of its own; the nearest words are of a built-in vocabulary.

    \b
    Examples:
      embedsearch models
      embedsearch models --try photo.jpg
      embedsearch models --try photo.jpg --encoder timm:convnext_tiny --encoder openclip:RN50/openai
    """
    from embedsearch.encoders import cached, registry
    from embedsearch.explore import models as explored
    from embedsearch.index import Index

    with Index(folder) as opened:
        found = opened.models(encoder or (), required=folder is not None, device=device.value)
        index_folder = opened.folder
    if photo is not None:
        explored.check_photo(photo)
        found = [explored.tried(one, photo, index_folder, device.value) for one in found]
    ready = cached.cached_specs()
    if as_json:
        families = [asdict(family) for family in registry.FAMILIES]
        told = {"models": [_flat(one) for one in found], "families": families, "cached": ready}
        print_json(told | {"stages": [asdict(one) for one in explored.stage_models(device.value)]})
        return
    from embedsearch.render.table import (
        models_table,
        plain_table,
        show,
        stage_models_table,
        trials_table,
    )

    if photo is not None:
        show(trials_table(found))
        return
    show(models_table(found))
    print()
    show(
        plain_table(
            ("beside these", "texts", "installed", "runs on"),
            [
                *(
                    (
                        family.spec,
                        "yes" if family.has_text else "no",
                        _version(family),
                        family.runs_on,
                    )
                    for family in registry.FAMILIES
                ),
                ("a folder that holds an encoder.json", "as it says", "", "CPU"),
                (
                    "SPEC?dim=N  SPEC+SPEC  (SPEC+SPEC)?join=mean",
                    "as its parts",
                    "",
                    "as its parts",
                ),
            ],
        )
    )
    if ready:
        print("\nWeights on this machine: " + ", ".join(ready))
    print(
        "\nOther weights are downloaded by the library, or named: @/path/to/checkpoint after the "
        "model.\nFor example: " + ", ".join(family.example for family in registry.FAMILIES)
    )
    print()
    show(stage_models_table(explored.stage_models(device.value)))


def _flat(model: Model) -> dict[str, Any]:
    """An encoder as one JSON object: what is known of it, then what it costs here."""
    told = asdict(model)
    return {**told.pop("info"), **told}


def _version(family: Family) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(family.package)
    except PackageNotFoundError:
        return "no"


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
        from embedsearch.render.wording import counted

        print(f"Wrote {counted(rows, 'row')} to {out}.", file=sys.stderr)
