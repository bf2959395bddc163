"""The cache of frozen stages: what it keeps, and everything that it depends on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import SIZE, draw_looks

from embedsearch.training.augment.policies import augmentation
from embedsearch.training.looks.drawing import Looks, to_tensor
from embedsearch.training.looks.frozen_cache import (
    FrozenCache,
    cache_frozen,
    fingerprint,
    look_seed,
)

STAGE, VIEWS = 5, 2


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    return draw_looks(tmp_path_factory.mktemp("cache"))


def kept(looks: Looks, folder: Path) -> FrozenCache:
    return cache_frozen(looks, STAGE, views=VIEWS, seed=0, folder=folder, threads=2)


def test_it_holds_what_the_frozen_stages_give_for_every_look(looks: Looks, tmp_path: Path) -> None:
    cache = kept(looks, tmp_path)
    assert cache.views == 1 + VIEWS and len(cache.values) == len(looks.photos) == 6
    for place in (0, 5):
        drawn = [looks.drawn(place, look_seed(0, place, view)) for view in (1, 2)]
        pixels = to_tensor([looks.plain(place), *drawn])
        with torch.no_grad():
            image = looks.encoder.image
            expected = image.run_stages(looks.encoder.normalised(pixels), 0, STAGE)
            given = cache.batch([place] * 3, [0, 1, 2])
            # Half a step of 8 bits, but for the few values that are cut off.
            far = (given - expected).abs() / torch.from_numpy(cache.steps)[:, None, None]
            assert (far <= 0.51).float().mean() > 0.97
            similar = (
                image.forward_from(given, STAGE)
                * image.embed(image.run_stages(expected, STAGE, len(image.stages)))
            ).sum(1)
        assert similar.min() > 0.999


def test_it_is_read_again_and_goes_on_where_it_was_broken_off(
    looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedsearch.training.looks.frozen_cache._SAVE_EVERY", 2)
    whole = kept(looks, tmp_path / "whole")
    plain = Looks.drawn

    def dark(self: Looks, place: int, seed: int) -> object:
        if place == 4:
            raise OSError("the lights went out")
        return plain(self, place, seed)

    monkeypatch.setattr(Looks, "drawn", dark)
    with pytest.raises(OSError, match="lights"):
        kept(looks, tmp_path / "broken")
    seen = []

    def noted(self: Looks, place: int, seed: int) -> object:
        seen.append(place)
        return plain(self, place, seed)

    monkeypatch.setattr(Looks, "drawn", noted)
    assert np.array_equal(kept(looks, tmp_path / "broken").values, whole.values)
    assert sorted(seen) == [4, 4, 5, 5]
    seen.clear()
    kept(looks, tmp_path / "broken")
    assert seen == []


def test_its_name_depends_on_weights_photos_policy_and_size(looks: Looks) -> None:
    def name(looks: Looks, stage: int = STAGE, views: int = VIEWS, seed: int = 0) -> str:
        return fingerprint(looks, stage, views, seed)

    usual = name(looks)
    assert name(looks) == usual
    others = [
        name(looks, stage=6),
        name(looks, views=3),
        name(looks, seed=1),
        name(replace(looks, augmentation=augmentation("strong", SIZE))),
        name(replace(looks, photos=looks.photos[1:])),
        name(replace(looks, strengths=np.full(6, 2, np.float32))),
    ]
    file = looks.photos[0].file
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    others.append(name(looks))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert name(looks) == usual
    network = looks.encoder.image.network
    with torch.no_grad():
        # Behind the stage nothing matters.
        network.layer4[0].conv1.weight.add_(1)
        assert name(looks) == usual
        network.layer4[0].conv1.weight.sub_(1)
        network.layer1[0].conv1.weight.add_(1)
        others.append(name(looks))
        network.layer1[0].conv1.weight.sub_(1)
    assert len({usual, *others}) == 1 + len(others)
