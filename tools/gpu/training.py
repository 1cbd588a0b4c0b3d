"""The section `train`: a few steps of the smoke network's training on the device, by PyTorch."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from gpu.sections import Unavailable

if TYPE_CHECKING:
    from torch import Tensor

    from gpu.sections import Options, ResultLog


def run(options: Options, results: ResultLog) -> None:
    """Train on one batch again and again: the loss has to fall, in numbers that are numbers.

    Raises:
        Unavailable: There is no PyTorch, or it sees no GPU.
        RuntimeError: The loss did not fall.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise Unavailable("torch is not installed") from error
    if options.on_gpu and not torch.cuda.is_available():
        raise Unavailable(f"torch {torch.__version__} sees no GPU")
    from engines.smoke.network import NETWORKS, prepare
    from engines.smoke.train import loss_of

    torch.manual_seed(1)
    device = torch.device(options.device)
    batch, height, width, steps = (2, 64, 96, 8) if options.quick else (16, 320, 512, 60)
    network = NETWORKS["smoke-fast"]().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    image, background, flag, target, known, smoke = (
        each.to(device) for each in _batch(batch, height, width)
    )
    losses: list[float] = []
    began = time.perf_counter()
    for step in range(steps):
        if step == 2:  # noqa: PLR2004  kernels are chosen, memory is taken
            _wait(options)
            began = time.perf_counter()
        network.train()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = network(prepare(image, background, flag))
        loss, _ = loss_of(output, target, known, smoke)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    _wait(options)
    rate = (steps - 2) / (time.perf_counter() - began)
    fell = all(map(math.isfinite, losses)) and losses[-1] < 0.9 * losses[0]
    figures = {"first": losses[0], "last": losses[-1], "steps": steps, "steps_per_s": rate}
    results.add("smoke-fast", {**figures, "batch": batch, "size": [height, width]})
    results.row(
        f"smoke-fast, batch {batch} of {width}x{height}, bf16, {steps} steps on one batch",
        f"loss {losses[0]:.3f} to {losses[-1]:.3f}; {rate:.1f} steps a second",
        goal="the loss falls",
        reached=fell,
    )
    if not fell:
        raise RuntimeError(f"the loss did not fall: {losses[0]} to {losses[-1]}")


def _batch(count: int, height: int, width: int) -> list[Tensor]:
    """Grey noise, on half of the frames a bright disc that is to be found."""
    import torch

    random = torch.Generator().manual_seed(2)
    shape = (count, height, width, 3)
    background = torch.randint(60, 120, shape, dtype=torch.uint8, generator=random)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disc = ((rows - height / 2) ** 2 + (columns - width / 3) ** 2) < (height / 6) ** 2
    shown = torch.arange(count) % 2 == 0
    lit = disc[None, :, :, None] & shown[:, None, None, None]
    image = torch.where(lit, torch.tensor(220, dtype=torch.uint8), background)
    target = (disc[::2, ::2].float()[None] * shown.float()[:, None, None]).contiguous()
    ones = torch.ones(count)
    return [image, background, ones, target, ones, shown.float()]


def _wait(options: Options) -> None:
    import torch

    if options.on_gpu:
        torch.cuda.synchronize(options.device)
