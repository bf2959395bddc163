"""Objects followed through videos, and how well that is measured."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import clips
import numpy as np
import pytest
from colour_detector import ColourDetector
from colour_encoder import COLOURS, ColourEncoder
from PIL import Image

from embedsearch.enrichers import registry
from embedsearch.enrichers import track as track_module
from embedsearch.enrichers.appearance import Templates, mixed
from embedsearch.enrichers.base import Findings, Pixels
from embedsearch.enrichers.following import Sighting, Track
from embedsearch.enrichers.relinking import relinked
from embedsearch.enrichers.template import follow_box
from embedsearch.enrichers.track import Shown, Tracking, crops
from embedsearch.errors import DataError, EnricherError
from embedsearch.records import Detection
from embedsearch.training.evaluate import evaluate_one_object, evaluate_tracking
from embedsearch.training.evaluate.tracking import There, tracking_figures

W, H = 160, 90
Thing = tuple[str, float, float, int, int]
"""Colour, x, y, width, height."""


def frame(*things: Thing) -> Pixels:
    picture = Image.new("RGB", (W, H), "white")
    for colour, x, y, w, h in things:
        picture.paste(COLOURS[colour], (round(x), round(y), round(x) + w, round(y) + h))
    return np.array(picture)


class Things(ColourDetector):
    """Finds rectangles of any colour, and calls each of them a thing."""

    def enrich(self, picture: Pixels) -> Findings:
        found = super().enrich(picture).objects
        return Findings(objects=tuple(Detection("thing", 0.9, one.box) for one in found))


def followed(frames: Sequence[Pixels], *, looks: bool = True, rate: float = 25) -> list[Track]:
    shown = (Shown(number / rate, pixels) for number, pixels in enumerate(frames))
    embed = ColourEncoder().encode_images if looks else None
    return Tracking(Things()).follow(shown, rate, embed)


def crossing() -> list[Pixels]:
    """Two things that walk towards each other, meet, and go back where they came from."""
    frames = []
    for step in range(40):
        way = step if step < 20 else 39 - step
        frames.append(
            frame(("red", 10 + 3.2 * way, 30, 20, 30), ("blue", 130 - 3.2 * way, 30, 20, 30))
        )
    return frames


def colour_at(frames: Sequence[Pixels], one: Sighting) -> str:
    x, y, w, h = one.box
    pixel = frames[one.frame - 1][int(y + h / 2), int(x + w / 2)]
    return next(name for name, rgb in COLOURS.items() if (pixel == rgb).all())


def test_what_moves_is_one_track_with_its_times_and_its_mean_look() -> None:
    frames = [frame(("red", 5 + 3 * n, 20, 20, 30)) for n in range(30)]
    (track,) = followed(frames)
    assert track.label == "thing"
    assert len(track.sightings) >= 28, "a track is sure of itself after two frames"
    assert track.sightings[-1].time == pytest.approx(29 / 25)
    assert track.sightings[-1].box == (92.0, 20.0, 20.0, 30.0)
    look = track.look
    assert look is not None
    red = ColourEncoder().encode_images([frame(("red", 0, 0, W, H))])[0]
    assert float(look @ red) > 0.99


def test_two_that_meet_and_part_are_told_apart_by_how_they_look() -> None:
    frames = crossing()
    tracks = followed(frames)
    assert [len({colour_at(frames, one) for one in track.sightings}) for track in tracks] == [1, 1]


def test_what_was_hidden_for_long_is_still_the_same() -> None:
    path = [(10 + 2 * n, 30) for n in range(60)]
    frames = [
        frame() if 15 <= n < 55 else frame(("red", x, y, 20, 30)) for n, (x, y) in enumerate(path)
    ]
    frames += [frame(("red", 128, 30, 20, 30))] * 5
    (track,) = followed(frames, rate=20)
    assert track.sightings[0].time < 0.1 and track.sightings[-1].time == pytest.approx(64 / 20)
    assert len(followed(frames, rate=20, looks=False)) == 2, "by its place alone it is another"


def test_another_that_appears_where_one_was_lost_is_another() -> None:
    frames = (
        [frame(("red", 60, 30, 20, 30))] * 10
        + [frame()] * 45
        + [frame(("blue", 60, 30, 20, 30))] * 10
    )
    assert [len(track.sightings) >= 8 for track in followed(frames, rate=20)] == [True, True]


def test_a_flash_is_no_track() -> None:
    frames = [frame()] * 5 + [frame(("red", 50, 20, 20, 20))] * 2 + [frame()] * 5
    assert followed(frames) == []


def test_a_camera_that_moves_does_not_lose_what_stands() -> None:
    ground = clips.scene(3, (640, 96))[:H] // 2 + 100
    frames = []
    for step in range(16):
        picture = ground[:, 9 * step : 9 * step + W].copy()
        picture[30:60, 150 - 9 * step : 158 - 9 * step] = COLOURS["red"]
        frames.append(picture)

    class Red(ColourDetector):
        def enrich(self, picture: Pixels) -> Findings:
            found = super().enrich(picture).objects
            return Findings(objects=tuple(one for one in found if one.label == "red"))

    shown = [Shown(number / 25, pixels) for number, pixels in enumerate(frames)]
    (track,) = Tracking(Red()).follow(shown, 25, None)
    assert len(track.sightings) == 16, "although its boxes in two frames never touch"


def track(label: str, *sightings: tuple[int, float, Sequence[float]], covered: float = 0) -> Track:
    """Of sightings as (frame, x, look), ten frames a second."""
    made = Track(label)
    for frame, x, look in sightings:
        vector = np.array(look, np.float32) / np.float32(np.linalg.norm(look))
        made.add(Sighting(frame, frame / 10, (x, 10.0, 10.0, 20.0), 0.9, covered), vector)
    return made


def test_the_best_sighting_is_large_sure_and_free() -> None:
    dog = track("dog", (1, 0, [1, 0]))
    dog.go_on_with(track("dog", (2, 2, [0, 1]), covered=0.8))
    assert dog.best.frame == 1
    look = dog.look
    assert look is not None and look[0] > 4 * look[1], "what is covered counts for less"
    assert np.linalg.norm(look) == pytest.approx(1)
    assert Track("dog", [Sighting(1, 0.1, (0, 0, 1, 1), 0.5)]).look is None


def test_of_several_that_could_go_on_the_likest_does() -> None:
    lost = track("dog", *((n, 10, [1, 0.1]) for n in (1, 2, 3)))
    same = track("dog", *((n, 20, [1, 0.2]) for n in (8, 9)))
    less = track("dog", *((n, 12, [1, 0.6]) for n in (6, 7)))
    linked = relinked([lost, same, less])
    assert [[one.frame for one in each.sightings] for each in linked] == [[1, 2, 3, 8, 9], [6, 7]]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (track("cat", (8, 20, [1, 0])), "another label"),
        (track("dog", (8, 20, [0, 1])), "another look"),
        (track("dog", (8, 300, [1, 0])), "too far"),
        (track("dog", (80, 20, [1, 0])), "too late"),
        (track("dog", (3, 20, [1, 0])), "at the same time"),
    ],
)
def test_what_does_not_go_on_is_not_linked(other: Track, why: str) -> None:
    lost = track("dog", *((n, 10, [1, 0]) for n in (1, 2, 3)))
    assert [len(each.sightings) for each in relinked([lost, other])] == [3, 1], why


def test_nothing_is_followed_across_a_cut() -> None:
    frames = [frame(("red", 40, 20, 20, 30))] * 12
    shown = [Shown(n / 25, pixels, is_cut=n == 6) for n, pixels in enumerate(frames)]
    tracks = Tracking(Things()).follow(shown, 25, ColourEncoder().encode_images)
    seen = [[one.frame for one in each.sightings] for each in tracks]
    assert seen == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]


def test_a_template_follows_how_a_thing_looks_but_not_what_hides_it() -> None:
    templates = Templates()
    red, blue = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    templates.see(1, red, 0.9, 0.0)
    for score, covered in ((0.3, 0.0), (0.9, 0.8)):
        templates.see(1, blue, score, covered)
        assert templates.get(1) is not None and (templates.get(1) == red).all()
    for _ in range(30):
        templates.see(1, blue, 0.9, 0.1)
    known = templates.get(1)
    assert known is not None and known[1] > 0.99
    assert np.linalg.norm(known) == pytest.approx(1)
    assert templates.get(2) is None


def test_looks_count_only_where_boxes_touch_and_both_are_known() -> None:
    red, blue = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    overlap = np.array([[0.6, 0.4, 0.0], [0.2, 0.2, 0.2]])
    result = mixed(overlap, [red, None], [blue, red, red])
    assert result[0].tolist() == pytest.approx([0.24, 0.76, 0.0])
    assert result[1].tolist() == pytest.approx([0.2, 0.2, 0.2])


def test_a_crop_that_lies_outside_is_the_nearest_pixel() -> None:
    picture = frame(("red", 150, 80, 10, 10))
    inside, outside = crops(picture, [(10.0, 5.0, 20.0, 30.0), (500.0, 400.0, 5.0, 5.0)])
    assert inside.shape == (30, 20, 3)
    assert outside.tolist() == [[list(COLOURS["red"])]]


def test_a_spec_names_detector_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(stage: str, spec: str | None, device: str) -> ColourDetector:
        asked.append((stage, spec, device))
        return ColourDetector()

    real = track_module.load
    monkeypatch.setattr(registry, "find", load)
    tracking = real("botsort?detector=yolo:dogs.onnx&labels=red,blue&every=3", "cpu")
    assert isinstance(tracking, Tracking)
    assert asked == [("detect", "yolo:dogs.onnx", "cpu")]
    picture = frame(("red", 10, 10, 20, 20), ("green", 60, 10, 20, 20))
    assert [one.label for one in tracking.detect(picture)] == ["red"]
    assert tracking.enrich(picture) == Findings()
    assert tracking.step(25) == 3
    every = real("botsort", "cpu")
    assert isinstance(every, Tracking)
    assert [every.step(rate) for rate in (10, 15, 30, 60)] == [1, 1, 2, 4]
    assert tracking.info.stage == "track"
    assert tracking.info.id != every.info.id, "what is followed is a part of what it is"
    for wrong, says in (
        ("botsort?speed=3", "'speed' is not known"),
        ("botsort?every=x", "every=x"),
    ):
        with pytest.raises(EnricherError, match=says):
            real(wrong, "cpu")


def test_a_detector_that_needs_the_encoder_of_the_index_gets_it() -> None:
    tracking = registry.load("track", "botsort?detector=rcnn?labels=red", "cpu", ColourEncoder())
    assert isinstance(tracking, Tracking)
    assert tracking.detector.info.labels == ("red",)
    with pytest.raises(EnricherError, match="with an encoder, and here is none"):
        registry.load("track", "botsort?detector=rcnn?labels=red", "cpu")


def test_trackers_are_loaded_only_where_something_is_followed() -> None:
    told = "import sys, embedsearch.enrichers.track, embedsearch.enrichers.template; "
    told += "print(sorted({'trackers', 'supervision', 'cv2', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_library_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(Exception, match=r'pip install "embedsearch\[video\]"'):
        followed([frame()])


# One object


def test_one_object_is_followed_as_it_moves_and_grows() -> None:
    frames, places = [], []
    texture = clips.scene(5, (64, 64))
    for step in range(16):
        side = round(24 * 1.02**step)
        x, y = 15 + 3 * step, 20 + step
        picture = np.full((120, 200, 3), 90, np.uint8)
        picture[::7] = 140
        picture[y : y + side, x : x + side] = np.array(
            Image.fromarray(texture).resize((side, side))
        )
        frames.append(picture)
        places.append((x, y, side))
    found = list(follow_box(frames, (15.0, 20.0, 24.0, 24.0)))
    assert found[0] == (15.0, 20.0, 24.0, 24.0)
    assert list(follow_box(frames, (15.0, 20.0, 24.0, 24.0))) == found, "deterministic"
    for (x, y, side), box in zip(places, found, strict=True):
        assert abs(box[0] + box[2] / 2 - x - side / 2) < 6
        assert abs(box[1] + box[3] / 2 - y - side / 2) < 6
    assert found[-1][2] > 1.15 * 24


# Measuring


def clip(
    folder: Path, frames: Sequence[Pixels], rows: Sequence[Sequence[object]], **info: object
) -> Path:
    clips.write_frames(folder, frames)
    with (folder / "gt.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "id", "label", "x", "y", "w", "h", "visibility"])
        writer.writerows(rows)
    return folder


def test_a_perfect_tracker_has_perfect_figures_and_each_fault_costs() -> None:
    there = {
        n: [
            There(1, "dog", (10.0 * n, 0, 10, 10), 1.0),
            There(2, "dog", (10.0 * n, 50, 10, 10), 1.0),
        ]
        for n in range(1, 11)
    }
    right = {n: [(7, one[0].box), (8, one[1].box)] for n, one in there.items()}
    assert tracking_figures(there, right) == {"MOTA": 1.0, "IDF1": 1.0, "id_switches": 0}
    swapped = {n: [(7, one[n > 5].box), (8, one[n <= 5].box)] for n, one in there.items()}
    assert tracking_figures(there, swapped) == {
        "MOTA": pytest.approx(1 - 2 / 20), "IDF1": 0.5, "id_switches": 2,
    }  # fmt: skip
    half = {n: found[:1] for n, found in right.items()}
    assert tracking_figures(there, half)["MOTA"] == pytest.approx(0.5)
    too_many = {n: [*found, (9, (500.0, 500.0, 10.0, 10.0))] for n, found in right.items()}
    assert tracking_figures(there, too_many)["MOTA"] == pytest.approx(0.5)
    assert tracking_figures(there, {}) == {"MOTA": 0.0, "IDF1": 0.0, "id_switches": 0}


def test_what_is_hidden_counts_neither_way() -> None:
    there = {1: [There(1, "dog", (0, 0, 10, 10), 1.0), There(2, "dog", (50, 0, 10, 10), 0.2)]}
    for boxes in (
        [(1, (0.0, 0.0, 10.0, 10.0))],
        [(1, (0.0, 0.0, 10.0, 10.0)), (2, (51.0, 0.0, 10.0, 10.0))],
    ):
        assert tracking_figures(there, {1: boxes})["MOTA"] == 1.0


def test_a_clip_is_measured_with_a_detector_and_with_given_boxes(tmp_path: Path) -> None:
    frames = crossing()
    rows: list[list[object]] = []
    for number in range(1, 41):
        way = number - 1 if number <= 20 else 40 - number
        rows.append([number, 1, "red", 10 + 3.2 * way, 30, 20, 30, 1.0])
        rows.append([number, 2, "blue", 130 - 3.2 * way, 30, 20, 30, ""])
    folder = clip(tmp_path / "clip", frames, rows)
    encoder = ColourEncoder()
    found = evaluate_tracking(folder, Tracking(ColourDetector()), encoder)
    given = evaluate_tracking(folder, None, encoder)
    for figures in (found, given):
        assert figures["MOTA"] > 0.85 and figures["IDF1"] > 0.9 and figures["id_switches"] == 0
    assert evaluate_tracking(folder, None, None)["MOTA"] > 0.85


def test_one_object_of_a_clip_is_measured_from_its_first_box(tmp_path: Path) -> None:
    frames = clips.moving_square(12)
    rows = [[n, 4, "square", 2 * (n - 1), 20, 16, 16, ""] for n in range(1, 13)]
    folder = clip(tmp_path / "clip", frames, rows)
    assert evaluate_one_object(folder)["mean_iou"] > 0.6
    with pytest.raises(DataError, match="in one frame only"):
        evaluate_one_object(clip(tmp_path / "short", frames[:2], rows[:1]))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([["one", 1, "dog", 0, 0, 5, 5, 1]], "line 2: 'frame' is no number"),
        ([[1, 1, "dog", 0, 0, "nan", 5, 1]], "line 2: 'w' is no number"),
        ([[1, 1, "", 0, 0, 5, 5, 1]], "line 2: 'label' is missing"),
    ],
)
def test_ground_truth_that_is_wrong_is_named_by_its_line(
    rows: list[list[object]], says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        evaluate_tracking(clip(tmp_path / "clip", [frame()] * 2, rows), None, None)


def test_a_folder_that_is_no_video_is_refused(tmp_path: Path) -> None:
    folder = clip(tmp_path / "clip", [frame()] * 2, [[1, 1, "dog", 0, 0, 5, 5, 1]])
    (folder / "seqinfo.json").unlink()
    with pytest.raises(DataError, match=r"no folder of frames.*seqinfo\.json"):
        evaluate_tracking(folder, None, None)
    (folder / "seqinfo.json").write_text(json.dumps({"fps": 25}))
    (folder / "000002.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"frame 000002\.png"):
        evaluate_tracking(folder, None, None)
