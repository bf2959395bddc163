"""What pictures are coloured by, and how few sheets of thumbnails a view needs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from embedsearch.errors import QueryError
from embedsearch.records import Image, MapPoint
from embedsearch.render.colouring import PALETTE, chosen, colourings
from embedsearch.render.grid import to_grid
from embedsearch.render.sprites import ACROSS, in_levels, sheets


def point(path: str, taken_at: str | None = None, **known: object) -> MapPoint:
    return MapPoint(Image(1, path, 1, 1, "", 4, 3, taken_at, "ok"), 0.0, 0.0, **known)  # type: ignore[arg-type]


def test_folders_are_named_without_what_all_share_the_largest_first() -> None:
    made = colourings([point(f"/home/me/photos/{name}") for name in ("a/1", "b/1", "b/2", "3")])
    assert made["folder"].labels == ("b", "a", "photos")
    assert made["folder"].of.tolist() == [1, 0, 0, 2]
    assert made["folder"].counts() == [2, 1, 1]


def test_one_folder_alone_is_named_and_so_is_the_root() -> None:
    assert colourings([point("/home/me/1.jpg")])["folder"].labels == ("me",)
    assert colourings([point("/1.jpg")])["folder"].labels == ("/",)


def test_a_cluster_keeps_its_colour_whatever_its_size_and_place() -> None:
    made = colourings([point("/a/1", cluster=3, cluster_name="dogs"), point("/a/2")])
    assert made["cluster"].labels == ("dogs",)
    assert made["cluster"].colours == (PALETTE[2],)
    assert made["cluster"].of.tolist() == [0, -1]
    assert chosen(made, None).name == "cluster"


def test_dates_are_years_or_months_or_days_from_dark_to_light() -> None:
    years = [point("/a/1", f"{year}-05-06T07:08:09") for year in (2019, 2004, 2011)]
    made = colourings([*years, point("/a/2")])["date"]
    assert made.labels == ("2004", "2011", "2019")
    assert made.of.tolist() == [2, 0, 1, -1]
    assert len(set(made.colours)) == 3
    months = colourings([point("/a/1", f"2019-0{month}-06T07:08:09") for month in (1, 2, 5)])
    assert months["date"].labels == ("2019-01", "2019-02", "2019-05")
    days = colourings([point("/a/1", "2019-01-06T07:08:09"), point("/a/1", "2019-01-07T07:08:09")])
    assert days["date"].labels == ("2019-01-06", "2019-01-07")


def test_the_default_is_the_folder_where_there_are_no_clusters() -> None:
    made = colourings([point("/a/1", tags=("sea", "sun"))])
    assert list(made) == ["folder", "tag", "none"]
    assert made["tag"].labels == ("sea",)
    assert chosen(made, None).name == "folder"
    with pytest.raises(QueryError, match="no picture of this map says when it was taken"):
        chosen(made, "date")


def test_names_of_categories_are_made_safe_to_show() -> None:
    made = colourings([point("/a/\x1b[31m\udcff/1", label="x\u202ey"), point("/a/b/1")])
    assert set(made["folder"].labels) == {"\\x1b[31m\\xff", "b"}
    assert made["label"].labels == ("x\\u202ey",)


places = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)) | st.just((0.0, 0.0)),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(places, st.integers(0, 30))
def test_on_a_grid_every_picture_has_a_cell_of_its_own(
    given_places: list[tuple[float, float]], spare: int
) -> None:
    rows = 5
    columns = -(-(len(given_places) + spare) // rows)
    cells = to_grid(np.array(given_places), columns, rows)
    assert len({tuple(cell) for cell in cells.tolist()}) == len(given_places)
    assert (cells >= 0).all() and (cells < (columns, rows)).all()


def test_on_a_grid_neighbours_stay_neighbours() -> None:
    rng = np.random.default_rng(0)
    x, y = np.concatenate([rng.normal(centre, 0.3, (20, 2)) for centre in ((0, 0), (9, 6))]).T
    cells = to_grid(np.stack([x, y], 1), 12, 8)
    first, second = cells[:20].mean(axis=0), cells[20:].mean(axis=0)
    assert (second - first > (3, 2)).all()
    assert np.abs(cells[:20] - first).max() < 5


def test_a_grid_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="3 pictures have no room in 2 x 1 cells"):
        to_grid(np.zeros((3, 2)), 2, 1)


@settings(deadline=None)
@given(places)
def test_levels_hold_every_picture_once(given_places: list[tuple[float, float]]) -> None:
    order = in_levels(np.array(given_places))
    assert sorted(order.tolist()) == list(range(len(given_places)))


def test_the_first_sheet_is_from_all_over_and_a_corner_needs_few_of_the_others() -> None:
    rng = np.random.default_rng(0)
    spread = rng.random((20_000, 2))
    order = in_levels(spread)
    first = spread[order[:256]]
    cells = {tuple(cell) for cell in (first * 16).astype(int).tolist()}
    assert len(cells) > 250  # one in each cell of 16 x 16, give or take where the edges lie
    corner = np.flatnonzero((spread[order] < 0.25).all(axis=1))
    assert len(set((corner // 256).tolist())) < 15  # of 79


def test_a_sheet_holds_each_thumbnail_whole_at_its_place_and_tells_its_size() -> None:
    def jpeg(colour: str, size: tuple[int, int]) -> bytes:
        stream = io.BytesIO()
        Pillow.new("RGB", size, colour).save(stream, "JPEG")
        return stream.getvalue()

    pictures = [jpeg("red", (64, 32)), None, *[jpeg("blue", (100, 200))] * ACROSS**2]
    (first, sizes), (second, more) = sheets(pictures, 64)
    assert sizes[:3].tolist() == [[64, 32], [0, 0], [32, 64]]
    assert len(sizes) == ACROSS**2 and len(more) == 2
    with Pillow.open(io.BytesIO(first)) as sheet:
        assert sheet.format == "WEBP" and sheet.size == (64 * ACROSS, 64 * ACROSS)
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert np.abs(pixels[16, 32] - (255, 0, 0)).max() < 30
    assert np.abs(pixels[32, 2 * 64 + 16] - (0, 0, 255)).max() < 30
    with Pillow.open(io.BytesIO(second)) as sheet:
        assert sheet.size == (64 * ACROSS, 64)
