"""Options that ``finetune`` and ``distill`` share. What they change stands in a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedsearch.commands.options import DeviceChoice

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The encoder folder to write.", show_default=False),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE.toml", help="A recipe; the options change it."),
]
HeldOut = Annotated[
    float | None,
    typer.Option("--held-out", metavar="SHARE", min=0, max=0.9, help="Photos to measure on."),
]
Batch = Annotated[
    int | None, typer.Option("--batch", metavar="N", min=1, help="Photos in a batch.")
]
Rate = Annotated[
    float | None, typer.Option("--rate", metavar="R", help="Step size of the last stage.")
]
CacheFrozen = Annotated[
    Path | None,
    typer.Option(
        "--cache-frozen",
        metavar="DIR",
        help="Keep what frozen stages give, in 8 bits; looks where none is frozen.",
    ),
]
Text = Annotated[
    Path | None,
    typer.Option("--text", metavar="DIR", help="Start a text tower from a model2vec folder."),
]
Size = Annotated[
    int | None, typer.Option("--size", metavar="PX", min=32, help="Another input side.")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0)]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Default: all cores.")
]
TrainingDevice = Annotated[DeviceChoice, typer.Option("--device", help="Where to train.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the checkpoint in --out, exactly.")
]
