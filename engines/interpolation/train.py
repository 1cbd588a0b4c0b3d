"""Trains the network of the CPU way: `python -m engines.interpolation.train`.

The rate falls over the minutes given, so a run ends when it was told to; minutes, like steps, are
kept in the checkpoint, and a run that is killed goes on where its last checkpoint stands. Every
sample follows from its number. What counts is the moving average of the weights.

The guesses are fixed, so nothing is differentiated through a warp: what is learnt is a mixture, and
what it should have been is known at every pixel.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from engines import learning
from engines.interpolation.data import digest_of, training
from engines.interpolation.network import Mixer
from engines.interpolation.samples import Maker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.interpolation.samples import Sample

CODE = ("network.py", "data.py", "samples.py", "flow.py", "synthesis.py", "train.py")
"""Files whose digest goes into the checkpoint."""
KEEP = 0.998
"""Share of the old in the moving average of the weights, at the end."""
SAVE_EVERY_S = 60.0
FLOOR = 5e-5
"""Added to a mean square before its logarithm: beyond 43 dB little is to be won, and without it
the samples that hardly move rule the gradient."""
WEIGHTS: Mapping[str, float] = {"decibels": 1.0, "distance": 10.0, "edges": 3.0}
"""Of the terms of the loss. What is scored is the mean of logarithms."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the outcome."""

    minutes: float = 30.0
    batch: int = 12
    rate: float = 2e-3
    seed: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples as tensors; planes 0 to 1."""

    luma: Tensor
    """(n, 1, h, w): what is wanted."""
    chroma: Tensor
    """(n, 2, h/2, w/2)."""
    guessed_luma: Tensor
    """(n, 4, h, w): the guesses."""
    guessed_chroma: Tensor
    """(n, 4, 2, h/2, w/2)."""
    seen: Tensor
    """(n, 10, h/2, w/2), bytes."""
    crowd: Tensor
    """(n, 6, h/4, w/4), bytes."""
    fields: Tensor
    """(n, 4, h/4, w/4)."""
    t: Tensor
    """(n, 1, 1, 1)."""


class _Numbered(Dataset["Sample"]):
    """Samples by number, from the first that has not been seen."""

    def __init__(self, seed: int, first: int) -> None:
        self._seed, self._first = seed, first
        self._maker: Maker | None = None

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Sample:
        if self._maker is None:  # in the process that makes them
            cv2.setNumThreads(1)
            self._maker = Maker(training(), self._seed)
        return self._maker.sample(self._first + index)


class _InOrder:
    """All numbers, without the list of them that a sampler would make."""

    def __iter__(self) -> Any:
        number = 0
        while True:
            yield number
            number += 1


def together(samples: Sequence[Sample]) -> Batch:
    """Samples as one batch."""

    def stacked(arrays: list[np.ndarray[Any, Any]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).float()

    def planar(x: Tensor) -> Tensor:
        return x.permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous()

    return Batch(
        luma=stacked([s.wanted[0][None] for s in samples]) / 255,
        chroma=stacked([np.stack(s.wanted[1:]) for s in samples]) / 255,
        guessed_luma=stacked([s.guessed[0] for s in samples]) / 255,
        guessed_chroma=stacked([np.stack(s.guessed[1:], 1) for s in samples]) / 255,
        seen=stacked([s.seen for s in samples]),
        crowd=stacked([s.crowd for s in samples]),
        fields=planar(stacked([s.fields for s in samples])),
        t=torch.tensor([s.t for s in samples], dtype=torch.float32).view(-1, 1, 1, 1),
    )


def terms_of(network: Mixer, batch: Batch) -> dict[str, Tensor]:
    """Every term of the loss for one batch."""
    shares = network(batch.seen, batch.crowd, batch.fields, batch.t)
    large = functional.interpolate(shares, scale_factor=2.0, mode="bilinear", align_corners=False)
    apart = (batch.guessed_luma * large).sum(1, keepdim=True) - batch.luma
    apart_chroma = (batch.guessed_chroma * shares.unsqueeze(2)).sum(1) - batch.chroma
    # Weighted as they weigh in red, green and blue.
    square = apart.square().mean((1, 2, 3)) + 1.76 * apart_chroma.square().mean((1, 2, 3))
    return {
        "decibels": (square + FLOOR).log().mean(),
        "distance": (apart.square() + 1e-6).sqrt().mean()
        + (apart_chroma.square() + 1e-6).sqrt().mean(),
        "edges": apart.diff(dim=2).abs().mean() + apart.diff(dim=3).abs().mean(),
    }


def code_digest() -> str:
    """One digest of the code that decides what is learnt, whatever its layout and comments."""
    return learning.code_digest(Path(__file__).parent, CODE)


def train(recipe: Recipe, folder: Path, *, workers: int, steps: int | None = None) -> int:
    """Train until the minutes are over, going on from the folder's checkpoint; steps made."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network = Mixer()
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-3)
    path, step, spent = folder / "checkpoint.pt", 0, 0.0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    facts = {"data": digest_of(training()), "code": code_digest()}
    loader = DataLoader(
        _Numbered(recipe.seed, step * recipe.batch),
        batch_size=recipe.batch,
        sampler=cast("Any", _InOrder()),
        num_workers=workers,
        collate_fn=together,
        prefetch_factor=4 if workers else None,
    )
    sums, count = dict[str, float](), 0
    began = saved = time.monotonic()
    before = spent
    for batch in loader:
        done = min(1.0, spent / (60 * recipe.minutes))
        for group in optimiser.param_groups:
            fall = 0.5 * (1 + math.cos(math.pi * done))
            group["lr"] = recipe.rate * min(1, (step + 1) / 200) * max(fall, 0.01)
        terms = terms_of(network, batch)
        loss = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        optimiser.step()
        step += 1
        learning.follow(average, network, min(KEEP, (1 + step) / (10 + step)))
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
        count += 1
        now = time.monotonic()
        spent = before + now - began
        over = spent >= 60 * recipe.minutes or (steps is not None and step >= steps)
        if now - saved < SAVE_EVERY_S and not over:
            continue
        line: dict[str, Any] = {"step": step, "minutes": round(spent / 60, 1)}
        line |= {name: round(value / count, 4) for name, value in sums.items()}
        line["ms_per_step"] = round((now - saved) / count * 1000)
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        state = {
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "spent": spent,
        }
        learning.save(state | facts, path)
        saved, sums, count = now, {}, 0
        if over:
            break
    return step


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/interpolation"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int, help="stop after so many, whatever the minutes")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that make samples")
    a = parser.parse_args()
    recipe = Recipe(a.minutes, a.batch, a.rate, a.seed)
    train(recipe, a.folder, workers=a.workers, steps=a.steps)


if __name__ == "__main__":
    main()
