"""Tables fit the terminal, whatever the file names, and say what there is to say."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import RenderableType

from embedsearch.records import (
    EncoderInfo,
    Failure,
    Hit,
    IndexInfo,
    IndexReport,
    Model,
    Problem,
    Signal,
    Trial,
)
from embedsearch.render.table import (
    hits_table,
    index_summary,
    info_panel,
    models_table,
    plain_table,
    problems_table,
    shorten_middle,
    show,
    trials_table,
)

MINI = EncoderInfo(
    id="mini-0123456789ab",
    spec="mini",
    dim=256,
    has_text=True,
    licence="Apache-2.0",
    weights_hash="0" * 64,
    input_size=224,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    description="the encoder in the box",
)
NAMES = st.text(
    st.sampled_from("aé漢👩\u200d\ufe0f❤/. \n\x1b\udcff[]:") | st.characters(), min_size=1
)


def printed(
    *renderables: RenderableType, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    show(*renderables, file=out)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def hit(path: str, *signals: Signal, rank: int = 1, score: float = 0.3125) -> Hit:
    return Hit(rank, path, score, signals or (Signal("image", score),))


@pytest.mark.parametrize(
    ("path", "width", "shown"),
    [
        ("/home/ann/pictures/a.jpg", 24, "/home/ann/pictures/a.jpg"),  # fits
        ("/home/ann/pictures/a.jpg", 20, "/home/ann/pic…/a.jpg"),
        ("/home/ann/pictures/a.jpg", 7, "…/a.jpg"),  # only the name fits
        ("/p/a_very_long_file_name.jpg", 13, "/p/a…name.jpg"),  # the name itself is cut
        ("/写真/写真写真.jpg", 13, "/写…写真.jpg"),  # no wide character is halved
        ("/a/b.jpg", 1, "…"),
        ("/a/b.jpg", 0, ""),
    ],
)
def test_a_path_is_cut_in_its_middle_and_keeps_its_file_name(
    path: str, width: int, shown: str
) -> None:
    assert shorten_middle(path, width) == shown


def test_a_glyph_of_several_characters_is_never_torn() -> None:
    family = "👩‍👩‍👧"
    assert shorten_middle(family * 10, 7) == family + "…" + family * 2
    assert shorten_middle("e\u0301" * 10, 4) == "e\u0301…" + "e\u0301" * 2


@settings(deadline=None)
@given(NAMES, st.integers(0, 40))
def test_a_shortened_text_never_takes_more_cells_than_it_may(text: str, width: int) -> None:
    assert cell_len(shorten_middle(text, width)) <= width


def test_a_hit_is_shown_with_rank_score_path_and_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = (
        Signal("image", 0.31),
        Signal("object", 0.4, (1.0, 2.0, 3.0, 4.0), "dog"),
        Signal("text", 0.9, text="24\n"),
    )
    lines = printed(hits_table([hit("/p/a.jpg", *signals)]), width=80, monkeypatch=monkeypatch)
    assert lines[0].split() == ["#", "score", "picture", "signal"]
    assert lines[2].split(maxsplit=3) == [
        "1",
        "0.312",
        "/p/a.jpg",
        r"image, object: dog, text: “24\n”",
    ]


@settings(deadline=None)
@given(st.lists(NAMES.map("/".__add__), min_size=1, max_size=4), st.sampled_from([40, 80, 200]))
def test_a_table_of_hits_fits_the_terminal_and_carries_no_control_character(
    paths: list[str], width: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        table = hits_table(hit(path, rank=rank) for rank, path in enumerate(paths, 1))
        lines = printed(table, width=width, monkeypatch=monkeypatch)
    assert len(lines) == len(paths) + 2  # a header, a rule, and one line a hit
    assert all(cell_len(line) <= width for line in lines)
    assert not [c for line in lines for c in line if ord(c) < 32 or 0x7F <= ord(c) < 0xA0]


def test_markup_and_emoji_codes_in_a_name_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = printed(
        hits_table([hit("/[red]x[/red]/:smile:.jpg")]), width=80, monkeypatch=monkeypatch
    )
    assert "/[red]x[/red]/:smile:.jpg" in lines[2]


def test_in_a_pipe_a_path_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/" + "folder/" * 100 + "a.jpg"
    assert path in printed(hits_table([hit(path)]), width=None, monkeypatch=monkeypatch)[2]


def test_a_reader_that_has_seen_enough_ends_the_table_with_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    with pytest.raises(BrokenPipeError):
        show(hits_table([hit("/a.jpg")] * 1000), file=stream)
    with suppress(BrokenPipeError):
        stream.close()


def test_the_summary_counts_and_lists_at_most_twenty_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = tuple(Failure(f"/p/bad{n}.jpg", "decode", "not a picture") for n in range(23))
    report = IndexReport(
        new=1500,
        copies=3,
        failed=25,
        failures=failures,
        warnings=("the folder /mnt/x is not there",),
        seconds=3.0,
        interrupted=True,
    )
    text = "\n".join(printed(index_summary(report), width=80, monkeypatch=monkeypatch))
    assert "1,500  new" in text
    assert "0  vanished" in text
    assert "3.0 s, 500 pictures/s" in text
    assert "/p/bad19.jpg" in text
    assert "/p/bad20.jpg" not in text
    assert "and 5 more: embedsearch info --json" in text
    assert "Warning: the folder /mnt/x is not there" in text
    assert "Interrupted: what is done is kept" in text


def test_a_summary_without_failures_says_nothing_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(
        index_summary(IndexReport(unchanged=8, seconds=0.14)), width=80, monkeypatch=monkeypatch
    )
    assert [line.split() for line in lines[:7]] == [
        ["0", "new"],
        ["0", "changed"],
        ["0", "moved"],
        ["0", "copies"],
        ["8", "unchanged"],
        ["0", "vanished"],
        ["0", "failed"],
    ]
    assert lines[7:] == ["0.1 s"]


def test_info_shows_size_folders_encoders_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    info = IndexInfo(
        path="/indexes/default",
        pictures=15182,
        vanished=2,
        regions=15190,
        roots=("/photos", os.fsdecode(b"/mnt/\xff")),
        encoders=(MINI,),
        embeddings={MINI.id: 15190},
        bytes_on_disk=12_345_678,
        last_run={
            "started_at": "2026-01-01T10:00:00",
            "finished_at": None,
            "version": "0.1.0",
            "counts": {"new": 1200, "changed": 0, "failed": 1},
        },
        failures=(Failure("/photos/x.jpg", "read", "permission denied"),),
    )
    lines = printed(info_panel(info), width=100, monkeypatch=monkeypatch)
    assert [line.split(maxsplit=1) for line in lines[:4]] == [
        ["index", "/indexes/default"],
        ["pictures", "15,182 (2 vanished)"],
        ["regions", "15,190"],
        ["on", "disk   12.3 MB"],
    ]
    assert lines[5].strip() == r"/mnt/\xff"
    assert lines[6].split(maxsplit=1) == ["encoders", "mini-0123456789ab: 15,190 embeddings"]
    assert lines[7].split(maxsplit=2) == [
        "last",
        "run",
        "2026-01-01T10:00:00 to cut short: 1,200 new, 1 failed",
    ]
    assert lines[-1].split(maxsplit=2) == ["/photos/x.jpg", "read", "permission denied"]


def test_problems_are_listed_with_their_state_and_none_is_said_plainly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems = [
        Problem("vectors", "3 embeddings are missing", repaired=True),
        Problem("files", "the file is gone", "/p/a.jpg"),
    ]
    lines = printed(problems_table(problems), width=100, monkeypatch=monkeypatch)
    assert lines[2].startswith("vectors") and lines[2].endswith("repaired")
    assert "/p/a.jpg" in lines[3] and lines[3].endswith("open")
    assert printed(problems_table([]), width=100, monkeypatch=monkeypatch) == [
        "No problems: files, catalogue, vectors and encoders agree."
    ]


def test_the_models_table_keeps_the_encoder_id_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(MINI, "box", "CPU", 9_000_000, embeddings=1234)
    lines = printed(models_table([model]), width=80, monkeypatch=monkeypatch)
    assert lines[2].split()[:7] == [
        "mini",
        "mini-0123456789ab",
        "256",
        "yes",
        "9.0",
        "MB",
        "CPU",
    ]
    wide = printed(models_table([model]), width=None, monkeypatch=monkeypatch)
    assert "the box, 1,234 pictures; 224 px; Apache-2.0; the encoder in the box" in wide[2]


def test_the_trials_table_has_words_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    worked = Trial(12.34, 0.5, 90_000_000, (("dog", 0.812), ("puppy", 0.5)))
    models = [
        Model(MINI, "box", "CPU", None, trial=worked),
        Model(MINI, "index", "CPU", None, trial=replace(worked, words=None)),
        Model(MINI, "named", "CPU", None, trial=Trial(error="no weights")),
        Model(MINI, "named", "CPU", None),
    ]
    lines = printed(trials_table(models), width=120, monkeypatch=monkeypatch)[2:]
    for line, said in zip(
        lines, ("dog 0.81, puppy 0.50", "pictures only", "cannot be tried: no weights"), strict=True
    ):
        assert said in line
    assert "12.3 ms" in lines[0] and "0.5 s" in lines[0] and "90.0 MB" in lines[0]


def test_a_plain_table_sets_numbers_to_the_right_and_leaves_none_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = plain_table(("set", "mAP"), [("products", 0.5), ("a\nb", None)])
    lines = printed(table, width=80, monkeypatch=monkeypatch)
    assert lines[2].split() == ["products", "0.5"]
    assert lines[3] == r"a\nb"
