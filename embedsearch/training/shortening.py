"""Making a trained network shorter before it is trained further: stages that add to their input can
be left out.

What the network then gives means little, but all other weights stay, and a distillation from the
whole network wins most of it back (Veit et al., "Residual Networks Behave Like Ensembles of
Relatively Shallow Networks", 2016, section 4, leave blocks out without any training).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from embedsearch.errors import DataError
from embedsearch.training.towers import ImageTower


def leave_out(image: ImageTower, names: Sequence[str], size: int) -> list[str]:
    """Leave stages out, in place: each keeps its name, and gives what it gets.

    ``size`` is the side of the pictures. Gives the full names of the stages. Raises
    :class:`~embedsearch.errors.DataError` for a stage that is not there, or that gives maps of
    another shape than it gets.
    """
    if not names:
        return []
    if not image.sequential:
        raise DataError("a stage can be left out of a network whose stages run one after another")
    numbers = [image.stage_number(name) for name in names]
    if len(image.stages) in numbers:
        raise DataError("the head is no stage that can be left out; --dim 0 takes it away")
    shapes = _shapes(image, size)
    full = [image.stages[number][0] for number in numbers]
    for name, number in zip(full, numbers, strict=True):
        got, given = shapes[number : number + 2]
        if got != given:
            raise DataError(f"{name} cannot be left out: of {_said(got)} it makes {_said(given)}")
        image.replace_stage(name, nn.Identity())
    return full


def _shapes(image: ImageTower, size: int) -> list[torch.Size]:
    """Of a picture, and of what each stage makes of it."""
    training, parameter = image.training, next(image.parameters())
    image.eval()
    values = torch.zeros((1, 3, size, size), device=parameter.device, dtype=parameter.dtype)
    found = [values.shape]
    with torch.no_grad():
        for _, stage in image.stages:
            values = stage(values)
            found.append(values.shape)
    image.train(training)
    return found


def _said(shape: torch.Size) -> str:
    return " x ".join(str(side) for side in shape[1:])
