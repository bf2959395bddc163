"""The command line. It only translates: no command does work of its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from embedsearch.commands import (
    about,
    asking,
    clustering,
    demo,
    distilling,
    evaluate,
    exploring,
    forgetting,
    indexing,
    mapping,
    quantizing,
    tagging,
    training,
)

app = typer.Typer(
    name="embedsearch",
    help="Find any picture on your own machine, by words or by example.",
    epilog="Begin with: embedsearch index ~/Pictures",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

for command in (
    indexing.index,
    asking.search,
    asking.similar,
    exploring.duplicates,
    clustering.cluster,
    tagging.tag,
    mapping.map_,
    about.info,
    indexing.verify,
    forgetting.forget,
    about.models,
    about.export,
    training.finetune,
    distilling.distill,
    quantizing.quantize,
    evaluate.evaluate,
    demo.demo,
):
    app.command(command.__name__.removesuffix("_"))(command)

_verbose = False


def _version(wanted: bool) -> None:
    if wanted:
        from embedsearch import __version__

        print(f"embedsearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show where an error comes from.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    global _verbose
    _verbose = verbose


def main() -> None:
    """Run the command line. Exit 0: done; 1: a named failure; 2: wrong usage; 130: interrupted."""
    try:
        app()
    except BrokenPipeError:
        # The reader of our output (head, say) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if _verbose or not _is_foreseeable(error):
            raise
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


def _is_foreseeable(error: Exception) -> bool:
    import sqlite3

    from embedsearch.errors import EmbedSearchError

    return isinstance(error, EmbedSearchError | OSError | sqlite3.DatabaseError)
