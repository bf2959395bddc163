"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class DeviceChoice(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


IndexFolder = Annotated[
    Path | None,
    typer.Option(
        "--index",
        metavar="DIR",
        help="The index folder. Default: $EMBEDSEARCH_INDEX, then ./indexes/default where the "
        "working folder has an indexes/, then the user data folder.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Top = Annotated[
    int, typer.Option("--top", "-k", metavar="N", min=1, help="How many pictures at most.")
]


def _min_score(given: str) -> str:
    """A number, or auto."""
    if given != "auto":
        try:
            float(given)
        except ValueError:
            raise typer.BadParameter(f"a number or auto, not {given!r}") from None
    return given


def min_score(given: str | None) -> float | Literal["auto"] | None:
    """What ``--min-score`` says."""
    return None if given is None else "auto" if given == "auto" else float(given)


MinScore = Annotated[
    str | None,
    typer.Option(
        "--min-score",
        metavar="S|auto",
        parser=_min_score,
        help="Leave out hits with a score below S, which is a cosine where only embeddings speak; "
        "auto leaves out what does not match, all of it where nothing does.",
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="X,Y,W,H",
        help="Only this part of the example picture, in pixels of the upright picture.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="SQL-EXPR",
        help="Only pictures for which this SQL expression is true. Columns: path, folder, name, "
        "size, width, height, format, taken_at, modified_at, exif, cluster, cluster_name, tags, "
        "objects (as JSON: objects ->> 'dog' >= 2), words, duration.",
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option("--encoder", metavar="SPEC", help="The encoder, where the index has several."),
]
Nul = Annotated[bool, typer.Option("-0", help="Print the paths only, each ended by a NUL byte.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a gallery that opens in a browser."),
]
OpenHtml = Annotated[bool, typer.Option("--open", help="Open the gallery in the browser.")]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", min=0, help="Wait so long for another writer to finish."
    ),
]
