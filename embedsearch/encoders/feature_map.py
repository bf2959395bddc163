"""The feature map of a CNN at a layer of one's choice, pooled to one vector a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from embedsearch.encoders.model_spec import ModelSpec
from embedsearch.encoders.pooling import POOLINGS
from embedsearch.errors import EncoderError


class PooledMap:
    """``run(images)`` up to a layer, then a pooling. Layers behind it are not computed."""

    def __init__(
        self,
        spec: ModelSpec,
        model: nn.Module,
        run: Callable[[Tensor], Tensor],
        layer: str | None = None,
        channels_last: bool = False,
    ) -> None:
        """``spec.options`` may hold ``pool``, a name in :data:`POOLINGS`, and ``layer``, a name
        that ``model.named_modules()`` gives; without it, ``layer``, or else what ``run`` returns.
        ``channels_last`` says that maps are (N, height, width, channels).

        Raises :class:`~embedsearch.errors.EncoderError` for a name that there is not.
        """
        pool = spec.options.get("pool", "avg")
        if pool not in POOLINGS:
            raise EncoderError(
                f"{spec}: there is no pooling {pool!r}; there are {', '.join(POOLINGS)}."
            )
        self._spec, self._run, self._pool = spec, run, POOLINGS[pool]
        self._channels_last = channels_last
        self._layer = spec.options.get("layer", layer)
        self._hook: Any = None
        if self._layer is not None:
            modules = dict(model.named_modules())
            if self._layer not in modules:
                raise EncoderError(f"{spec}: there is no layer {self._layer!r}; {_listed(model)}")
            self._hook = modules[self._layer].register_forward_hook(_stop)
        self.pooling = pool if self._layer is None else f"{pool} of {self._layer}"

    def release(self) -> str | None:
        """Leave the model as the library made it, and return the layer that was read."""
        if self._hook is not None:
            self._hook.remove()
        return self._layer

    def __call__(self, images: Tensor) -> Tensor:
        """From (N, 3, size, size) to float32 (N, channels)."""
        try:
            output: Any = self._run(images)
        except _Reached as reached:
            output = reached.output
        if not isinstance(output, Tensor) or output.ndim != 4:
            where = "this model" if self._layer is None else f"the layer {self._layer!r}"
            raise EncoderError(
                f"{self._spec}: {where} gives no feature map (N, channels, height, width) to pool. "
                "Name a convolutional network, or a convolutional layer with ?layer=..."
            )
        return self._pool((output.permute(0, 3, 1, 2) if self._channels_last else output).float())


class _Reached(Exception):
    """Carries a layer's output past the layers that nobody needs."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _stop(module: nn.Module, given: Any, output: Any) -> None:
    raise _Reached(output)


def _listed(model: nn.Module) -> str:
    names = [name for name, _ in model.named_modules() if name and name.count(".") < 2]
    return f"there are {', '.join(names[:40])}{' and more' if len(names) > 40 else ''}."
