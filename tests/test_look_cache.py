"""Looks kept as pixels: what they are, that they last, and what is learned from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import SIZE, draw_looks

from embedsearch.training.augment.policies import augmentation
from embedsearch.training.looks import look_cache
from embedsearch.training.looks.drawing import Looks
from embedsearch.training.looks.frozen_cache import cache_frozen
from embedsearch.training.looks.look_cache import cache_looks, fingerprint, look_seed

VIEWS = 2


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    return draw_looks(tmp_path_factory.mktemp("looks"))


def test_each_photo_is_kept_as_it_is_and_as_its_seeds_draw_it(looks: Looks, tmp_path: Path) -> None:
    kept = cache_looks(looks, views=VIEWS, seed=3, folder=tmp_path)
    assert kept.shape == (6, 1 + VIEWS, SIZE, SIZE, 3) and kept.dtype == np.uint8
    for place in range(6):
        assert np.array_equal(kept[place, 0], looks.plain(place))
        for view in (1, 2):
            drawn = looks.drawn(place, look_seed(3, place, view))
            assert np.array_equal(kept[place, view], drawn)


def test_processes_draw_the_same_as_threads(
    looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_cache, "_WORTH_PROCESSES", 10**9)
    threads = cache_looks(looks, views=VIEWS, seed=0, folder=tmp_path / "threads")
    monkeypatch.setattr(look_cache, "_WORTH_PROCESSES", 0)
    processes = cache_looks(looks, views=VIEWS, seed=0, folder=tmp_path / "processes", threads=2)
    assert np.array_equal(threads, processes)


def test_what_was_broken_off_goes_on_and_what_is_there_is_read(
    looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_cache, "_SAVE_EVERY", 2)
    whole = cache_looks(looks, views=VIEWS, seed=0, folder=tmp_path / "whole")
    keep, seen = look_cache._keep, list[int]()

    def fails(order: look_cache._Order) -> None:
        if order[1] == 4:
            raise OSError("the lights went out")
        keep(order)

    monkeypatch.setattr(look_cache, "_keep", fails)
    with pytest.raises(OSError, match="lights"):
        cache_looks(looks, views=VIEWS, seed=0, folder=tmp_path / "broken")

    def notes(order: look_cache._Order) -> None:
        seen.append(order[1])
        keep(order)

    monkeypatch.setattr(look_cache, "_keep", notes)
    resumed = cache_looks(looks, views=VIEWS, seed=0, folder=tmp_path / "broken")
    assert np.array_equal(resumed, whole) and sorted(seen) == [4, 5]
    cache_looks(looks, views=VIEWS, seed=0, folder=tmp_path / "broken")
    assert sorted(seen) == [4, 5]


def test_other_looks_have_another_name(looks: Looks) -> None:
    other = Looks(looks.photos, looks.encoder, augmentation("gentle", SIZE))
    names = {
        fingerprint(looks, VIEWS, 0),
        fingerprint(looks, VIEWS, 1),
        fingerprint(looks, VIEWS + 1, 0),
        fingerprint(other, VIEWS, 0),
        fingerprint(Looks(looks.photos[1:], looks.encoder, looks.augmentation), VIEWS, 0),
        fingerprint(Looks(looks.photos, looks.encoder, looks.augmentation, side=24), VIEWS, 0),
    }
    assert len(names) == 6


def test_a_cache_before_the_first_stage_gives_pixels(looks: Looks, tmp_path: Path) -> None:
    cache = cache_frozen(looks, 0, views=VIEWS, seed=0, folder=tmp_path)
    batch = cache.batch([0, 5], [0, 2])
    assert batch.dtype == torch.uint8 and batch.shape == (2, SIZE, SIZE, 3)
    assert np.array_equal(batch[1].numpy(), looks.drawn(5, look_seed(0, 5, 2)))
