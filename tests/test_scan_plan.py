"""A scan held against the catalogue: what is read, what vanished, what came back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest
from album import Album
from colour_encoder import ColourEncoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedsearch.errors import PictureError
from embedsearch.store import scan_plan
from embedsearch.store.ledger import Ledger
from embedsearch.store.scan_plan import ScanPlan, Scope

Facts = tuple[int, int]
"""Size and mtime_ns."""


@pytest.fixture
def album(ledger: Ledger, encoder: ColourEncoder) -> Album:
    return Album(ledger, encoder)


def facts(album: Album, colour: str, mtime: int = 1) -> Facts:
    return album.content(colour, vector=False).size, mtime


def fail(album: Album, path: bytes, stage: str, read_as: Facts | None = (5, 5)) -> None:
    with album.ledger.transaction():
        album.ledger.fail(album.root, path, PictureError(stage, "so it is"), read_as, run_id=1)


def vanish(album: Album, *paths: bytes) -> None:
    with album.ledger.transaction():
        album.ledger.mark_vanished([album.root.path + b"/" + path for path in paths])


def whole(album: Album) -> Scope:
    return Scope(album.root, b"", trusted=True)


def plan(
    album: Album,
    seen: Mapping[bytes, Facts],
    scopes: Sequence[Scope] | None = None,
    *,
    force: bool = False,
    unreadable: Collection[bytes] = (),
) -> ScanPlan:
    """The plan after a scan that saw these files of the album's root."""
    made = ScanPlan(album.ledger)
    with album.ledger.transaction():
        made.see(album.root, [(path, size, mtime) for path, (size, mtime) in seen.items()])
        for folder in unreadable:
            made.see_unreadable(album.root, folder)
        made.conclude(scopes or [whole(album)], album.stored, force=force)
    return made


def pending(made: ScanPlan) -> dict[bytes, bool]:
    """Paths to read, and whether they are looked at anew."""
    return {item.path: item.anew for item in made.pending()}


def status(album: Album, path: bytes) -> str | None:
    image = album.image(path)
    return None if image is None else image.status


# What is read


def test_a_file_that_the_catalogue_does_not_know_is_read(album: Album) -> None:
    made = plan(album, {b"a.png": (10, 20)})
    assert pending(made) == {b"a.png": False}
    assert (made.pending_count(), made.unchanged, made.vanished_count()) == (1, 0, 0)
    assert [item.root for item in made.pending()] == [album.root]


def test_a_file_of_the_same_size_and_time_is_not_read_again(album: Album) -> None:
    album.put(b"a.png", "red", mtime=7)
    made = plan(album, {b"a.png": facts(album, "red", 7)})
    assert pending(made) == {}
    assert (made.unchanged, made.seen_count()) == (1, 1)


@pytest.mark.parametrize("size_more, mtime", [(1, 7), (-1, 7), (0, 8), (0, 6), (1, 8)])
def test_a_file_of_another_size_or_time_is_read_again(
    album: Album, size_more: int, mtime: int
) -> None:
    album.put(b"a.png", "red", mtime=7)
    size, _ = facts(album, "red")
    made = plan(album, {b"a.png": (size + size_more, mtime)})
    assert pending(made) == {b"a.png": False}
    assert made.unchanged == 0
    assert status(album, b"a.png") == "ok", "it stays until it is read"


def test_bytes_that_were_no_picture_are_read_again_when_they_change(album: Album) -> None:
    fail(album, b"same.png", "decode", (5, 5))
    fail(album, b"other.png", "decode", (5, 5))
    made = plan(album, {b"same.png": (5, 5), b"other.png": (5, 6)})
    assert pending(made) == {b"other.png": False}
    assert made.unchanged == 0, "a failure is not an unchanged picture"


def test_a_file_that_could_not_be_read_is_tried_again(album: Album) -> None:
    fail(album, b"a.png", "read", None)
    assert pending(plan(album, {b"a.png": (5, 5)})) == {b"a.png": False}


def test_by_force_all_that_is_known_is_looked_at_anew(album: Album) -> None:
    album.put(b"a.png", "red")
    fail(album, b"bad.png", "decode", (5, 5))
    seen = {b"a.png": facts(album, "red"), b"bad.png": (5, 5), b"new.png": (9, 9)}
    made = plan(album, seen, force=True)
    assert pending(made) == {b"a.png": True, b"bad.png": True, b"new.png": False}
    assert made.unchanged == 0


