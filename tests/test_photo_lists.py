"""Photos to train on, from folders, tables and captions, and how they are parted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_training import draw_classes

from embedsearch.errors import DataError
from embedsearch.training.data.photo_lists import read_photo_list, readable, split, thinned
from embedsearch.training.data.photos import Photo


def photo(label: str | None, number: int) -> Photo:
    captions = () if label else ("a caption",)
    return Photo(Path(f"{number}.jpg"), "", (label,) if label else (), captions)


def test_a_folder_a_class_gives_the_names_of_its_folders(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "photos", each=2)
    (folder / "red" / "deeper").mkdir()
    (folder / "red" / "0.png").rename(folder / "red" / "deeper" / "0.png")
    (folder / "stray.png").write_bytes((folder / "blue" / "0.png").read_bytes())
    (folder / "red" / "notes.txt").write_text("no picture")
    photos = read_photo_list(folder)
    assert (
        sorted(photo.names for photo in photos)
        == [("blue",)] * 2 + [("green",)] * 2 + [("red",)] * 2
    )
    assert all(photo.file.is_file() for photo in photos)


def test_a_table_names_files_beside_it_and_may_be_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file,set,label\na.jpg,x,sea_horse\nb.jpg,y,dog\nc.jpg,x,dog\n")
    photos = read_photo_list(path, "set=x")
    assert [(p.file, p.names) for p in photos] == [
        (tmp_path / "a.jpg", ("sea horse",)),
        (tmp_path / "c.jpg", ("dog",)),
    ]
    with pytest.raises(DataError, match="holds no photo with set=z"):
        read_photo_list(path, "set=z")
    with pytest.raises(DataError, match="line 2: has no 'kind'"):
        read_photo_list(path, "kind=x")


def test_json_lines_may_mix_labels_and_captions(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    lines = [{"file": "a.jpg", "label": "dog"}, {"file": "b.jpg", "captions": ["one", "two"]}]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    labelled, captioned = read_photo_list(path)
    assert (labelled.label, captioned.label) == ("dog", None)
    assert captioned.captions == ("one", "two")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "name,label\n", "must name the columns file and label"),
        ("a.csv", "file,label\nx.jpg,\n", "line 2: not a training photo"),
        ("a.jsonl", '{"file": "x.jpg"}\n', "neither label nor captions"),
        ("a.jsonl", "[]\n", "line 1: not a JSON object"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.jsonl", "", "holds no photo"),
    ],
)
def test_a_list_that_is_wrong_says_where(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read_photo_list(tmp_path / name)


def test_a_folder_without_classes_and_a_path_without_anything_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Make one for each class"):
        read_photo_list(tmp_path)
    with pytest.raises(DataError, match=r"missing\.csv: cannot be read"):
        read_photo_list(tmp_path / "missing.csv")


@given(st.lists(st.sampled_from(["dog", "cat", "sun", None]), min_size=1), st.floats(0, 0.9))
def test_every_photo_is_trained_on_or_held_out_and_every_label_is_held_out_in_part(
    labels: list[str | None], share: float
) -> None:
    photos = [photo(label, number) for number, label in enumerate(labels)]
    try:
        kept, held = split(photos, share, 0)
    except DataError:
        assert len(photos) == 1 or share > 0.5
        return
    assert sorted(kept + held) == list(range(len(photos)))
    assert split(photos, share, 0) == (kept, held)
    for label in set(labels):
        members = [n for n, other in enumerate(labels) if other == label]
        inside = len(set(members) & set(held))
        if share and len(members) > 1:
            assert inside == max(1, round(len(members) * share))
        else:
            assert inside == (round(len(members) * share) if share else 0)


def test_of_each_label_no_more_than_so_many_are_kept_and_captions_all() -> None:
    labels = ["dog"] * 5 + ["cat"] * 2 + [None] * 3
    photos = [photo(label, number) for number, label in enumerate(labels)]
    kept = thinned(photos, range(len(photos)), 2, seed=0)
    assert [labels[n] for n in kept] == ["dog"] * 2 + ["cat"] * 2 + [None] * 3
    assert kept == thinned(photos, range(len(photos)), 2, seed=0)
    assert set(thinned(photos, range(len(photos)), 3, seed=0)) >= set(kept)


def test_what_cannot_be_decoded_is_told_and_left_out_before_training(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "photos", each=2)
    (folder / "red" / "0.png").write_text("no picture")
    (folder / "red" / "1.png").write_bytes((folder / "red" / "1.png").read_bytes()[:60])
    told: list[str] = []
    kept = readable(read_photo_list(folder), 2, told.append)
    assert len(kept) == 4 and {photo.label for photo in kept} == {"blue", "green"}
    assert len(told) == 2
    assert all("left out" in line and "/red/" in line for line in told)
    with pytest.raises(DataError, match="none of 1 photos can be read"):
        readable([photo("dog", 1)], 1, told.append)
