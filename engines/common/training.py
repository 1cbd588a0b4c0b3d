"""One training run, for every task: EMA of the weights, schedule, checkpoint, log and resume.

A run is deterministic up to rounding: sample n of seed s is always the same, so that a run that was
killed resumes from its last checkpoint with the samples that it would have seen.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    Schedule = Callable[[int, float], float]

EMA_DECAY = 0.998
"""Weight of the old average in the EMA, once the run is warmed up."""


def code_digest(folder: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of source files by their syntax trees; layout and comments do not count.

    Args:
        folder: The folder of the task package.
        names: Files relative to it that decide what is learned.
    """
    digest = hashlib.sha256()
    for name in names:
        source = (folder / name).read_text(encoding="utf-8")
        digest.update(ast.dump(ast.parse(source)).encode())
    return digest.hexdigest()


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint and rename it into place: a kill leaves the old or the new file."""
    torch.save(dict(state), part := path.with_suffix(".part"))
    part.replace(path)


def cosine_schedule(progress: Schedule, *, warmup_steps: int, floor: float) -> Schedule:
    """Return a learning-rate factor: linear warm-up times a cosine that falls to `floor`.

    Args:
        progress: Fraction of the run that is done after (steps, seconds), 0 to 1.
        warmup_steps: Steps of the warm-up.
        floor: Least value of the cosine part.
    """

    def factor(step: int, seconds: float) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress(step, seconds))))
        return min(1.0, (step + 1) / warmup_steps) * max(cosine, floor)

    return factor


def update_ema(decay: float) -> Callable[..., None]:
    """Return a `multi_avg_fn` for `AveragedModel` whose decay rises from 0.1 to `decay`.

    Integer buffers, such as counters of batches, are copied.
    """

    @torch.no_grad()
    def update(average: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        steps = int(count)
        keep = min(decay, (1 + steps) / (10 + steps))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, 1 - keep)
        else:
            for mine, theirs in zip(average, current, strict=True):
                mine.copy_(theirs)

    return update


class TrainingRun:
    """Network, EMA, optimizer and schedule of one run, resumed from its folder's checkpoint.

    Args:
        network: Is trained in place, on its device.
        optimizer: Over its parameters, at their peak learning rates.
        folder: Holds `checkpoint.pt` and `log.jsonl`; made if missing.
        schedule: Factor on the learning rates by (steps, seconds), see `cosine_schedule`.
        max_gradient_norm: Gradients are clipped to this norm.
        ema_decay: See `update_ema`.
        average_buffers: Average the running statistics of batch normalisation as well.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        folder: Path,
        *,
        schedule: Schedule,
        max_gradient_norm: float,
        ema_decay: float = EMA_DECAY,
        average_buffers: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.network, self.folder = network, folder
        self.step = 0
        """Steps made."""
        self.seconds = 0.0
        """Time spent on them, over all restarts."""
        self.best = -math.inf
        """Highest score so far, see `save_if_best`."""
        self._path = folder / "checkpoint.pt"
        self._optimizer, self._max_norm = optimizer, max_gradient_norm
        self._average = AveragedModel(
            network, multi_avg_fn=update_ema(ema_decay), use_buffers=average_buffers
        )
        self.resumed: bool = self._path.is_file()
        """Whether a checkpoint was found."""
        if self.resumed:
            self._resume()
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._scheduler = LambdaLR(
            optimizer, lambda step: schedule(step, self.seconds), last_epoch=self.step - 1
        )
        self._before, self._began = self.seconds, time.monotonic()
        self._sums: dict[str, float] = {}
        self._count, self._logged, self._stepped = 0, self._began, self._began

    @property
    def average(self) -> nn.Module:
        """The network with averaged weights: the one that is evaluated and exported."""
        return self._average.module

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights of an earlier run, for the network and for its average."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def optimize(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Make one step down the gradient of a loss; its terms are summed up for the log."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._max_norm)
        self._optimizer.step()
        self.step += 1
        self._scheduler.step()
        self._average.update_parameters(self.network)
        for name, term in {**terms, "gradient": norm}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(term.detach())
        self._count += 1
        self._stepped = time.monotonic()
        self.seconds = self._before + self._stepped - self._began

    def log(self, **figures: Any) -> dict[str, Any]:
        """Append a line to `log.jsonl`: means since the last line, and more figures."""
        line = {
            "step": self.step,
            "minutes": round(self.seconds / 60, 1),
            **{name: round(value / self._count, 5) for name, value in self._sums.items()},
            "ms_per_step": round((self._stepped - self._logged) / self._count * 1000),
            **figures,
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._sums, self._count, self._logged = {}, 0, time.monotonic()
        return line

    def save(self, **facts: Any) -> None:
        """Replace the checkpoint."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
        }
        save(state | facts, self._path)

    def save_if_best(self, score: float, **facts: Any) -> None:
        """Write the averaged weights to `best.pt` if no score was higher before."""
        if score > self.best:
            self.best = score
            state = {"average": self.average.state_dict(), "step": self.step}
            save(state | facts, self.folder / "best.pt")

    def _resume(self) -> None:
        device = next(self.network.parameters()).device
        state = torch.load(self._path, map_location=device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self._average.n_averaged.fill_(self.step)
