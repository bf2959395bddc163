"""Self-contained HTML pages: one file, no network, a policy that runs their own script alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from embedsearch.render.output import written_whole


def write_page(out: Path, template: str, scripts: Sequence[str], style: str, **values: Any) -> None:
    """Write the HTML file ``out``: ``template`` with ``values``, which are escaped unless they are
    ``Markup``, and with the files ``scripts`` and ``style``, all of this package.

    Templates get ``script``, its ``script_hash`` for the policy, and ``style``. Raises
    :class:`~embedsearch.errors.OutputError` where ``out`` cannot be written.
    """
    script = "\n".join(_asset(name) for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("embedsearch", "render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).stream(
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        style=Markup(_asset(style)),
        **values,
    )
    with written_whole(out) as stream:
        page.dump(stream, encoding="utf-8")


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")
