"""State dicts that tell the versions of the layers they are for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def with_versions(
    state: Mapping[str, Any], module: nn.Module, told: Mapping[str, Any] | None = None
) -> OrderedDict[str, Any]:
    """``state`` for ``module.load_state_dict``, with the versions that are ``told`` (``_metadata``
    of the state dict it was picked from), or else those of ``module``.

    PyTorch hangs the versions of layers on a state dict, where safetensors and whatever is picked
    out of one have none. PyTorch's own layers take that for the oldest version and fill in what
    that lacked; a network of another library may refuse it, as torchvision's MNASNet does.
    """
    versions = {
        name: {"version": part._version}
        for name, part in module.named_modules()
        if not type(part).__module__.startswith("torch.nn.")
    }
    found: OrderedDict[str, Any] = OrderedDict(state)
    found._metadata = versions | dict(told or {})  # type: ignore[attr-defined]
    return found
