"""The loop that makes a loss small: one for fine-tuning and for distillation."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from embedsearch.training.distributed import collectives, parted, replicas
from embedsearch.training.distributed.ranks import Ranks, is_main
from embedsearch.training.loop import checkpoints
from embedsearch.training.loop.checkpoints import Checkpoint, History
from embedsearch.training.loop.memory import keep_freed_memory
from embedsearch.training.loop.steps import Group, Precision, RunningMean, make_optimizer, set_rates
from embedsearch.training.recipe import Optimisation

Batch = TypeVar("Batch")
Figures = dict[str, float]
Tell = Callable[[str], None]


class Loop:
    """A run over seeded batches, which can be broken off at any step and goes on exactly there.

    ``loss(batch)`` gives a scalar and its parts. ``batches(step)`` gives the batches from that one
    on, counted from 0 over all epochs; which they are must depend on the number alone.
    ``watch()`` gives figures after an epoch, of which ``score`` is the one to be large.
    """

    def __init__(
        self,
        module: nn.Module,
        groups: Sequence[Group],
        loss: Callable[[Batch], tuple[Tensor, dict[str, float]]],
        batches: Callable[[int], Iterable[Batch]],
        batches_an_epoch: int,
        settings: Optimisation,
        *,
        folder: Path,
        device: torch.device,
        told: str = "",
        watch: Callable[[], Figures] | None = None,
        score: str = "",
        tell: Tell = lambda line: None,
    ) -> None:
        self.module, self.settings, self.folder = module, settings, folder
        self.history = History()
        self._loss, self._batches = loss, batches
        self._steps_an_epoch = max(1, batches_an_epoch // settings.accumulate)
        self._watch, self._score, self._told, self._tell = watch, score, told, tell
        self._device = device
        self._spare = parted.spare_parts(module, settings.strategy)
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._replica = replicas.wrap(module, settings.strategy)  # type: ignore[arg-type]
        # Sharding puts other parameters in the place of those that were grouped.
        now = dict(module.named_parameters())
        groups = [
            replace(group, parameters=[now[names[id(p)]] for p in group.parameters])
            for group in groups
        ]
        self._optimizer = make_optimizer(groups, settings)
        self._precision = Precision(settings.amp, device)
        self._mean = RunningMean(module, settings.ema) if settings.ema else None
        self._best: dict[str, Any] = {}
        self._best_score, self._since_best = float("-inf"), 0
        self._step = 0
        self._saved_at = time.monotonic()

    def run(self, *, resume: bool = False) -> History:
        """Train; in the end the module has the weights that are to be kept.

        With ``resume`` it goes on from the checkpoint in the folder, where there is one to go on
        from. Ctrl-C finishes the step, writes a checkpoint and raises :class:`KeyboardInterrupt`.
        """
        torch.manual_seed(self.settings.seed)
        if self._device.type == "cpu":
            keep_freed_memory()
        if resume:
            self._restore(checkpoints.load(self.folder, self._told))
        total = self.settings.epochs * self._steps_an_epoch
        started = time.monotonic() - self.history.seconds
        with _writer(self.folder) as write, _interrupt() as interrupted:
            for batches in self._grouped(total):
                self._take(batches, write)
                self.history.seconds = time.monotonic() - started
                ended = self._step % self._steps_an_epoch == 0
                if ended and self._after_epoch(write):
                    break
                stop, save = collectives.from_main((interrupted.is_set(), self._is_time(ended)))
                if stop or save:
                    self._save()
                if stop:
                    raise KeyboardInterrupt
        self._finish()
        return self.history

    def _grouped(self, total: int) -> Iterator[list[Any]]:
        """Batches as they make one step, from the next step to the last."""
        together: list[Any] = []
        if self._step >= total or self._stops():
            return
        for batch in self._batches(self._step * self.settings.accumulate):
            together.append(batch)
            if len(together) == self.settings.accumulate:
                yield together
                together = []
                if self._step >= total:
                    return

    def _take(self, batches: list[Any], write: Callable[[str, float, int], None]) -> None:
        """One step."""
        set_rates(self._optimizer, self.settings, self._step, self._steps_an_epoch)
        self._replica.train()
        self._optimizer.zero_grad()
        total, parts = 0.0, dict[str, float]()
        for number, batch in enumerate(batches, 1):
            with replicas.syncing(self._replica, number == len(batches)):
                with self._precision.autocast():
                    loss, told = self._replica(self._loss, batch)
                self._precision.backward(loss / len(batches))
            total += loss.item() / len(batches)
            for name, value in told.items():
                parts[name] = parts.get(name, 0.0) + value / len(batches)
        self._precision.step(self._optimizer, self.module, self.settings.clip)
        if self._mean is not None:
            self._mean.update(self.module, self._step)
        total = collectives.mean(total)
        self.history.losses.append(total)
        rate = max(group["lr"] for group in self._optimizer.param_groups)
        self.history.rates.append(rate)
        for name, value in {"loss": total, "rate": rate, **parts}.items():
            write(f"step/{name}", value, self._step)
        for name, value in parts.items():
            self.history.parts.setdefault(name, []).append(value)
        self._step += 1

    def _after_epoch(self, write: Callable[[str, float, int], None]) -> bool:
        """Measure, keep what is best, and say whether that is enough."""
        epoch = self._step // self._steps_an_epoch
        losses = self.history.losses[-self._steps_an_epoch :]
        figures = {"epoch": float(epoch), "loss": sum(losses) / len(losses)}
        if self._watch is not None:
            self.module.eval()
            with self._averaged():
                figures |= collectives.from_main(self._replica(self._watch))
                self._keep_best(figures)
        self.history.epochs.append(figures)
        for name, value in figures.items():
            write(f"epoch/{name}", value, epoch)
        said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._tell(f"{said} ({self.history.seconds:.0f} s)")
        return self._stops()

    def _keep_best(self, figures: Figures) -> None:
        if self._score not in figures:
            return
        if figures[self._score] > self._best_score:
            self._best_score, self._since_best = figures[self._score], 0
            if self.settings.keep_best:
                self._best = parted.whole(self.module.state_dict(), self.module)
        else:
            self._since_best += 1

    def _stops(self) -> bool:
        return 0 < self.settings.patience <= self._since_best

    def _averaged(self) -> Any:
        return nullcontext() if self._mean is None else self._mean.in_place(self.module)

    def _finish(self) -> None:
        self._save()
        if self._best:
            parted.fill(self.module.state_dict(), self._best)
        elif self._mean is not None:
            with torch.no_grad():
                for name, parameter in self.module.named_parameters():
                    parameter.copy_(self._mean.values[name])
        parted.complete(self.module, self._spare)
        self.module.eval()

    def _is_time(self, epoch_ended: bool) -> bool:
        late = time.monotonic() - self._saved_at >= 60 * self.settings.checkpoint_minutes
        return late or epoch_ended

    def _save(self) -> None:
        weights, optimizer = parted.states(self.module, self._optimizer)
        mean = {} if self._mean is None else parted.whole(self._mean.values, self.module)
        self._saved_at = time.monotonic()
        if not is_main():
            return
        checkpoints.save(
            Checkpoint(
                step=self._step,
                module=weights,
                optimizer=optimizer,
                scaler=self._precision.scaler.state_dict(),
                mean=mean,
                best=self._best,
                best_score=self._best_score,
                since_best=self._since_best,
                history=self.history,
                random=checkpoints.random_state(),
                told=self._told,
            ),
            self.folder,
        )

    def _restore(self, saved: Checkpoint) -> None:
        parted.load_states(self.module, self._optimizer, saved.module, saved.optimizer)
        self._precision.scaler.load_state_dict(saved.scaler)
        if self._mean is not None:
            parted.fill(self._mean.values, saved.mean)
        self._best, self._best_score = saved.best, saved.best_score
        self._since_best, self._step = saved.since_best, saved.step
        self.history = saved.history
        checkpoints.set_random_state(saved.random)


def goes_on_by_itself(me: Ranks, folder: Path) -> bool:
    """Whether a run resumes without being told to: torchrun started some of its processes anew, and
    there is a checkpoint. Every rank must call it, and gets what the main one found."""
    return collectives.from_main(me.restarts > 0 and (folder / checkpoints.FILE).is_file())


@contextmanager
def _writer(folder: Path) -> Iterator[Callable[[str, float, int], None]]:
    """Writes figures for TensorBoard."""
    if not is_main():
        yield lambda name, value, step: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        yield writer.add_scalar


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; the second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
