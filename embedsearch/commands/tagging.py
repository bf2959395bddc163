"""``tag``: words for what pictures show, and words that people give them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from embedsearch.commands import options
from embedsearch.commands.output import print_json

SHOWN = 40
"""Tags in the table; --json tells all."""


def tag(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...", help="With --add and --remove: pictures, or folders of them."
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="TAG", help="Give the pictures a tag; may be repeated."),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="TAG", help="Take a tag off them; may be repeated."),
    ] = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Only tell which tags there are; change nothing.")
    ] = False,
    folder: options.IndexFolder = None,
    where: options.Where = None,
    encoder: options.Encoder = None,
    as_json: options.Json = False,
    wait: options.Wait = 0.0,
) -> None:
    """Tag pictures with words for what they show, and tell which tags there are.

    Without --add and --remove every picture gets up to five words of the built-in vocabulary that
    stand out; those of an earlier run are replaced. Tags that people gave stay as they are.

    search, duplicates and the like filter by them: --where "tags like '%dog%'".

    \b
    Examples:
      embedsearch tag
      embedsearch tag --list --json
      embedsearch tag --add holiday --add "summer 2023" ~/Pictures
      embedsearch tag --remove holiday ~/Pictures/cat.jpg
    """
    changes = bool(add or remove)
    if changes and (not paths or where or encoder or only_list):
        raise typer.BadParameter(
            "--add and --remove need the pictures, and go with no --where, --encoder or --list"
        )
    if paths and not changes:
        raise typer.BadParameter("say what to do with the pictures: --add TAG or --remove TAG")
    if only_list and (where or encoder):
        raise typer.BadParameter("--list goes with no --where and no --encoder")
    from embedsearch.index import Index
    from embedsearch.render.wording import counted

    with Index(folder) as index:
        if changes:
            count = index.change_tags(
                *(paths or []), add=add or [], remove=remove or [], wait_seconds=wait
            )
            print(f"Changed the tags of {counted(count, 'picture')}.", file=sys.stderr)
        elif not only_list:
            count = index.tag(where=where, encoder=encoder, wait_seconds=wait)
            print(f"Looked at {counted(count, 'picture')}.", file=sys.stderr)
        named = {*(add or []), *(remove or [])}
        found = [one for one in index.tags() if not changes or one.tag in named]
    if as_json:
        print_json({"tags": [asdict(one) for one in found]})
    elif found:
        from embedsearch.render.clusters import tags_table
        from embedsearch.render.table import show

        show(tags_table(found[:SHOWN]))
        if len(found) > SHOWN:
            print(f"and {len(found) - SHOWN:,} more: --list --json", file=sys.stderr)
    elif not changes:
        print("There are no tags.", file=sys.stderr)
