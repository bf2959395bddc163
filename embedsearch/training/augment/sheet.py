"""A sheet that shows what a policy of augmentation does to pictures, to be looked at before hours
of training depend on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from embedsearch.encoders.base import Pixels
from embedsearch.encoders.preprocess import ResizeWay
from embedsearch.errors import DataError
from embedsearch.render.tiles import Block, write_tiles
from embedsearch.training.augment.policies import Augmentation, Mix, augmentation, mix_batch

SHEET_SIZE = 224
_FEWEST_COLUMNS = 8
_UNCHANGED = "as it is"


def draw_sheet(
    pictures: Sequence[Pixels],
    policy: str,
    out: Path,
    *,
    size: int = SHEET_SIZE,
    resize: ResizeWay = "squash",
    seed: int = 0,
) -> None:
    """Write a PNG that shows each step of ``policy`` alone, all together as training draws them,
    and the mixes of a batch, for every one of ``pictures``, uint8 (H, W, 3) of any size.

    Raises :class:`~embedsearch.errors.DataError` for a policy that cannot be understood, or
    without a picture, and :class:`~embedsearch.errors.OutputError` where ``out`` cannot be written.
    """
    made = augmentation(policy, size, resize)
    if not pictures:
        raise DataError("there is no picture to show augmentations of")
    parts = made.parts()
    columns = max(_FEWEST_COLUMNS, len(parts) + 1)
    plain = augmentation("none", size, resize)
    blocks = [
        Block(
            f"together: {made}",
            [_UNCHANGED],
            [
                [plain(pixels, 0), *_draws(made, pixels, row, seed, columns - 1)]
                for row, pixels in enumerate(pictures)
            ],
        )
    ]
    if len(parts) > 1:
        blocks.insert(0, _alone(plain, parts, pictures, seed))
    blocks += [_mixed(mix, made, pictures, columns, seed) for mix in made.mixes]
    write_tiles(blocks, out)


def _draws(made: Augmentation, pixels: Pixels, row: int, seed: int, count: int) -> Iterator[Pixels]:
    """Every row and every column has a seed of its own, as every picture of an epoch has."""
    return (made(pixels, seed + 1000 * row + draw) for draw in range(count))


def _alone(
    plain: Augmentation,
    parts: Sequence[tuple[str, Augmentation]],
    pictures: Sequence[Pixels],
    seed: int,
) -> Block:
    rows = [
        [plain(pixels, 0), *(part(pixels, seed + row) for _, part in parts)]
        for row, pixels in enumerate(pictures)
    ]
    return Block("each alone", [_UNCHANGED, *(name for name, _ in parts)], rows)


def _mixed(
    mix: Mix, made: Augmentation, pictures: Sequence[Pixels], columns: int, seed: int
) -> Block:
    """Columns are batches that were mixed, with the share of the picture itself above each."""
    headings, batches = [], []
    rng = np.random.default_rng(seed)
    rows = [_draws(made, pixels, row, seed, columns) for row, pixels in enumerate(pictures)]
    for views in zip(*rows, strict=True):
        batch = torch.from_numpy(np.stack(views))
        mixed, shares = mix_batch(
            batch.permute(0, 3, 1, 2).float(), torch.eye(len(pictures)), mix.method, mix.alpha, rng
        )
        batches.append(mixed.permute(0, 2, 3, 1).round().to(torch.uint8).numpy())
        headings.append(f"{shares[0, 0].item():.0%} its own")
    title = f"{mix.method}: each with the picture above it, the first with the last"
    return Block(title, headings, [[b[row] for b in batches] for row in range(len(pictures))])
