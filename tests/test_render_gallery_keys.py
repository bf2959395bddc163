"""The keys and the filter of a gallery, pressed in a real browser where one is installed."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
from html import unescape
from pathlib import Path

import pytest
from browser import CHROMIUM, QUIET
from PIL import Image

from embedsearch.render.gallery import Card, write_gallery

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")

DRIVER = """
<script>
addEventListener("load", async () => {
  const said = [];
  const focused = () => document.activeElement.getAttribute("aria-label");
  const press = (key) => {
    const event = new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true});
    document.activeElement.dispatchEvent(event);
  };
  const type = (text) => {
    const input = document.querySelector("input");
    input.value = text;
    input.dispatchEvent(new Event("input"));
  };
  const shown = () => [...document.querySelectorAll(".card:not([hidden]) .name")]
    .map((name) => name.textContent).join(" ");
  const count = () => document.getElementById("count").textContent;
  const closer = document.getElementById("closer");
  const copied = [];
  const clipboard = {writeText: async (text) => { copied.push(text); }};
  Object.defineProperty(navigator, "clipboard", {value: clipboard});
  const loaded = () => new Promise((done) => setTimeout(done, 500));
  try { %s } catch (error) { said.push(String(error.stack)); }
  const pre = document.createElement("pre");
  pre.textContent = JSON.stringify(said);
  document.body.append(pre);
});
</script>
"""


def said(tmp_path: Path, steps: str) -> list[object]:
    """What ``steps`` pushes to ``said`` on a gallery of twelve pictures, four or so to a row."""
    cards = []
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        path = folder / f"{'odd' if number % 2 else 'even'}-{number}.png"
        if number == 2:
            path = Path(os.fsdecode(os.fsencode(path) + b"\xff #?.png"))
        Image.new("RGB", (120, 80), (20 * number, 0, 0)).save(path)
        thumbnail = io.BytesIO()
        Image.new("RGB", (12, 8)).save(thumbnail, "JPEG")
        cards.append(Card(str(path), number, 0.1, (), thumbnail.getvalue(), 120, 80))
    page = tmp_path / "page.html"
    write_gallery(page, cards, title="keys", index_folder=tmp_path / "an index")
    html = page.read_text("utf-8")
    html, count = re.subn(r"'sha256-[^']+'", "'unsafe-inline'", html)  # lets the driver in
    assert count == 1
    page.write_text(html.replace("</body>", DRIVER % steps + "</body>"), "utf-8")
    assert CHROMIUM is not None
    dom = subprocess.run(
        [
            CHROMIUM,
            *QUIET,
            f"--user-data-dir={tmp_path / 'browser'}",
            "--window-size=1280,900",
            "--virtual-time-budget=10000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    result: list[object] = json.loads(unescape(dom.split("<pre>")[1].split("</pre>")[0]))
    return result


def test_arrow_keys_move_through_the_rows_and_stop_at_the_ends(tmp_path: Path) -> None:
    assert said(
        tmp_path,
        """
        press("ArrowRight"); said.push(focused());
        press("ArrowRight"); said.push(focused());
        press("ArrowDown"); press("ArrowUp"); said.push(focused());
        press("ArrowUp"); said.push(focused());
        press("End"); said.push(focused());
        press("ArrowRight"); said.push(focused());
        press("Home"); press("ArrowLeft"); said.push(focused());
        press("ArrowDown");
        const [first, second] = [0, Number(focused().split(".")[0])]
          .map((i) => document.querySelectorAll(".picture")[i].getBoundingClientRect());
        said.push(second.top > first.bottom, Math.abs(second.left - first.left) < 2);
        said.push(document.querySelectorAll(".picture[tabindex='0']").length);
        """,
    ) == [
        "0. even-0.png",
        "1. odd-1.png",
        "1. odd-1.png",
        "1. odd-1.png",
        "11. odd-11.png",
        "11. odd-11.png",
        "0. even-0.png",
        True,
        True,
        1,
    ]


def test_the_filter_keeps_names_that_hold_every_word_and_escape_clears_it(tmp_path: Path) -> None:
    assert said(
        tmp_path,
        """
        press("/"); said.push(document.activeElement.tagName);
        type("EVEN 1"); said.push(shown(), count());
        press("ArrowDown"); said.push(focused());
        press("ArrowRight"); said.push(focused());
        press("/"); type("none such");
        said.push(shown(), count(), document.getElementById("none").hidden);
        press("Escape"); said.push(count(), document.activeElement.tagName);
        """,
    ) == [
        "INPUT",
        "even-10.png",
        "1 of 12 pictures",
        "10. even-10.png",
        "10. even-10.png",
        "",
        "0 of 12 pictures",
        False,
        "12 pictures",
        "BODY",
    ]


def test_space_looks_closer_at_the_file_itself_and_arrows_go_on_from_there(tmp_path: Path) -> None:
    """The thumbnail is 12 pixels wide and the file 120: it is the file that is shown."""
    assert said(
        tmp_path,
        """
        document.querySelectorAll(".picture")[1].focus();
        press(" "); await loaded();
        said.push(closer.open, closer.querySelector("img").naturalWidth);
        press("ArrowRight"); await loaded();
        said.push(closer.querySelector("img").naturalWidth);
        said.push(closer.querySelector("img").src.endsWith("even-2.png%FF%20%23%3F.png"));
        press("ArrowRight"); press(" "); said.push(closer.open, focused());
        press(" "); press("ArrowRight"); press("Escape"); said.push(closer.open, focused());
        """,
    ) == [True, 120, 120, True, False, "3. odd-3.png", False, "4. even-4.png"]


def test_paths_and_commands_are_copied_as_a_shell_takes_them(tmp_path: Path) -> None:
    """The third name is no UTF-8 and has spaces in it: Bash must read its bytes."""
    told = said(
        tmp_path,
        """
        const files = document.querySelectorAll(".picture");
        files[0].focus(); press("c"); press("m"); await loaded();
        files[2].focus(); press("c"); press(" "); await loaded();
        document.querySelector("[data-copy=command]").click(); await loaded();
        said.push(...copied, document.getElementById("said").textContent.startsWith("Copied: "));
        said.push(document.querySelector(".open-folder").href);
        """,
    )
    folder = tmp_path / "photos"
    assert told[0] == f"{folder}/even-0.png"
    words = [
        "embedsearch",
        "similar",
        f"{folder}/even-0.png",
        "--index",
        str(tmp_path / "an index"),
    ]
    assert shlex.split(str(told[1]))[:5] == words
    odd = os.fsencode(folder) + b"/even-2.png\xff #?.png"
    for text in (f"x x {told[2]}", str(told[3])):
        read = subprocess.run(
            ["bash", "-c", f'set -- {text}; printf %s "$3"'], capture_output=True, check=True
        )
        assert read.stdout == odd
    assert told[4:] == [True, f"{folder.as_uri()}/"]


def test_a_question_mark_shows_the_keys_and_escape_hides_them(tmp_path: Path) -> None:
    assert said(
        tmp_path,
        """
        const up = () => getComputedStyle(document.getElementById("keys")).position;
        said.push(up()); press("?"); said.push(up()); press("Escape"); said.push(up());
        """,
    ) == ["static", "fixed", "static"]
