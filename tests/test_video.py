"""Videos: frames with their times, upright; shots; folders of frames; thumbnails of a moment."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import clips
import numpy as np
import pytest
from PIL import Image

from embedsearch.errors import EmbedSearchError, PictureError
from embedsearch.images.decode import decode
from embedsearch.images.files import content_hash, read, status
from embedsearch.images.frame_folder import frame_folder
from embedsearch.images.scan import scan
from embedsearch.images.shots import Shot, find_shots
from embedsearch.images.thumbnails import Thumbnails, thumbnail
from embedsearch.images.video import frame_at, is_video, open_video
from embedsearch.records import Image as IndexedImage

SUFFIXES = sorted(clips.CODECS)


def shots_of(path: Path, at_least: int = 32, **options: float) -> list[Shot]:
    with open_video(read(path)) as video:
        return list(find_shots(video, at_least, **options))


def shows(pixels: clips.Pixels, expected: clips.Pixels) -> bool:
    """Whether two pictures are the same but for what compression does."""
    return pixels.shape == expected.shape and np.abs(pixels.astype(int) - expected).mean() < 25


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_container_gives_all_its_frames_with_their_times(suffix: str, tmp_path: Path) -> None:
    frames = clips.moving_square(12)
    file = read(clips.write_clip(tmp_path / f"clip{suffix}", frames))
    assert is_video(file)
    with open_video(file) as video:
        assert (video.width, video.height) == clips.SIZE
        assert video.rate == pytest.approx(clips.RATE)
        seen = [(frame.time, frame.pixels(1000)) for frame in video.frames()]
    assert [time for time, _ in seen] == pytest.approx(
        [n / clips.RATE for n in range(12)], abs=0.01
    )
    assert all(shows(pixels, frame) for (_, pixels), frame in zip(seen, frames, strict=True))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_stands_for_a_video_is_its_first_frame_that_shows_something(
    suffix: str, tmp_path: Path
) -> None:
    black = [np.zeros((64, 96, 3), np.uint8)] * 5
    path = clips.write_clip(tmp_path / f"clip{suffix}", [*black, *clips.moving_square(5)])
    decoded = decode(path, 64)
    assert (decoded.width, decoded.height) == clips.SIZE
    if suffix == ".gif":  # a picture that moves: its first frame, as ever
        assert decoded.format == "GIF" and decoded.pixels.max() < 30
    else:
        assert (
            decoded.format == {".mp4": "MP4", ".mkv": "MKV", ".webm": "WebM", ".mov": "MOV"}[suffix]
        )
        assert shows(decoded.pixels, clips.moving_square(1)[0])


def test_frames_are_reduced_as_far_as_is_asked_for(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "clip.mp4", clips.moving_square(3))
    assert decode(path, 16).pixels.shape == (16, 24, 3)
    assert decode(path, 500).pixels.shape == (64, 96, 3), "nothing is enlarged"
    assert frame_at(read(path), 0.1, 32).shape == (32, 48, 3)


def test_the_frame_at_a_time_is_the_one_that_is_shown_then(tmp_path: Path) -> None:
    frames = list(clips.cuts(1, 2, 3, each=10))
    film = clips.write_clip(tmp_path / "clip.mp4", frames)
    folder = clips.write_frames(tmp_path / "frames", frames)
    for path in (film, folder):
        for seconds, number in ((0.0, 0), (0.95, 9), (1.0, 10), (1.26, 12), (2.9, 29), (99.0, 29)):
            pixels = frame_at(read(path), seconds, 64)
            assert shows(pixels, frames[number]), (path, seconds)
            assert not shows(pixels, frames[(number + 10) % 30])


def test_a_film_that_says_it_is_turned_is_seen_upright(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "clip.mp4", clips.moving_square(3))
    clips.turn(path)
    decoded = decode(path, 64)
    assert (decoded.width, decoded.height) == (64, 96)
    assert shows(decoded.pixels, np.rot90(clips.moving_square(1)[0], -1))


def test_a_shot_begins_where_the_picture_changes_at_once(tmp_path: Path) -> None:
    path = clips.write_clip(tmp_path / "clip.mp4", clips.cuts(1, 2, 3))
    shots = shots_of(path)
    assert [(round(shot.start, 1), round(shot.until, 1)) for shot in shots] == [
        (0, 2),
        (2, 4),
        (4, 6),
    ]
    for shot, seed in zip(shots, (1, 2, 3), strict=True):
        assert shot.start <= shot.at < shot.until
        assert shows(
            shot.pixels,
            clips.moving_square(20, seed=seed)[round((shot.at - shot.start) * 10)][::2, ::2],
        )


def test_a_shot_that_lasts_is_divided_only_where_it_goes_on_to_show_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = clips.write_clip(tmp_path / "still.mp4", [clips.scene(1)] * 40)
    assert [(shot.start, round(shot.until, 1)) for shot in shots_of(still, every=1.0)] == [(0, 4)]
    # One scene slowly becomes another: no cut, but not one picture either.
    slow = [
        (clips.scene(1) * (1 - part) + clips.scene(2) * part).astype(np.uint8)
        for part in np.linspace(0, 1, 40)
    ]
    slow_clip = clips.write_clip(tmp_path / "slow.mp4", slow)
    assert len(shots_of(slow_clip)) == 1, "four seconds are less than five"
    monkeypatch.setenv("EMBEDSEARCH_SHOT_SECONDS", "1")
    assert [round(shot.start) for shot in shots_of(slow_clip)] == [0, 1, 2, 3]
    monkeypatch.setenv("EMBEDSEARCH_SHOT_SECONDS", "often")
    with pytest.raises(EmbedSearchError, match=r"EMBEDSEARCH_SHOT_SECONDS is 'often'.*example 5"):
        shots_of(slow_clip)


def test_a_camera_that_turns_fast_makes_no_cut(tmp_path: Path) -> None:
    wide = clips.scene(1, (480, 64))
    places = np.cumsum(np.minimum(np.arange(45), 9))
    pan = [wide[:, place : place + 96] for place in places]
    assert np.abs(pan[40].astype(int) - pan[39]).mean() > 27, "what would be a cut"
    assert len(shots_of(clips.write_clip(tmp_path / "pan.mp4", pan))) == 1
    cut = clips.write_clip(tmp_path / "cut.mp4", [*pan[:5], *pan[30:35]])
    assert [round(shot.start, 1) for shot in shots_of(cut)] == [0, 0.5]


def test_what_can_be_read_of_a_film_that_is_cut_short_is_used(tmp_path: Path) -> None:
    whole = clips.write_clip(tmp_path / "whole.mkv", clips.cuts(1, 2, 3)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with open_video(read(tmp_path / "cut.mkv")) as video:
        assert video.declared == pytest.approx(6)
        times = [frame.time for frame in video.frames()]
    assert 10 < len(times) < 50
    assert 1 <= len(shots_of(tmp_path / "cut.mkv")) < 3


@pytest.mark.parametrize(
    ("suffix", "part", "says"),
    [
        (
            ".mp4",
            0.5,
            "MP4 is (damaged, or )?cut short",
        ),  # what says where the frames are is at its end
        (".mov", 0.9, "MOV is (damaged, or )?cut short"),
        (".mkv", 0.02, "MKV is (damaged|cut short)"),
        (".webm", 0.02, "WebM is (damaged|cut short)"),
    ],
)
def test_of_what_cannot_be_read_at_all_is_told_why(
    suffix: str, part: float, says: str, tmp_path: Path
) -> None:
    path = clips.write_clip(tmp_path / f"clip{suffix}", clips.cuts(1, 2))
    path.write_bytes(path.read_bytes()[: max(int(path.stat().st_size * part), 60)])
    with pytest.raises(PictureError, match=says) as caught:
        decode(path, 32)
    assert caught.value.stage == "decode"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(PictureError, match="holds no moving picture"):
        decode(tmp_path / "sound.mkv", 32)


def test_frames_of_too_many_pixels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.write_clip(tmp_path / "clip.mp4", clips.moving_square(2))
    monkeypatch.setenv("EMBEDSEARCH_MAX_PIXELS", "6000")
    with pytest.raises(PictureError, match="6,144 pixels, more than the limit of 6,000"):
        decode(path, 32)


def test_when_a_film_was_taken_is_kept(tmp_path: Path) -> None:
    path = clips.write_clip(
        tmp_path / "clip.mp4", clips.moving_square(2), creation_time="2024-05-06T07:08:09.000000Z"
    )
    assert decode(path, 32).taken_at == "2024-05-06T07:08:09+00:00"


def test_a_gif_of_one_frame_is_a_picture(tmp_path: Path) -> None:
    Image.fromarray(clips.scene(1)).save(tmp_path / "one.gif")
    assert not is_video(read(tmp_path / "one.gif"))
    (tmp_path / "broken.gif").write_bytes(b"GIF89a" + bytes(9))
    assert not is_video(read(tmp_path / "broken.gif"))


def test_the_holes_of_a_gif_that_moves_show_white(tmp_path: Path) -> None:
    frames = []
    for shade in (50, 200):
        rgba = np.zeros((32, 32, 4), np.uint8)
        rgba[8:24, 8:24] = (shade, 0, 0, 255)
        frames.append(Image.fromarray(rgba))
    frames[0].save(
        tmp_path / "holes.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2
    )
    with open_video(read(tmp_path / "holes.gif")) as video:
        for frame, shade in zip(video.frames(), (50, 200), strict=True):
            pixels = frame.pixels(32)
            assert (pixels[0, 0] == 255).all()
            assert pixels[16, 16].tolist() == [shade, 0, 0]


# Folders of frames


def test_a_folder_of_frames_is_a_video_only_where_a_file_says_so(tmp_path: Path) -> None:
    folder = clips.write_frames(tmp_path / "clip", clips.cuts(1, 2, each=10), fps=5)
    file = read(folder)
    assert is_video(file)
    assert [(round(shot.start, 1), round(shot.until, 1)) for shot in shots_of(folder)] == [
        (0, 2),
        (2, 4),
    ]
    decoded = decode(folder, 64)
    assert (decoded.width, decoded.height, decoded.format) == (96, 64, "frames")
    assert (decoded.pixels == clips.moving_square(1, seed=1)[0]).all()
    (folder / "seqinfo.json").unlink()
    with pytest.raises(PictureError, match="a folder, not a picture file"):
        read(folder)


@pytest.mark.parametrize(
    "mark",
    [
        "{}", "[]", "5", '{"fps": 0}', '{"fps": "25"}', '{"fps": true}', '{"fps": 1e9}', "not JSON",
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_mark_that_does_not_tell_the_frames_a_second_makes_no_video(
    mark: str, tmp_path: Path
) -> None:
    folder = clips.write_frames(tmp_path / "clip", clips.moving_square(2))
    (folder / "seqinfo.json").write_text(mark)
    assert frame_folder(bytes(folder)) is None


def test_a_sequence_in_the_layout_of_motchallenge_is_one_video(tmp_path: Path) -> None:
    sequence = tmp_path / "root" / "MOT17-04"
    clips.write_frames(sequence / "img1", clips.cuts(1, 2, each=10))
    (sequence / "img1" / "seqinfo.json").unlink()
    told = "[Sequence]\nname=MOT17-04\nimDir=img1\nframeRate=5\nseqLength=20\nimExt=.png\n"
    (sequence / "seqinfo.ini").write_text(told)
    (sequence / "gt").mkdir()
    shutil.copy(sequence / "img1" / "000001.png", sequence / "gt" / "poster.png")
    assert found(tmp_path / "root") == ["MOT17-04", "MOT17-04/gt/poster.png"]
    assert [(round(shot.start, 1), round(shot.until, 1)) for shot in shots_of(sequence)] == [
        (0, 2),
        (2, 4),
    ]
    decoded = decode(sequence, 64)
    assert (decoded.width, decoded.height, decoded.format) == (96, 64, "frames")


@pytest.mark.parametrize(
    "told",
    [
        "", "frameRate=5", "[Sequence]\nframeRate=0\n", "[Sequence]\nframeRate=nan\n",
        "[Sequence]\nframeRate=5\nimDir=..\n", "[Sequence]\nframeRate=5\nimDir=/etc\n",
        "[Sequence]\nframeRate=5\nimDir=elsewhere\n", "[Sequence]\nimDir=img1\n", "\udcff",
    ],
)  # fmt: skip
def test_a_sequence_that_tells_no_frames_is_a_folder_of_photos(told: str, tmp_path: Path) -> None:
    clips.write_frames(tmp_path / "clip" / "img1", clips.moving_square(2))
    (tmp_path / "clip" / "img1" / "seqinfo.json").unlink()
    (tmp_path / "clip" / "seqinfo.ini").write_text(told, "utf-8", "surrogateescape")
    assert frame_folder(bytes(tmp_path / "clip")) is None
    assert found(tmp_path / "clip") == ["img1/000001.png", "img1/000002.png"]


def test_a_photo_beside_the_frames_makes_it_a_folder_of_photos(tmp_path: Path) -> None:
    folder = clips.write_frames(tmp_path / "clip", clips.moving_square(2))
    assert frame_folder(bytes(folder)) is not None
    (folder / "notes.txt").write_text("anything else may lie there")
    assert frame_folder(bytes(folder)) is not None
    shutil.copy(folder / "000001.png", folder / "holiday.PNG")
    assert frame_folder(bytes(folder)) is None


def found(path: Path) -> list[str]:
    failures: list[bytes] = []
    files = scan(bytes(path), on_failure=lambda path, reason: failures.append(path))
    names = [file.path.decode() for file in files]
    assert not failures
    return names


def test_a_scan_finds_films_and_folders_of_frames_as_one_thing_each(tmp_path: Path) -> None:
    clips.write_frames(tmp_path / "trips" / "clip", clips.moving_square(3))
    clips.write_clip(tmp_path / "trips" / "FILM.MP4", clips.moving_square(3))
    shutil.copytree(tmp_path / "trips" / "clip", tmp_path / "photos")
    (tmp_path / "photos" / "seqinfo.json").unlink()
    (tmp_path / "trips" / "clip" / "below").mkdir()
    shutil.copy(tmp_path / "photos" / "000001.png", tmp_path / "trips" / "clip" / "below" / "x.png")
    assert found(tmp_path) == [
        *(f"photos/00000{number}.png" for number in (1, 2, 3)),
        "trips/FILM.MP4",
        "trips/clip",
        "trips/clip/below/x.png",
    ]
    assert found(tmp_path / "trips" / "clip") == ["clip"], "named itself"


def test_a_folder_of_frames_has_changed_where_a_frame_or_its_rate_has(tmp_path: Path) -> None:
    folder = clips.write_frames(tmp_path / "clip", clips.moving_square(3))
    other = shutil.copytree(folder, tmp_path / "other")
    first = content_hash(read(folder))
    assert content_hash(read(other)) == first
    size, mtime_ns = status(folder)
    assert size == sum(frame.stat().st_size for frame in folder.glob("*.png"))
    assert mtime_ns == max(frame.stat().st_mtime_ns for frame in folder.iterdir())
    (other / "seqinfo.json").write_text(json.dumps({"fps": 12}))
    assert content_hash(read(other)) != first
    Image.fromarray(clips.scene(9)).save(folder / "000002.png")
    assert content_hash(read(folder)) != first


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = clips.write_frames(tmp_path / "clip", clips.moving_square(3))
    (folder / "000002.png").write_bytes(b"no picture")
    with open_video(read(folder)) as video, pytest.raises(PictureError, match=r"frame 000002\.png"):
        [frame.pixels(32) for frame in video.frames()]


# Thumbnails


def as_pixels(jpeg: bytes) -> clips.Pixels:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def test_a_thumbnail_shows_the_moment_or_a_part_of_it(tmp_path: Path) -> None:
    frames = list(clips.cuts(1, 2, each=10))
    for path in (
        clips.write_clip(tmp_path / "clip.webm", frames),
        clips.write_clip(tmp_path / "clip.gif", frames),
        clips.write_frames(tmp_path / "clip", frames),
    ):
        assert shows(as_pixels(thumbnail(path)), frames[0])
        assert shows(as_pixels(thumbnail(path, at=1.5)), frames[15])
        square = as_pixels(thumbnail(path, at=1.5, box=(10, 20, 16, 16)))
        assert square.shape == (16, 16, 3)
        assert shows(square, frames[15][20:36, 10:26])
        assert as_pixels(thumbnail(path, 48, at=1.5)).shape == (32, 48, 3)


def test_the_time_of_a_picture_says_nothing(tmp_path: Path) -> None:
    Image.fromarray(clips.scene(1)).save(tmp_path / "photo.png")
    assert thumbnail(tmp_path / "photo.png", at=3.0) == thumbnail(tmp_path / "photo.png")


def test_thumbnails_are_kept_by_their_moment(tmp_path: Path) -> None:
    path = clips.write_frames(tmp_path / "clip", clips.cuts(1, 2, each=10))
    kept = Thumbnails(tmp_path / "thumbnails")
    first, later = kept.get(path), kept.get(path, at=1.5)
    assert first != later
    size, mtime_ns = status(path)
    image = IndexedImage(1, str(path), size, mtime_ns, content_hash(read(path)), 96, 64, None, "ok")
    assert kept.kept(image, at=1.5) == later
    assert kept.kept(image, at=0.5) is None
    assert kept.of(image, at=1.5) == later
    shutil.rmtree(path)
    assert kept.kept(image) == first
