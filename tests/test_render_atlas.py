"""The map page: what is in the file, and what it does in a real browser where one is installed."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser, Page
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from embedsearch.errors import OutputError
from embedsearch.records import Image, MapPoint
from embedsearch.render.atlas import in_script, unit_places, write_atlas
from embedsearch.render.colouring import colourings
from embedsearch.render.sprites import sheets

WICKED = [
    "</script><script>document.title='owned'</script>.png",
    "<!--<script>.png",
    "a\"b'c&d`${1}.png",
    "#50% off?.png",
    "line\nbreak\u2028.png",
    "not utf-8 \udcff.png",
    "gnp.\u202eexe.png",
    "猫🐈.png",
]


def jpeg(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Pillow.new("RGB", (60, 40), colour).save(stream, "JPEG")
    return stream.getvalue()


def write(folder: Path, names: list[str], **more: Any) -> tuple[Path, list[MapPoint]]:
    """A map of pictures in a row from left to right; those of even number are in the cluster 1."""
    points = []
    for at, name in enumerate(names):
        path = os.fsdecode(os.fsencode(folder)) + "/" + name
        Path(path).parent.mkdir(parents=True, exist_ok=True)  # a slash makes a folder
        with Path(path).open("wb") as stream:
            Pillow.new("RGB", (120, 80), (20 * at, 200, 90)).save(stream, "PNG")
        image = Image(at + 1, path, 1, 1, "", 120, 80, "2019-05-06T07:08:09", "ok")
        cluster = 1 + at % 2
        tags = ("sea side",) if at == 2 else ()
        points.append(MapPoint(image, float(at), 0.0, cluster, f"<b>{cluster}", None, tags))
    made = list(colourings(points).values())
    thumbs = sheets([jpeg((20 * at, 200, 90)) for at in range(len(points))], 64)
    out = folder / "map.html"
    write_atlas(out, points, made, list(thumbs), tile=64, title="<i>map</i>", note="n", **more)
    return out, points


def test_the_file_needs_nothing_else_and_its_policy_allows_nothing_else(tmp_path: Path) -> None:
    out, _ = write(tmp_path, WICKED)
    html = out.read_text("ascii" if out.read_bytes().isascii() else "utf-8")
    assert re.findall(r"(?:src|href)=[\"'](?!data:)", html) == []
    assert "https://" not in html and "http://" not in html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1] and "unsafe-eval" not in policy[1]
    assert html.count("<script") == 3  # data, program, one sheet: none came out of a name


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=30))
def test_any_text_in_a_script_comes_back_as_it_was_and_ends_nothing(text: str) -> None:
    written = in_script({"x": text})
    assert written.isascii() and "<" not in written
    assert json.loads(written) == {"x": text}


def test_places_lie_in_a_square_with_y_pointing_down_however_few_they_are() -> None:
    def at(*places: tuple[float, float]) -> list[tuple[float, float]]:
        image = Image(1, "/a", 1, 1, "", 1, 1, None, "ok")
        x, y = unit_places([MapPoint(image, *place) for place in places])
        return list(zip(x.tolist(), y.tolist(), strict=True))

    assert at((-10, 5), (10, -5)) == [(0, 0), (1, 0.5)]
    assert at((3, 3)) == [(0, 0)]
    assert at() == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_atlas(tmp_path / "nowhere" / "a.html", [], [], [], tile=64, title="")


# In the browser

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page with")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write(folder, WICKED)
    return folder


@pytest.fixture
def page(browser: Browser, folder: Path) -> Page:
    opened = browser.open((folder / "map.html").as_uri(), 1000, 700)
    opened.until("document.documentElement.dataset.pictured")
    return opened


def place_of(page: Page, at: int) -> tuple[float, float]:
    x, y = page.run(f"[px[{at}] * view.k + view.x, py[{at}] * view.k + view.y]")
    return x, y


def lasso(page: Page, corners: list[tuple[float, float]]) -> None:
    page.mouse("Pressed", *corners[0], button="left", clickCount=1)
    for corner in [*corners, corners[0]]:
        page.mouse("Moved", *corner, button="left", buttons=1)
    page.mouse("Released", *corners[0], button="left", clickCount=1)


@needs_browser
def test_names_are_shown_and_never_run_and_links_lead_to_the_files(
    page: Page, folder: Path
) -> None:
    assert page.run("document.title") == "<i>map</i>"
    assert page.run("total") == len(WICKED)
    for at in range(len(WICKED)):
        width = page.run(
            f"""new Promise((done) => {{ const it = new Image();
            it.onload = () => done(it.naturalWidth); it.onerror = () => done(0);
            it.src = urlOf({at}); }})"""
        )
        assert width == 120, WICKED[at]
    assert page.run("pathOf(5)") == f"{folder}/not utf-8 \\xff.png"
    assert page.run("document.querySelector('#legend span').textContent") == "<b>1"


@needs_browser
def test_thumbnails_are_drawn_where_their_pictures_lie(page: Page) -> None:
    page.run("colouring = colourings.find((it) => it.name === 'none'); draw()")  # no names on them
    shown = page.run("withRoom()")
    assert shown[0] == 0 and len(shown) >= 4
    for at in shown:
        red, green, blue, alpha = page.run(
            f"""(() => {{ const x = px[{at}] * view.k + view.x, y = py[{at}] * view.k + view.y;
            return [...context.getImageData(x * ratio, y * ratio, 1, 1).data]; }})()"""
        )
        assert alpha == 255
        assert np.abs(np.array([red, green, blue]) - (20 * at, 200, 90)).max() < 30


@needs_browser
def test_a_lasso_lists_the_pictures_in_it_and_their_paths_can_be_copied(
    page: Page, folder: Path
) -> None:
    page.run("document.querySelector('[data-do=lasso]').click()")
    (left, y), (right, _) = place_of(page, 1), place_of(page, 3)
    lasso(page, [(left - 9, y - 90), (right + 9, y - 90), (right + 9, y + 90), (left - 9, y + 90)])
    assert page.run("document.querySelector('#chosen b').textContent") == "3 pictures"
    page.run(
        "globalThis.copied = null;"
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (text) => {"
        " copied = text; }}})"
    )
    page.run("document.querySelector('[data-do=copy]').click()")
    page.until("copied !== null")
    assert page.run("copied").splitlines()[0] == f"{folder}/{WICKED[1]}"
    assert page.run("copied").count("\n") == 3
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    assert page.run("document.getElementById('chosen').hidden") is True


@needs_browser
@pytest.mark.parametrize(
    "words, left",
    [("utf-8", [5]), ("SEA side", [2]), ("猫", [7]), ("no such thing", []), ("<b>2", [1, 3, 5, 7])],
)
def test_search_lights_the_pictures_whose_name_cluster_or_tag_has_every_word(
    page: Page, words: str, left: list[int]
) -> None:
    page.run(f"search.value = {json.dumps(words)}; search.dispatchEvent(new Event('input'))")
    page.until(f"count.textContent.startsWith('{len(left)} of 8 ')")
    assert page.run("[...lit.keys()].filter((i) => lit[i])") == left
    page.run("search.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))")
    assert page.run("chosen") == left


@needs_browser
def test_the_wheel_zooms_about_the_pointer_and_dragging_pans(page: Page) -> None:
    x, y = place_of(page, 2)
    before = page.run("view.k")
    page.mouse("Wheel", x, y, deltaX=0, deltaY=-400)
    page.until(f"view.k > {before} * 1.9")
    after = place_of(page, 2)
    assert after == pytest.approx((x, y), abs=1)
    page.mouse("Pressed", 500, 600, button="left", clickCount=1)
    page.mouse("Moved", 520, 600, button="left", buttons=1)
    page.mouse("Moved", 540, 610, button="left", buttons=1)
    page.mouse("Released", 540, 610, button="left", clickCount=1)
    assert place_of(page, 2) == pytest.approx((x + 40, y + 10), abs=1)


@needs_browser
def test_hovering_shows_the_picture_itself_and_a_click_opens_it(page: Page) -> None:
    page.run("globalThis.opened = []; window.open = (url) => opened.push(url)")
    x, y = place_of(page, 3)
    page.mouse("Moved", x, y)
    page.until("!document.getElementById('card').hidden")
    assert page.run("document.querySelector('#card .name').textContent") == WICKED[3]
    assert "sea" not in page.run("document.querySelector('#card .facts').textContent")
    page.until("!document.querySelector('#card img').hidden")
    assert page.run("document.querySelector('#card img').naturalWidth") == 120
    page.mouse("Pressed", x, y, button="left", clickCount=1)
    page.mouse("Released", x, y, button="left", clickCount=1)
    assert page.run("opened")[0].endswith("/%2350%25%20off%3F.png")


@needs_browser
def test_keys_move_zoom_and_choose(page: Page) -> None:
    def press(key: str) -> None:
        page.run(
            f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: {json.dumps(key)}}}))"
        )

    k, x = page.run("[view.k, view.x]")
    press("+")
    assert page.run("view.k") == pytest.approx(1.6 * k)
    press("0")
    assert page.run("view.k") == k
    press("ArrowRight")
    assert page.run("view.x") == x - 60
    assert page.run("current") in (3, 4, 5)  # the one in the middle
    press(" ")
    assert page.run("chosen.length") == 1
    press("t")
    page.until("!thumbsOn")
    press("/")
    assert page.run("document.activeElement.id") == "search"


@needs_browser
def test_the_legend_counts_categories_and_switches_them_off(page: Page) -> None:
    buttons = "[...document.querySelectorAll('#legend li button')]"
    assert page.run(f"{buttons}.map((it) => it.textContent)") == ["<b>14", "<b>24"]
    page.run(f"{buttons}[0].click()")
    assert page.run("[...lit]") == [0, 1] * 4
    page.run(f"{buttons}[0].click()")
    page.run("const by = document.getElementById('colour'); by.value = 'date';"
             "by.dispatchEvent(new Event('change'))")  # fmt: skip
    assert page.run(f"{buttons}.map((it) => it.textContent)") == ["2019-05-068"]


@needs_browser
def test_on_a_phone_a_first_tap_shows_the_picture_and_two_fingers_zoom(
    browser: Browser, folder: Path
) -> None:
    page = browser.open((folder / "map.html").as_uri(), 390, 800, dark=True)
    page.until("document.documentElement.dataset.pictured")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 21, 23)"
    assert page.run("document.documentElement.scrollWidth") == 390
    assert page.run("legend.hidden") is True
    page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    page.run("globalThis.opened = []; window.open = (url) => opened.push(url)")
    x, y = place_of(page, 0)
    for expected in (0, 1):
        page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        assert page.run("opened.length") == expected
        assert page.run("document.getElementById('card').hidden") is False
    k = page.run("view.k")
    two = [{"x": 150, "y": 400, "id": 0}, {"x": 250, "y": 400, "id": 1}]
    apart = [{"x": 50, "y": 400, "id": 0}, {"x": 350, "y": 400, "id": 1}]
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=two[:1])
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=two)
    page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=apart)
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert page.run("view.k") == pytest.approx(3 * k, rel=0.1)