def test_a_picture_that_the_encoder_has_not_seen_is_read(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    second = Album(album.ledger, ColourEncoder(seed=1))
    second.put(b"b.png", "green")
    seen = {b"a.png": facts(album, "red"), b"b.png": facts(album, "green")}
    made = plan(second, seen)
    assert pending(made) == {b"a.png": False}
    assert made.unchanged == 1
    assert pending(plan(album, seen)) == {}


def test_a_bad_file_need_not_be_read_for_every_encoder(album: Album) -> None:
    fail(album, b"bad.png", "decode", (5, 5))
    album.put(b"a.png", "red")
    second = Album(album.ledger, ColourEncoder(seed=1))
    made = plan(second, {b"bad.png": (5, 5), b"a.png": facts(album, "red")})
    assert pending(made) == {b"a.png": False}


def test_files_are_read_by_folder_a_page_at_a_time_while_results_are_stored(
    album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_plan, "PAGE", 3)
    paths = [b"%02d/%d.png" % (number % 4, number) for number in range(11)]
    made = plan(album, dict.fromkeys(paths, (1, 1)))
    read = []
    for item in made.pending():
        read.append(item.path)
        assert album.put(item.path, "red") is not None
    assert read == sorted(paths)


def test_a_file_that_is_seen_twice_counts_once(album: Album) -> None:
    made = ScanPlan(album.ledger)
    with album.ledger.transaction():
        made.see(album.root, [(b"a.png", 1, 1)])
        made.see(album.root, [(b"a.png", 1, 1), (b"b.png", 1, 1)])
        made.conclude([whole(album)], album.stored, force=False)
    assert (made.seen_count(), made.pending_count()) == (2, 2)


def test_every_plan_begins_empty(album: Album) -> None:
    plan(album, {b"a.png": (1, 1)})
    made = plan(album, {})
    assert (made.seen_count(), made.pending_count()) == (0, 0)


# What vanished


def test_a_picture_that_is_not_seen_has_vanished_and_keeps_its_embedding(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    revision = album.revision()
    made = plan(album, {b"b.png": facts(album, "green")})
    assert (status(album, b"a.png"), status(album, b"b.png")) == ("vanished", "ok")
    assert (made.vanished_count(), made.unchanged) == (1, 1)
    assert album.vector(b"a.png") is not None
    assert album.revision() == revision


def test_nothing_vanishes_from_a_scope_that_is_not_trusted(album: Album) -> None:
    album.put(b"a.png", "red")
    fail(album, b"bad.png", "decode")
    made = plan(album, {}, [Scope(album.root, b"", trusted=False)])
    assert (status(album, b"a.png"), status(album, b"bad.png")) == ("ok", "failed")
    assert made.vanished_count() == 0
    assert len(album.ledger.failures()) == 1


def test_looking_at_one_file_makes_no_other_vanish(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    scope = Scope(album.root, b"a.png", trusted=True, single_file=True)
    made = plan(album, {b"a.png": facts(album, "red")}, [scope])
    assert (status(album, b"b.png"), made.vanished_count()) == ("ok", 0)


def test_a_single_file_that_the_scan_passed_over_is_still_there(album: Album) -> None:
    """Excluded by a pattern, say; that it exists is known from the command line."""
    album.put(b"a.png", "red")
    made = plan(album, {}, [Scope(album.root, b"a.png", trusted=True, single_file=True)])
    assert (status(album, b"a.png"), made.vanished_count()) == ("ok", 0)


def test_a_single_file_that_is_not_there_any_more_vanishes(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"a.png2", "green")
    plan(album, {}, [Scope(album.root, b"a.png", trusted=True)])
    assert (status(album, b"a.png"), status(album, b"a.png2")) == ("vanished", "ok")


def test_from_a_folder_vanishes_only_what_is_under_it(album: Album) -> None:
    inside = [b"sub/a.png", b"sub/deep/b.png", b"sub/\xff.png", b"sub//odd.png"]
    outside = [b"sub.png", b"sub0/c.png", b"subway/d.png", b"SUB/e.png", b"other/sub/f.png", b"su"]
    for path in inside + outside:
        album.put(path, "red")
    made = plan(album, {}, [Scope(album.root, b"sub", trusted=True)])
    assert {status(album, path) for path in inside} == {"vanished"}
    assert {status(album, path) for path in outside} == {"ok"}
    assert made.vanished_count() == len(inside)


def test_each_scope_is_judged_by_itself(album: Album) -> None:
    for path in (b"one/a.png", b"two/b.png", b"three/c.png"):
        album.put(path, "red")
    scopes = [Scope(album.root, b"one", trusted=True), Scope(album.root, b"two", trusted=False)]
    made = plan(album, {}, scopes)
    assert [status(album, path) for path in (b"one/a.png", b"two/b.png", b"three/c.png")] == [
        "vanished",
        "ok",
        "ok",
    ]
    assert made.vanished_count() == 1


def test_another_root_is_left_alone(album: Album, encoder: ColourEncoder) -> None:
    album.put(b"a.png", "red")
    other = Album(album.ledger, encoder, b"/other")
    other.put(b"a.png", "red")
    plan(album, {})
    assert status(album, b"a.png") == "vanished"
    assert status(other, b"a.png") == "ok"


def test_under_the_root_of_the_file_system_everything_is_inside(
    ledger: Ledger, encoder: ColourEncoder
) -> None:
    album = Album(ledger, encoder, b"/")
    album.put(b"a.png", "red")
    album.put(b"sub/b.png", "green")
    fail(album, b"sub/bad.png", "decode")
    plan(album, {b"a.png": facts(album, "red")}, [Scope(album.root, b"sub", trusted=True)])
    assert (status(album, b"a.png"), status(album, b"sub/b.png")) == ("ok", "vanished")
    assert album.ledger.failures() == []


def test_what_lies_in_a_folder_that_cannot_be_read_is_taken_as_there(album: Album) -> None:
    album.put(b"closed/a.png", "red")
    album.put(b"closed/deep/b.png", "green")
    album.put(b"closed2/c.png", "blue")
    fail(album, b"closed/bad.png", "decode")
    album.put(b"closed/long-gone.png", "white")
    vanish(album, b"closed/long-gone.png")
    made = plan(album, {}, unreadable=[b"closed"])
    assert status(album, b"closed/a.png") == "ok"
    assert status(album, b"closed/deep/b.png") == "ok"
    assert status(album, b"closed/bad.png") == "failed"
    assert status(album, b"closed/long-gone.png") == "vanished"
    assert status(album, b"closed2/c.png") == "vanished"
    assert pending(made) == {}
    assert (made.unchanged, made.vanished_count()) == (2, 1)


def test_what_vanished_before_is_not_counted_again(album: Album) -> None:
    album.put(b"a.png", "red")
    assert plan(album, {}).vanished_count() == 1
    assert plan(album, {}).vanished_count() == 0
    assert status(album, b"a.png") == "vanished"


def test_what_turned_up_elsewhere_has_not_vanished(album: Album) -> None:
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    made = plan(album, {b"new.png": facts(album, "red", 9)})
    assert made.vanished_count() == 2
    assert album.put(b"new.png", "red", mtime=9, vector=False, gone=[b"a.png"]) == "moved"
    assert made.vanished_count() == 1


# What came back


def test_a_picture_that_comes_back_as_it_was_is_not_read(album: Album) -> None:
    album.put(b"a.png", "red", mtime=3)
    region = album.region_id(b"a.png")
    vanish(album, b"a.png")
    made = plan(album, {b"a.png": facts(album, "red", 3)})
    assert (status(album, b"a.png"), album.region_id(b"a.png")) == ("ok", region)
    assert pending(made) == {}
    assert (made.unchanged, made.vanished_count()) == (1, 0)


def test_a_picture_that_comes_back_with_another_time_is_read(album: Album) -> None:
    album.put(b"a.png", "red", mtime=3)
    vanish(album, b"a.png")
    made = plan(album, {b"a.png": facts(album, "red", 4)})
    assert status(album, b"a.png") == "vanished", "until it is read"
    assert pending(made) == {b"a.png": False}
    assert made.unchanged == 0


def test_a_picture_comes_back_in_a_scope_that_is_not_trusted_too(album: Album) -> None:
    album.put(b"a.png", "red")
    vanish(album, b"a.png")
    plan(album, {b"a.png": facts(album, "red")}, [Scope(album.root, b"", trusted=False)])
    assert status(album, b"a.png") == "ok"


def test_a_picture_that_comes_back_is_read_for_an_encoder_that_has_not_seen_it(
    album: Album,
) -> None:
    album.put(b"a.png", "red")
    vanish(album, b"a.png")
    second = Album(album.ledger, ColourEncoder(seed=1))
    assert pending(plan(second, {b"a.png": facts(album, "red")})) == {b"a.png": False}


# Failures


@pytest.mark.parametrize("name", [b"bad.png", b"\xff\xfe'\n.png", "na\u00efve \U0001f436".encode()])
@pytest.mark.parametrize("root", [b"/photos", b"/", b"/\xfe/x"])
def test_a_bad_file_that_is_gone_leaves_no_failure(
    ledger: Ledger, encoder: ColourEncoder, root: bytes, name: bytes
) -> None:
    album = Album(ledger, encoder, root)
    fail(album, name, "decode")
    fail(album, b"stays.png", "decode")
    plan(album, {b"stays.png": (5, 5)})
    stays = (root.rstrip(b"/") + b"/stays.png").decode(errors="surrogateescape")
    assert [failure.path for failure in ledger.failures()] == [stays]
    assert (status(album, name), status(album, b"stays.png")) == (None, "failed")


def test_failures_that_may_pass_are_cleared_and_those_of_bad_bytes_stay(album: Album) -> None:
    fail(album, b"sub/locked.png", "read", None)
    fail(album, b"sub/bad.png", "decode")
    fail(album, b"sub/hard.png", "encode", None)
    fail(album, b"other/locked.png", "read", None)
    with album.ledger.transaction():
        album.ledger.add_failure(b"/photos/sub", "scan", "permission denied", 1)
        ScanPlan(album.ledger).clear_passing_failures(b"/photos/sub")
    left = [failure.path for failure in album.ledger.failures()]
    assert left == ["/photos/other/locked.png", "/photos/sub/bad.png"]


# Roots that may be another disk


def test_a_root_is_recognised_by_one_picture_that_is_as_it_was(
    album: Album, encoder: ColourEncoder
) -> None:
    other = Album(album.ledger, encoder, b"/other")
    album.put(b"a.png", "red")
    album.put(b"b.png", "green")
    other.put(b"a.png", "red")
    assert plan(album, {b"a.png": facts(album, "red"), b"b.png": (1, 1)}).recognises(album.root)
    assert not plan(album, {b"a.png": (1, 1), b"c.png": facts(album, "red")}).recognises(album.root)
    made = plan(other, {b"a.png": facts(album, "red")})
    assert made.recognises(other.root)
    assert not made.recognises(album.root)


# All at once

NAMES = [b"a", b"a/b", b"a/b/c", b"a0", b"a/\xff", b"b", b"\xff/a", b"a.png"]
FACTS = st.tuples(st.integers(1, 2), st.integers(1, 2))


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    known=st.dictionaries(
        st.sampled_from(NAMES), st.tuples(FACTS, st.sampled_from(["ok", "failed", "vanished"]))
    ),
    disk=st.dictionaries(st.sampled_from(NAMES), FACTS),
    below=st.sampled_from([b"", b"a", b"a/b"]),
    trusted=st.booleans(),
    force=st.booleans(),
)
def test_any_disk_held_against_any_catalogue(
    ledger: Ledger,
    known: dict[bytes, tuple[Facts, str]],
    disk: dict[bytes, Facts],
    below: bytes,
    trusted: bool,
    force: bool,
) -> None:
    album = Album(ledger, ColourEncoder())
    with ledger.transaction():
        ledger.connection.execute("delete from images")
    for path, ((size, mtime), state) in known.items():
        album.put(path, "red", mtime=mtime, vector=True)
        ledger.connection.execute(
            "update images set size = ?, hash = path, status = ? where path = ?",
            (size, state, path),
        )

    def inside(path: bytes) -> bool:
        return not below or path == below or path.startswith(below + b"/")

    seen = {path: facts for path, facts in disk.items() if inside(path)}
    made = plan(album, seen, [Scope(album.root, below, trusted)], force=force)

    expected: dict[bytes, str | None] = {}
    reads: dict[bytes, bool] = {}
    unchanged = vanished = 0
    for path in known.keys() | seen.keys():
        now = seen.get(path)
        before, state = known.get(path, (None, "unknown"))
        if now is None:
            gone = trusted and inside(path)
            vanished += gone and state == "ok"
            after = {"ok": "vanished", "failed": None, "vanished": "vanished"}
            expected[path] = after[state] if gone else state
            continue
        same = now == before
        expected[path] = {"unknown": None, "vanished": "ok" if same else state}.get(state, state)
        if force or not same:
            reads[path] = force and before is not None
        else:
            unchanged += expected[path] == "ok"
    assert {path: status(album, path) for path in expected} == expected
    assert pending(made) == reads
    assert (made.unchanged, made.vanished_count()) == (unchanged, vanished)
