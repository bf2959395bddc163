"""``tracking``: are objects followed through a clip, each as the one that it is?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.encoders.base import Encoder
from embedsearch.enrichers.following import Track
from embedsearch.enrichers.template import follow_box
from embedsearch.enrichers.track import Shown, Tracking, follow_detections
from embedsearch.errors import DataError, MissingExtraError, PictureError
from embedsearch.images.files import read
from embedsearch.images.frame_folder import MARK
from embedsearch.images.video import open_video
from embedsearch.records import Box, Detection
from embedsearch.training.evaluate.ground_truth import Progress, Row, read_csv, silent

Boxes = Literal["detector", "gt"]
HIDDEN = 0.25
"""Objects of which less is to be seen count neither way."""
GIVEN = 0.4
"""With given boxes, a tracker gets those of which at least so much is to be seen."""
MATCH = 0.5
"""The overlap (IoU) from which on a box is that of an object."""
_ALL = 1 << 30
"""Frames are looked at with all of their pixels: the boxes of ground truth are in these."""
_COLUMNS = ("frame", "id", "label", "x", "y", "w", "h", "visibility")


@dataclass(frozen=True, slots=True)
class There:
    """An object that is in a frame."""

    number: int
    label: str
    box: Box
    visibility: float


Truth = dict[int, list[There]]
"""By frame, the first being 1."""
Followed = dict[int, list[tuple[int, Box]]]
"""By frame, the number and box of what was followed."""


def evaluate_tracking(
    clip: Path,
    tracking: Tracking | None,
    encoder: Encoder | None,
    *,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure on a folder of frames with ``gt.csv``: ``{"MOTA", "IDF1", "id_switches"}``.

    ``tracking`` finds the boxes; None: those of the ground truth are given. ``encoder`` makes looks
    count; None: places alone. Only labels that the ground truth has are followed. The measures are
    CLEAR's (Bernardin and Stiefelhagen, 2008) and IDF1 (Ristani et al., 2016), as the library
    ``trackers`` computes them. Raises :class:`~embedsearch.errors.DataError`.
    """
    truth = read_truth(clip)
    labels = {one.label for frame in truth.values() for one in frame}

    def boxes(number: int, shown: Shown) -> list[Detection]:
        progress(number, len(truth))
        if tracking is not None:
            return [one for one in tracking.detect(shown.pixels) if one.label in labels]
        return [
            Detection(one.label, 1.0, one.box)
            for one in truth.get(number, ())
            if one.visibility >= GIVEN
        ]

    rate, frames = clip_frames(clip)
    detected = ((shown, boxes(number, shown)) for number, shown in enumerate(frames, 1))
    embed = None if encoder is None else encoder.encode_images
    tracks = follow_detections(detected, rate, embed)
    return tracking_figures(truth, by_frame(tracks))


def read_truth(clip: Path) -> Truth:
    """The objects of a clip by frame. Raises :class:`~embedsearch.errors.DataError`."""
    truth: Truth = {}
    for row in read_csv(clip / "gt.csv", _COLUMNS):
        frame = int(_number(row, "frame"))
        x, y, w, h = (_number(row, side) for side in ("x", "y", "w", "h"))
        visibility = 1.0 if not row.values["visibility"] else _number(row, "visibility")
        there = There(int(_number(row, "id")), row.text("label"), (x, y, w, h), visibility)
        truth.setdefault(frame, []).append(there)
    return truth


def clip_frames(clip: Path) -> tuple[float, Iterator[Shown]]:
    """Frames a second, and the frames. Raises :class:`~embedsearch.errors.DataError`."""
    try:
        file = read(clip)
    except PictureError as error:
        raise DataError(
            f"{clip}: no folder of frames: 000001.jpg and so on, and {MARK.decode()} that says how "
            f'many are shown a second, {{"fps": 25}} ({error})'
        ) from error
    if file.frames is None:
        raise DataError(f"{clip}: a file; name the folder of frames")
    rate = file.frames.rate

    def frames() -> Iterator[Shown]:
        try:
            with open_video(file) as video:
                for frame in video.frames():
                    yield Shown(frame.time, frame.pixels(_ALL))
        except PictureError as error:
            raise DataError(f"{clip}: {error}") from error

    return rate, frames()


