"""What was lost and found again is one object: tracks linked by how they look.

A tracker that lost an object behind something for long gives it a new number when it is seen
again. Of two tracks of one label, the later begun after the earlier ended, the looks are compared,
and where it is against where it should be; the likest are linked first. It is what DeepSORT's
cascade does as it goes (Wojke et al., 2017) and what StrongSORT does afterwards by motion alone
(Du et al., 2023); here it is done afterwards, when both tracks are known whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from embedsearch.enrichers.following import Sighting, Track

GAP_SECONDS = 4.0
"""A track that ended longer ago is not gone on with."""
ALIKE = 0.75
"""The least cosine of the two mean looks."""
REACH = 2.0
"""How far, in heights of the object, it may be from where it was last seen or would be had it
gone on as it went."""
_RECENT = 10
"""Sightings that tell how it went."""


def relinked(tracks: Sequence[Track]) -> list[Track]:
    """The tracks with those linked that are one object, by the time of their first sighting.
    Tracks without looks stay as they are."""
    looks = {id(track): track.look for track in tracks}
    pairs = []
    for earlier, later in permutations(tracks, 2):
        one, other = looks[id(earlier)], looks[id(later)]
        if one is None or other is None or not _may_follow(earlier, later):
            continue
        likeness = float(one @ other)
        if likeness >= ALIKE:
            pairs.append((likeness, id(earlier), id(later)))
    next_of, linked = _best(pairs)
    by_id = {id(track): track for track in tracks}
    result = []
    for track in tracks:
        if id(track) in linked:
            continue
        whole, at = Track(track.label), id(track)
        whole.go_on_with(track)
        while at in next_of:
            at = next_of[at]
            whole.go_on_with(by_id[at])
        result.append(whole)
    return result


def _best(pairs: list[tuple[float, int, int]]) -> tuple[dict[int, int], set[int]]:
    """By track the one that goes on with it, the likest pairs first; and those that go on."""
    next_of: dict[int, int] = {}
    linked: set[int] = set()
    for _, earlier, later in sorted(pairs, key=lambda pair: -pair[0]):
        if earlier not in next_of and later not in linked:
            next_of[earlier] = later
            linked.add(later)
    return next_of, linked


def _may_follow(earlier: Track, later: Track) -> bool:
    last, first = earlier.sightings[-1], later.sightings[0]
    gap = first.time - last.time
    if earlier.label != later.label or first.frame <= last.frame or gap > GAP_SECONDS:
        return False
    there = _centre(first)
    before = earlier.sightings[-_RECENT:][0]
    speed = (_centre(last) - _centre(before)) / max(last.time - before.time, 1e-6)
    expected = _centre(last) + speed * gap
    off = min(np.linalg.norm(there - expected), np.linalg.norm(there - _centre(last)))
    return bool(off <= REACH * last.box[3])


def _centre(one: Sighting) -> NDArray[np.float64]:
    x, y, w, h = one.box
    return np.array([x + w / 2, y + h / 2])
