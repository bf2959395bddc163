"""The command line. It only translates: no command does work of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    app: typer.Typer
    """All commands."""

COMMANDS = {
    "index": "indexing",
    "search": "asking",
    "similar": "asking",
    "duplicates": "exploring",
    "cluster": "clustering",
    "tag": "tagging",
    "map": "mapping",
    "info": "about",
    "verify": "indexing",
    "forget": "forgetting",
    "models": "about",
    "export": "about",
    "finetune": "finetuning",
    "distill": "distilling",
    "quantize": "quantizing",
    "evaluate": "evaluate",
    "demo": "demo",
}
"""The module of each, in the order in which help lists them."""


def application(names: Iterable[str]) -> typer.Typer:
    """The command line with these commands. Typer reads the options of all that it is given, which
    for all of them takes as long as a query."""
    made = typer.Typer(
        name="embedsearch",
        help="Find any picture on your own machine, by words or by example.",
        epilog="Begin with: embedsearch index ~/Pictures",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    made.callback()(_options)
    for name in names:
        module = import_module(f"embedsearch.commands.{COMMANDS[name]}")
        made.command(name)(getattr(module, name, None) or getattr(module, f"{name}_"))
    return made


def __getattr__(name: str) -> Any:
    if name == "app":
        made = globals()["app"] = application(COMMANDS)
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_verbose = False


def _version(wanted: bool) -> None:
    if wanted:
        from embedsearch import __version__

        print(f"embedsearch {__version__}")
        raise typer.Exit


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
    asked = next((given for given in sys.argv[1:] if not given.startswith("-")), None)
    try:
        application(COMMANDS if asked not in COMMANDS else [asked])()
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
