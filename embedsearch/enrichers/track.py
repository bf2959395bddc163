"""``botsort``: objects followed through videos, found by any detector.

``botsort?detector=SPEC`` names the detector, ``every=2`` looks at every second frame only, and
``labels=person,car`` follows nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from embedsearch.enrichers.base import Detector, Enricher, Findings, NeedsEncoder, Pixels
from embedsearch.enrichers.following import LEAST, Follower, Track, Vectors
from embedsearch.enrichers.relinking import relinked
from embedsearch.errors import EnricherError
from embedsearch.records import Box, Detection, EnricherInfo
from embedsearch.settings import Device

NAME = "botsort"
VERSION = 1
"""Goes up with whatever changes the tracks that come of the same detections."""
RATE = 15.0
"""Frames a second that are looked at where the video has more: things move little in between."""
BRIEF = 3
"""A track of fewer sightings is taken for a mistake of the detector."""

Embed = Callable[[Sequence[Pixels]], Vectors]
"""Pictures to embeddings, float32 (N, dim), L2-normalised."""


def load(spec: str, device: Device) -> Tracking | TrackingWithEncoder:
    """Load ``botsort``, and its detector. Raises :class:`~embedsearch.errors.EnricherError`."""
    from embedsearch.enrichers import registry

    _, _, asked = spec.partition("?")
    options = dict(parse_qsl(asked, keep_blank_values=True))
    if unknown := sorted(set(options) - {"detector", "labels", "every"}):
        raise EnricherError(
            f"{spec!r}: {unknown[0]!r} is not known; after the ? may stand detector=SPEC, "
            "labels=person,car and every=2"
        )
    every = options.get("every", "0")
    if not every.isdecimal():
        raise EnricherError(f"{spec!r}: every={every} must be a number of frames, 1 or more.")
    labels = tuple(filter(None, options.get("labels", "").split(",")))
    detector = registry.find("detect", options.get("detector"), device)
    if isinstance(detector, NeedsEncoder):
        return TrackingWithEncoder(detector, spec, labels, int(every))
    return Tracking(detector, spec, labels=labels, every=int(every))


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame of a video."""

    time: float
    """Seconds from its beginning."""
    pixels: Pixels
    is_cut: bool = False
    """Whether it shows something else than the one before: nothing is followed across it."""


@dataclass(frozen=True, slots=True)
class TrackingWithEncoder:
    """Tracking whose detector names what it sees with the encoder of the index."""

    detector: NeedsEncoder
    spec: str
    labels: tuple[str, ...]
    every: int

    def using(self, encoder: Any) -> Tracking:
        detector = self.detector.using(encoder)
        return Tracking(detector, self.spec, labels=self.labels, every=self.every)


class Tracking:
    """Follows what a detector finds, by :meth:`follow`; one picture alone has no tracks."""

    def __init__(
        self, detector: Enricher, spec: str = NAME, *, labels: Sequence[str] = (), every: int = 0
    ) -> None:
        self.detector = detector
        self._labels = frozenset(labels)
        self._every = every
        told = detector.info
        settings = f"{VERSION} {told.id} {sorted(labels)} {every}"
        digest = hashlib.sha256(settings.encode()).hexdigest()
        self._info = EnricherInfo(
            id=f"{NAME}-{digest[:12]}",
            spec=spec,
            stage="track",
            licence=told.licence,
            weights_hash=told.weights_hash,
            look=told.look,
            labels=told.labels,
            description=f"BoT-SORT with appearance, over the boxes of {told.id}",
        )

    @property
    def info(self) -> EnricherInfo:
        return self._info

    def enrich(self, picture: Pixels) -> Findings:
        """Nothing: in one picture there is nothing to follow."""
        return Findings()

    def step(self, rate: float) -> int:
        """Of a video with ``rate`` frames a second, each frame of this number is looked at."""
        return self._every or max(round(rate / RATE), 1)

    def detect(self, picture: Pixels) -> list[Detection]:
        """What may be followed in one frame: less sure detections help to follow what was sure
        before."""
        if isinstance(self.detector, Detector):
            found: Iterable[Detection] = self.detector.detect(picture, LEAST)
        else:
            found = self.detector.enrich(picture).objects
        return [one for one in found if not self._labels or one.label in self._labels]

    def follow(self, frames: Iterable[Shown], rate: float, embed: Embed | None) -> list[Track]:
        """The objects that pass through ``frames``, of which there are ``rate`` a second, by the
        time of their first sighting; boxes in pixels of the frames. ``embed`` embeds their looks;
        without it only places count.

        Raises :class:`~embedsearch.errors.MissingExtraError`.
        """
        with_objects = ((shown, self.detect(shown.pixels)) for shown in frames)
        return follow_detections(with_objects, rate, embed)


def follow_detections(
    frames: Iterable[tuple[Shown, Sequence[Detection]]], rate: float, embed: Embed | None
) -> list[Track]:
    """As :meth:`Tracking.follow`, of what was detected already."""
    follower = Follower(rate)
    tracks: list[Track] = []
    for number, (shown, objects) in enumerate(frames):
        if shown.is_cut:
            tracks += relinked(follower.tracks())
            follower = Follower(rate, frames_before=number)
        looks = None
        if embed is not None:
            cuts = list(crops(shown.pixels, [one.box for one in objects]))
            looks = embed(cuts) if cuts else np.empty((0, 1), np.float32)
        follower.see(shown.time, shown.pixels, objects, looks)
    tracks += relinked(follower.tracks())
    return [track for track in tracks if len(track.sightings) >= BRIEF]


def crops(picture: Pixels, boxes: Sequence[Box]) -> Iterator[Pixels]:
    """The part of a picture in each box; of one that lies outside, the pixel that is nearest."""
    height, width = picture.shape[:2]
    for x, y, w, h in boxes:
        left, top = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
        right, bottom = min(round(x + w), width), min(round(y + h), height)
        yield np.ascontiguousarray(picture[top : max(bottom, top + 1), left : max(right, left + 1)])
