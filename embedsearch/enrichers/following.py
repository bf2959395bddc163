"""Objects followed from frame to frame.

The tracker is BoT-SORT of the library ``trackers`` (Aharon et al., "BoT-SORT: Robust Associations
Multi-Pedestrian Tracking", 2022): where each object will be is predicted by a Kalman filter, the
camera's own motion taken off; sure detections are associated first and then the others, as in
ByteTrack; an object that is lost is looked for where it should be for a while. How things look,
see :mod:`~embedsearch.enrichers.appearance`, is a part of the association, and links what was lost
for longer, see :mod:`~embedsearch.enrichers.relinking`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.appearance import Templates, alike, unit
from embedsearch.enrichers.base import Pixels
from embedsearch.errors import EnricherError, MissingExtraError
from embedsearch.records import Box, Detection

Vectors = NDArray[np.float32]

LEAST = 0.1
"""Detections with a lower score follow nothing."""
SURE = 0.4
"""Detections with this score are associated first."""
BEGINS = 0.5
"""A detection with this score that is no known object begins a new one."""
_LOST_SECONDS = 1.5
"""So long an object is looked for where it should be."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An object in one frame."""

    frame: int
    """The first is 1."""
    time: float
    """Seconds from the beginning of the video."""
    box: Box
    score: float
    covered: float = 0.0
    """How far another box overlaps it (IoU)."""

    @property
    def worth(self) -> float:
        """How well it shows the object, in [0, 1]."""
        return self.score * (1 - min(self.covered, 0.95))


@dataclass(slots=True)
class Track:
    """An object through a video; ``sightings`` by time."""

    label: str
    sightings: list[Sighting] = field(default_factory=list)
    _looks: NDArray[np.float32] | None = None
    """The sum of its looks; they themselves would be many."""

    def add(self, one: Sighting, look: NDArray[np.float32] | None = None) -> None:
        """It was seen again; ``look`` is the embedding of what was seen."""
        self.sightings.append(one)
        if look is not None:
            self._take(look * np.float32(one.worth))

    def go_on_with(self, other: Track) -> None:
        """What ``other`` followed later is the same."""
        self.sightings += other.sightings
        if other._looks is not None:
            self._take(other._looks)

    @property
    def look(self) -> NDArray[np.float32] | None:
        """The mean of its looks, L2-normalised; those that show it best count most."""
        return None if self._looks is None else unit(self._looks)

    @property
    def best(self) -> Sighting:
        """Where it is seen best: large, free and sure."""
        return max(self.sightings, key=lambda one: one.worth * one.box[2] * one.box[3])

    def _take(self, looks: NDArray[np.float32]) -> None:
        self._looks = looks if self._looks is None else self._looks + looks


class Follower:
    """Follows the objects of one video. Call :meth:`see` for every frame, in order."""

    def __init__(self, rate: float, *, frames_before: int = 0) -> None:
        """``rate`` is the number of frames a second, of which some may have come before.

        Raises :class:`~embedsearch.errors.MissingExtraError`.
        """
        self._trackers = _library()
        self._rate = rate
        self._of_label: dict[str, _OneLabel] = {}
        self._camera = self._trackers.CMC(self._trackers.CMCConfig(downscale=2))
        self._frame = frames_before

    def see(
        self,
        time: float,
        picture: Pixels,
        objects: Sequence[Detection],
        looks: Vectors | None = None,
    ) -> None:
        """One frame: ``time`` in seconds, its upright pixels, what was detected in it, and the
        embeddings of that, float32 (len(objects), dim), where looks are to count."""
        self._frame += 1
        places = [n for n, one in enumerate(objects) if one.score >= LEAST]
        corners = _corners([objects[n].box for n in places])
        covered = _covered(corners)
        moved = self._camera.estimate(np.ascontiguousarray(picture[..., ::-1]), corners)
        for label in {objects[n].label for n in places} - self._of_label.keys():
            self._of_label[label] = _OneLabel(label, self._trackers, self._rate)
        for label, one in self._of_label.items():
            mine = [at for at, n in enumerate(places) if objects[n].label == label]
            sightings = [
                Sighting(
                    self._frame,
                    time,
                    objects[places[at]].box,
                    objects[places[at]].score,
                    float(covered[at]),
                )
                for at in mine
            ]
            seen = None if looks is None else looks[[places[at] for at in mine]]
            one.see(corners[mine], sightings, seen, moved)

    def tracks(self) -> list[Track]:
        """All that was followed, as it was followed, by the time of its first sighting."""
        found = [track for one in self._of_label.values() for track in one.tracks.values()]
        return sorted(found, key=lambda track: (track.sightings[0].frame, track.label))


class _OneLabel:
    """The objects of one label."""

    def __init__(self, label: str, library: Any, rate: float) -> None:
        self._label = label
        self._library = library
        self._looks: dict[bytes, NDArray[np.float32]] = {}
        self._templates = Templates()
        similarity = alike(self._looks, self._templates)
        self._tracker = library.BoTSORTTracker(
            frame_rate=rate,
            lost_track_buffer=round(_LOST_SECONDS * 30),
            track_activation_threshold=BEGINS,
            high_conf_det_threshold=SURE,
            enable_cmc=False,
            iou=similarity,
        )
        similarity.tracker = self._tracker
        self.tracks: dict[int, Track] = {}

    def see(
        self,
        corners: NDArray[np.float64],
        sightings: list[Sighting],
        looks: Vectors | None,
        moved: NDArray[Any],
    ) -> None:
        import supervision

        self._library.CMC.apply_batch(moved, self._tracker.tracks)
        self._looks.clear()
        if looks is not None:
            keys = (box.tobytes() for box in corners)
            self._looks.update(zip(keys, looks, strict=True))
        given = supervision.Detections(
            xyxy=corners,
            confidence=np.array([one.score for one in sightings], np.float64),
            data={"place": np.arange(len(sightings))},
        )
        seen = self._tracker.update(given)
        for number, place in zip(seen.tracker_id, seen.data.get("place", ()), strict=True):
            if number < 0:
                continue
            one = sightings[place]
            look = None if looks is None else looks[place]
            self.tracks.setdefault(int(number), Track(self._label)).add(one, look)
            if look is not None:
                self._templates.see(int(number), look, one.score, one.covered)


def _corners(boxes: Sequence[Box]) -> NDArray[np.float64]:
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners


def _covered(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest overlap (IoU) of each box with another: (N,)."""
    from supervision import box_iou_batch

    if len(corners) < 2:
        return np.zeros(len(corners))
    overlaps = box_iou_batch(corners, corners)
    np.fill_diagonal(overlaps, 0)
    largest: NDArray[np.float64] = overlaps.max(axis=1)
    return largest


def _library() -> Any:
    try:
        import trackers
    except ModuleNotFoundError as error:
        raise MissingExtraError("Following objects through videos", "video") from error
    except ImportError as error:
        raise EnricherError(
            f"OpenCV cannot be loaded ({error}). Where opencv-python and opencv-python-headless "
            "are both installed, keep one: pip uninstall -y opencv-python && pip install "
            "--force-reinstall --no-deps opencv-python-headless"
        ) from error
    # It would print on stderr that a still picture, or an empty one, does not move.
    logging.getLogger("trackers").addHandler(logging.NullHandler())
    return trackers