def by_frame(tracks: Iterable[Track]) -> Followed:
    followed: Followed = {}
    for number, track in enumerate(tracks, 1):
        for one in track.sightings:
            followed.setdefault(one.frame, []).append((number, one.box))
    return followed


def tracking_figures(truth: Truth, followed: Followed) -> dict[str, Any]:
    """``{"MOTA", "IDF1", "id_switches"}`` over the frames of the ground truth.

    A box that lies on an object which is hidden, see :data:`HIDDEN`, counts neither way."""
    try:
        from trackers.eval import compute_clear_metrics, compute_identity_metrics
    except ImportError as error:
        raise MissingExtraError("Measuring tracking", "video") from error

    ids: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    overlaps: list[NDArray[np.float64]] = []
    for frame in sorted(truth):
        there, found = truth[frame], followed.get(frame, [])
        overlap = _overlaps([one.box for one in there], [box for _, box in found])
        hidden = np.array([one.visibility < HIDDEN for one in there], bool)
        kept = ~_on_hidden(overlap, hidden)
        ids.append(np.array([one.number for one in there], np.int64)[~hidden])
        numbers.append(np.array([number for number, _ in found], np.int64)[kept])
        overlaps.append(overlap[~hidden][:, kept])
    clear = compute_clear_metrics(ids, numbers, overlaps, MATCH)
    identity = compute_identity_metrics(ids, numbers, overlaps, MATCH)
    return {
        "MOTA": float(clear["MOTA"]),
        "IDF1": float(identity["IDF1"]),
        "id_switches": int(clear["IDSW"]),
    }


def _on_hidden(overlap: NDArray[np.float64], hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes lie on a hidden object, each object having one box at most, as MOTChallenge
    leaves them out."""
    from scipy.optimize import linear_sum_assignment

    result = np.zeros(overlap.shape[1], bool)
    enough = np.where(overlap >= MATCH, overlap, 0)
    for row, column in zip(*linear_sum_assignment(enough, maximize=True), strict=True):
        result[column] = enough[row, column] > 0 and hidden[row]
    return result


def _overlaps(some: Sequence[Box], others: Sequence[Box]) -> NDArray[np.float64]:
    """IoU of each with each: (len(some), len(others))."""
    one, other = (np.array(boxes, float).reshape(-1, 4) for boxes in (some, others))
    one, other = one[:, None], other[None]
    near = np.maximum(one[..., :2], other[..., :2])
    far = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
    both = np.clip(far - near, 0, None).prod(-1)
    either = one[..., 2:].prod(-1) + other[..., 2:].prod(-1) - both
    overlap: NDArray[np.float64] = both / np.maximum(either, 1e-12)
    return overlap


def _number(row: Row, key: str) -> float:
    try:
        value = float(row.text(key))
    except ValueError as error:
        raise DataError(f"{row.where}: {key!r} is no number") from error
    if not np.isfinite(value):
        raise DataError(f"{row.where}: {key!r} is no number")
    return value


def evaluate_one_object(clip: Path) -> dict[str, Any]:
    """Follow the first object of ``gt.csv`` from its first box on: ``{"mean_iou"}``, over the
    frames where the ground truth has it, the first left out.

    Raises :class:`~embedsearch.errors.DataError`.
    """
    truth = read_truth(clip)
    begin = min(truth)
    one = truth[begin][0]
    boxes = {n: t.box for n, there in truth.items() for t in there if t.number == one.number}
    _, frames = clip_frames(clip)
    later = (shown.pixels for number, shown in enumerate(frames, 1) if number >= begin)
    found = dict(enumerate(follow_box(later, one.box), begin))
    compared = [number for number in boxes if number > begin and number in found]
    if not compared:
        raise DataError(f"{clip / 'gt.csv'}: the first object is in one frame only")
    ious = [_overlaps([boxes[n]], [found[n]])[0, 0] for n in compared]
    return {"mean_iou": float(np.mean(ious))}
