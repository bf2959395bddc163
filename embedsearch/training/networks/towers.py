"""The two towers of an encoder as they are trained: an image network in stages, and texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from embedsearch.encoders.text import UNKNOWN, token_ids, wordpiece
from embedsearch.errors import DataError
from embedsearch.training.networks.heads import ImageHead, TextHead

Stage = tuple[str, nn.Module]
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class FeatureHead(nn.Module):
    """Pooled features to vectors: brought to one length, standardised, one linear layer."""

    factors: Tensor

    def __init__(self, inputs: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = inputs
        self.projection = ImageHead(dim, dropout, inputs)
        self.register_buffer("factors", torch.ones(inputs))
        """What channels are multiplied by first; ones, but after equalisation."""

    def scaled(self, features: Tensor) -> Tensor:
        """Features of length sqrt(inputs), so that a channel is about 1."""
        return normalize(features * self.factors, dim=1) * math.sqrt(self.inputs)

    def standardise(self, features: Tensor) -> None:
        """Take over mean and deviation of each channel of pooled ``features`` (N, inputs)."""
        self.projection.standardise(self.scaled(features))

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.projection(self.scaled(features)))


class ImageTower(nn.Module):
    """Normalised pixels (N, 3, H, W) to unit vectors (N, dim): network, pooling, head."""

    def __init__(
        self,
        network: nn.Module,
        stages: Sequence[Stage],
        pool: nn.Module,
        head: nn.Module,
        *,
        run: str = "forward",
        sequential: bool,
    ) -> None:
        """``stages`` are parts of ``network`` in the order in which they run. Where they are
        ``sequential``, one after another they are all of it, and the network can be run from any
        of them; else they only say what is frozen, and the method ``run`` gives the maps."""
        super().__init__()
        self.network, self.pool, self.head = network, pool, head
        self._names = [name for name, _ in stages]
        # In a list, so that they are not registered as parts a second time.
        self._modules_in_order = [[module for _, module in stages]]
        self._run, self.sequential = run, sequential
        self.frozen_norm = True
        """Whether BatchNorm keeps its statistics in training, as is best for small batches."""
        self.first_trained = 0
        """The stages before this one are frozen, their statistics too."""
        self._pieces = 1

    @property
    def stages(self) -> list[Stage]:
        """Names and parts of the network, in the order in which they run."""
        return list(zip(self._names, self._modules_in_order[0], strict=True))

    def replace_stage(self, name: str, module: nn.Module) -> None:
        """Put ``module`` in the place of a stage."""
        old = self._modules_in_order[0][self._names.index(name)]
        place = next(path for path, part in self.network.named_modules() if part is old)
        self.network.set_submodule(place, module)
        self._modules_in_order[0][self._names.index(name)] = module

    def train(self, mode: bool = True) -> ImageTower:
        super().train(mode)
        for module in self.network.modules() if self.frozen_norm else ():
            if isinstance(module, _NORMS):
                module.eval()
        for stage in self._modules_in_order[0][: self.first_trained]:
            stage.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        return self._in_pieces(lambda piece: self.embed(self.maps(piece)), pixels)

    @property
    def pieces(self) -> int:
        """So many pieces in which a batch passes while it is trained."""
        return self._pieces

    def take_in_pieces(self, pieces: int) -> None:
        """Let a batch pass in so many pieces while it is trained, twice, and keep activations of
        one piece at a time: gradient caching (Gao et al., "Scaling Deep Contrastive Learning Batch
        Size under Memory Limited Setup", 2021). Embeddings and gradients are those of the batch in
        one piece, but for what dropout draws.

        Raises :class:`~embedsearch.errors.DataError` where BatchNorm would see pieces.
        """
        if pieces < 1:
            raise DataError(f"a batch passes in one piece or more, not {pieces}")
        if pieces > 1 and not self.frozen_norm:
            raise DataError(
                "BatchNorm that learns its statistics would see pieces, and twice: keep them "
                "(model.norm = frozen), or leave optimisation.pieces out"
            )
        self._pieces = pieces

    def _in_pieces(self, run: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        if self._pieces == 1 or not (self.training and torch.is_grad_enabled()):
            return run(values)
        passed = [
            cast(Tensor, checkpoint(run, piece, use_reentrant=False))
            for piece in values.chunk(self._pieces)
        ]
        return torch.cat(passed)

    def maps(self, pixels: Tensor) -> Tensor:
        """What the network gives before pooling."""
        if self.sequential:
            return self.run_stages(pixels, 0, len(self._names))
        return cast(Tensor, getattr(self.network, self._run)(pixels))

    def run_stages(self, values: Tensor, first: int, last: int) -> Tensor:
        """From what enters stage ``first`` to what leaves the one before ``last``."""
        for module in self._modules_in_order[0][first:last]:
            values = module(values)
        return values

    def shapes(self, size: int) -> list[torch.Size]:
        """Of a picture of that side, and of what each stage makes of it; the stages must be
        sequential."""
        training, parameter = self.training, next(self.parameters())
        self.eval()
        values = torch.zeros((1, 3, size, size), device=parameter.device, dtype=parameter.dtype)
        found = [values.shape]
        with torch.no_grad():
            for stage in self._modules_in_order[0]:
                values = stage(values)
                found.append(values.shape)
        self.train(training)
        return found

    def forward_from(self, activations: Tensor, first: int) -> Tensor:
        """From what enters stage ``first`` to unit vectors; 0 is from the pixels."""
        if first == 0:
            return self.forward(activations)
        return self._in_pieces(lambda piece: self.embed(self._maps_from(piece, first)), activations)

    def features_from(self, activations: Tensor, first: int) -> Tensor:
        """From what enters stage ``first`` to pooled features (N, channels), before the head."""
        return self._in_pieces(lambda piece: self.pool(self._maps_from(piece, first)), activations)

    def _maps_from(self, activations: Tensor, first: int) -> Tensor:
        if first == 0:
            return self.maps(activations)
        return self.run_stages(activations, first, len(self._names))

    def embed(self, maps: Tensor) -> Tensor:
        """From maps to unit vectors, float32."""
        return self.embed_features(self.pool(maps))

    def embed_features(self, features: Tensor) -> Tensor:
        """From pooled features to unit vectors, float32."""
        return normalize(self.head(features).float(), dim=1)

    def stage_number(self, name: str) -> int:
        """Place of the stage that ``name`` means: ``blocks.10``, or ``block 10``, or ``10`` where
        no other has that number. ``head`` is behind the last one.

        Raises :class:`~embedsearch.errors.DataError` that lists the stages.
        """
        if name in self._names:
            return self._names.index(name)
        if name == "head":
            return len(self._names)
        wanted = name.replace(" ", ".").strip(".")
        found = [n for n, known in enumerate(self._names) if _means(wanted, known)]
        if len(found) != 1:
            raise DataError(
                f"there is no stage {name!r}; there are, in order: {', '.join(self._names)}, head"
            )
        return found[0]


def said_shape(shape: torch.Size) -> str:
    """Of maps (N, C, H, W), for people: "24 x 52 x 52"."""
    return " x ".join(str(side) for side in shape[1:])


def _means(wanted: str, known: str) -> bool:
    """``block.10`` and ``10`` mean ``blocks.10``."""
    group, _, number = wanted.rpartition(".")
    known_group, _, known_number = known.rpartition(".")
    return number == known_number and known_group.rstrip("s").endswith(group.rstrip("s"))


class BagText(nn.Module):
    """Texts to unit vectors (N, dim) by the mean of their tokens' rows and a small network: what
    ``encoders.text`` runs without PyTorch."""

    def __init__(self, tokens: Sequence[str], rows: Tensor, hidden: int, dim: int) -> None:
        """``rows`` is float32 (tokens, width), the table to start from."""
        super().__init__()
        self.tokens = list(tokens)
        self.head = TextHead(rows, hidden, dim)
        self._tokenizer: Tokenizer = wordpiece(self.tokens)
        self._unknown = self._tokenizer.token_to_id(UNKNOWN)
        self._known: dict[str, list[int]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> BagText:
        weight = self.head.table.weight.detach()
        copied = BagText(
            self.tokens, weight, self.head.hidden.out_features, self.head.output.out_features
        )
        copied.load_state_dict(self.state_dict())
        copied.to(weight.device).train(self.training)
        return copied

    def forward(self, texts: list[str]) -> Tensor:
        bags = [self._ids(text) for text in texts]
        starts = [0]
        for bag in bags[:-1]:
            starts.append(starts[-1] + len(bag))
        device = self.head.table.weight.device
        ids = torch.tensor([i for bag in bags for i in bag], dtype=torch.int64, device=device)
        vectors = self.head(ids, torch.tensor(starts, dtype=torch.int64, device=device))
        return cast(Tensor, vectors)

    def _ids(self, text: str) -> list[int]:
        """Rows of the tokens of a text, unknown ones left out; remembered, as texts come back
        every epoch."""
        if text not in self._known:
            found = token_ids(self._tokenizer, text)
            self._known[text] = [i for i in found if i != self._unknown]
        return self._known[text]


class OpenClipText(nn.Module):
    """The text tower of an open_clip model: texts to unit vectors (N, dim)."""

    def __init__(self, clip: nn.Module, arch: str) -> None:
        """``clip`` is the model without its ``visual``."""
        super().__init__()
        self.clip, self.arch = clip, arch
        self._tokenizer: Any = None

    def forward(self, texts: list[str]) -> Tensor:
        import open_clip

        if self._tokenizer is None:
            self._tokenizer = open_clip.get_tokenizer(self.arch)
        device = next(self.clip.parameters()).device
        vectors = cast(Any, self.clip).encode_text(self._tokenizer(texts).to(device))
        return normalize(vectors.float(), dim=1)
