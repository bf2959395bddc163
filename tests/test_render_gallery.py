"""A gallery is one file that shows anything and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from embedsearch.errors import OutputError
from embedsearch.records import Signal
from embedsearch.render.gallery import Card, Section, write_gallery, write_sections

VOID = {"meta", "img", "input"}
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    '"onmouseover="alert(1).jpg',
    "'><img src=x onerror=alert(1)>.jpg",
    "</style><script>alert(1)<",
    "</title><script>alert(1)<",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "javascript:alert(1).jpg",
    "a b#c?d%20&amp;.jpg",
    "new\nline\x1b[31m.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    "\u202egpj.exe",
]


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and texts by class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(dict(attrs).get("class") or dict(attrs).get("id") or tag)
            self.texts.setdefault(self._open[-1], []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def every(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and attributes.items() <= {k: v or "" for k, v in attrs.items()}.items()
        ]


def jpeg(colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 24), colour).save(stream, "JPEG")
    return stream.getvalue()


def card(path: str = "/p/a.jpg", **changes: object) -> Card:
    facts = {"width": 640, "height": 480, "rank": 1, "score": 0.25, "thumbnail": jpeg()} | changes
    return Card(path, **facts)  # type: ignore[arg-type]


def gallery(tmp_path: Path, *cards: Card, **texts: str) -> Page:
    write_gallery(tmp_path / "out.html", cards, **({"title": "a title"} | texts))  # type: ignore[arg-type]
    return Page((tmp_path / "out.html").read_text("utf-8"))


def pictures(page: Page) -> list[dict[str, str | None]]:
    return [link for link in page.every("a") if (link.get("class") or "").startswith("picture")]


def test_a_card_shows_its_rank_name_score_and_folder_and_leads_to_the_file(tmp_path: Path) -> None:
    page = gallery(
        tmp_path,
        card("/photos/2023/a.jpg", score=0.5),
        card("/photos/2024/b.jpg", rank=2, score=0.25),
        title="red car",
        query_summary="words",
    )
    assert page.texts["h1"] == ["red car"]
    assert page.texts["count"] == ["2 pictures"]
    assert page.texts["rank"] == ["1", "2"]
    assert page.texts["name"] == ["a.jpg", "b.jpg"]
    assert page.texts["score"] == ["0.500", "0.250"]
    assert page.texts["folder"] == ["photos/2023", "photos/2024"]
    assert [bar["style"] for bar in page.every("span", **{"class": "bar"})] == [
        "--part:1.0",
        "--part:0.5",
    ]
    links = pictures(page)
    assert [link["href"] for link in links] == [
        "file:///photos/2023/a.jpg",
        "file:///photos/2024/b.jpg",
    ]
    assert [link["title"] for link in links] == ["/photos/2023/a.jpg", "/photos/2024/b.jpg"]


def test_the_thumbnail_is_inside_the_file_byte_for_byte(tmp_path: Path) -> None:
    thumbnail = jpeg("blue")
    page = gallery(tmp_path, card(thumbnail=thumbnail))
    (image,) = page.every("img")
    head, encoded = (image["src"] or "").split(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(encoded) == thumbnail


def test_a_card_without_a_thumbnail_names_the_kind_of_the_file(tmp_path: Path) -> None:
    page = gallery(tmp_path, card("/p/a.heic", thumbnail=None))
    assert page.every("img") == []
    assert page.texts["blank"] == ["HEIC"]


def test_nothing_is_fetched_and_only_the_script_of_the_page_may_run(tmp_path: Path) -> None:
    page = gallery(tmp_path, *(card(f"/p/{name}") for name in HOSTILE if "/" not in name))
    sources = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "data", "poster"}
    ]
    assert sources and all(s.startswith(("file:///", "data:image/jpeg;")) for s in sources)
    assert "@import" not in page.texts["style"][0] and "url(" not in page.texts["style"][0]

    (policy,) = page.every("meta", **{"http-equiv": "Content-Security-Policy"})
    (script,) = page.texts["script"]
    assert script == files("embedsearch.render").joinpath("gallery.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in (policy["content"] or "")
    assert "default-src 'none'" in (policy["content"] or "")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_is_shown_and_adds_no_element_and_no_attribute(
    tmp_path: Path, text: str
) -> None:
    def shape(path: str, text: str) -> list[tuple[str, list[str]]]:
        hit = card(
            path, signals=(Signal("text", 0.5, text=text), Signal("object", 0.5, None, text))
        )
        write_sections(
            tmp_path / "out.html",
            [Section(text, [hit], note=text)],
            title=text,
            query_summary=text,
            examples=[hit],
        )
        return [
            (tag, sorted(attributes))
            for tag, attributes in Page((tmp_path / "out.html").read_text("utf-8")).elements
        ]

    assert shape("/p/" + text, text) == shape("/p/plain.jpg", "plain")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)
@given(st.binary(min_size=1).map(lambda raw: b"/" + raw.replace(b"\0", b"")))
def test_any_file_name_leads_back_to_its_own_bytes(tmp_path: Path, raw: bytes) -> None:
    page = gallery(tmp_path, card(os.fsdecode(raw), thumbnail=None))
    (link,) = pictures(page)
    assert unquote_to_bytes((link["href"] or "").removeprefix("file://")) == raw
    assert len(page.every("script")) == 1


def test_boxes_are_drawn_in_pixels_of_the_picture_but_not_around_all_of_it(tmp_path: Path) -> None:
    page = gallery(
        tmp_path,
        card(
            signals=(
                Signal("image", 0.3, (0.0, 0.0, 640.0, 480.0)),
                Signal("object", 0.9, (10.0, 20.5, 300.0, 200.0), "dog"),
                Signal("text", 0.8, (0.0, 0.0, 100.0, 30.0), text="EXIT 24"),
            )
        ),
    )
    (overlay,) = page.every("svg", **{"class": "boxes"})
    assert overlay["viewbox"] == "0 0 640 480"
    drawn = [rect for rect in page.every("rect") if "class" not in rect]
    assert [(r["x"], r["y"], r["width"], r["height"]) for r in drawn] == [
        ("10.0", "20.5", "300.0", "200.0"),
        ("0.0", "0.0", "100.0", "30.0"),
    ]
    assert page.texts["li"] == page.texts["text"] == ["dog 0.90", "“EXIT 24” 0.80"]


def test_what_else_is_to_be_said_stands_below_a_card_after_its_signals(tmp_path: Path) -> None:
    page = gallery(
        tmp_path, card(signals=(Signal("object", 0.9, None, "dog"),), notes=("best", "3 bits"))
    )
    assert page.texts["li"] == ["dog 0.90", "best", "3 bits"]


@pytest.mark.parametrize(
    ("width", "height", "ratio", "whole"),
    [
        (640, 480, "1.3333", False),
        (30_000, 500, "2.5", True),  # a strip: shown whole in a tile that is not one
        (10, 1000, "0.5", True),
        (0, 0, "1.0", False),  # sizes that are not known
    ],
)
def test_a_tile_has_the_shape_of_its_picture_within_bounds(
    tmp_path: Path, width: int, height: int, ratio: str, whole: bool
) -> None:
    page = gallery(tmp_path, card(width=width, height=height))
    (tile,) = page.every("li")
    assert tile["style"] == f"--ratio:{ratio}"
    assert pictures(page)[0]["class"] == ("picture whole" if whole else "picture")


def test_an_empty_result_says_so(tmp_path: Path) -> None:
    page = gallery(tmp_path)
    assert page.texts["count"] == ["0 pictures"]
    assert page.texts["empty"] == ["No pictures found."]
    assert page.every("p", id="none") == [{"id": "none", "class": "empty"}]  # not hidden


def test_sections_have_headings_with_counts_and_notes(tmp_path: Path) -> None:
    write_sections(
        tmp_path / "out.html",
        [
            Section("beach", [card("/p/a.jpg", score=0.9), card("/p/b.jpg", score=0.45)], "a note"),
            Section("forest", [card("/p/c.jpg", score=0.3), card("/p/d.jpg", score=None)]),
        ],
        title="Clusters",
    )
    page = Page((tmp_path / "out.html").read_text("utf-8"))
    assert [heading.strip() for heading in page.texts["h2"]] == ["beach", "forest"]
    assert page.texts["small"] == ["2", "2"]
    assert page.texts["note"] == ["a note"]
    assert page.texts["count"] == ["4 pictures"]
    assert page.texts["score"] == ["0.900", "0.450", "0.300"]  # a card may have none
    assert [bar["style"] for bar in page.every("span", **{"class": "bar"})] == [
        "--part:1.0",
        "--part:0.5",
        "--part:1.0",  # each group has its own best
    ]


def test_the_pictures_asked_with_are_shown_at_the_top_and_not_counted(tmp_path: Path) -> None:
    write_gallery(tmp_path / "out.html", [card()], title="Similar", examples=[card("/q/query.jpg")])
    page = Page((tmp_path / "out.html").read_text("utf-8"))
    (example,) = page.every("a", **{"class": "example"})
    assert example["href"] == "file:///q/query.jpg"
    assert page.texts["count"] == ["1 picture"]


def test_scores_below_nothing_have_an_empty_bar(tmp_path: Path) -> None:
    page = gallery(tmp_path, card(score=-0.1), card(score=0.0))
    assert [bar["style"] for bar in page.every("span", **{"class": "bar"})] == ["--part:0.0"] * 2


def test_a_gallery_that_cannot_be_written_is_a_named_failure(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Cannot write .*nowhere"):
        write_gallery(tmp_path / "nowhere" / "out.html", [card()], title="t")
