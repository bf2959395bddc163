"""Making a trained network shorter before it is trained further: stages that add to their input can
be left out.

What the network then gives means little, but all other weights stay, and a distillation from the
whole network wins most of it back (Veit et al., "Residual Networks Behave Like Ensembles of
Relatively Shallow Networks", 2016, section 4, leave blocks out without any training).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from embedsearch.errors import DataError
from embedsearch.training.networks.towers import ImageTower, said_shape


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
    shapes = image.shapes(size)
    full = [image.stages[number][0] for number in numbers]
    for name, number in zip(full, numbers, strict=True):
        got, given = shapes[number : number + 2]
        if got != given:
            raise DataError(
                f"{name} cannot be left out: of {said_shape(got)} it makes {said_shape(given)}"
            )
        image.replace_stage(name, nn.Identity())
    return full
