"""Trains the low-light network: `python -m engines.lowlight.train`.

Steps are numbered and every batch follows from its number, so a run that is killed goes on where
its last checkpoint stands. What counts is the moving average of the weights. `--without TERM`
leaves one term of the loss out.
"""

# ruff: noqa: PLR2004  chances and ranges of chance stand where they act
from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.common import training
from engines.lowlight import losses
from engines.lowlight.data import Pair, digest_of, in_part, read_picture, training_pairs
from engines.lowlight.network import STRIDE, LowLightNetwork, enhance
from engines.smoke.network import Encoder
from engines.smoke.train import trunk_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator

CODE = ("network.py", "data.py", "losses.py", "train.py")
"""Files whose digest goes into the checkpoint."""
SIZE = 192
"""Side of a training picture."""
THUMBNAIL = (96, 160)
"""(height, width) of what the network sees, here and in the program."""
KEEP = 0.997
"""Share of the old in the moving average of the weights, at the end."""
REGIONS = 6
"""A scene is divided into so many for the consistency within each."""
WEIGHTS: Mapping[str, float] = {
    "distance": 1.0,
    "structure": 0.8,
    "exposed": 0.2,
    "grey_world": 0.3,
    "spatial": 2.0,
    "smooth": 1.0,
    "contrast": 0.5,
    "regional": 0.5,
    "steady": 0.5,
}
"""Of the terms of `losses.py`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the outcome."""

    steps: int = 2000
    batch: int = 8
    rate: float = 1e-3
    seed: int = 1
    without: tuple[str, ...] = ()
    final: bool = False
    """Whether the development scenes, with which the recipe was chosen, are learnt from as well."""


class Batches:
    """Batch number n, the same each time: pairs with synthetic noise, darkening and colour."""

    def __init__(self, pairs: Sequence[Pair], recipe: Recipe) -> None:
        self._recipe = recipe
        by_scene: dict[str, list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]] = {}
        for pair in pairs:
            both = (_small(read_picture(pair.low)), _small(read_picture(pair.ref)))
            by_scene.setdefault(pair.scene, []).append(both)
        self._scenes = list(by_scene.values())

    def batch(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (n, 3, h, w) with noise, references, and the noise's deviation (n,)."""
        random = np.random.default_rng((self._recipe.seed, number))
        lows, refs, sigmas = [], [], []
        for _ in range(self._recipe.batch):
            scene = self._scenes[int(random.integers(len(self._scenes)))]
            low, ref = scene[int(random.integers(len(scene)))]
            low, ref = _vary(low, ref, random)
            low, sigma = _expose(low, ref, random)
            lows.append(low)
            refs.append(ref)
            sigmas.append(sigma)
        return _tensor(lows), _tensor(refs), torch.tensor(sigmas, dtype=torch.float32)


def _tensor(pictures: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    """(h, w, 3) each to (n, 3, h, w)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _small(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    side = round(SIZE * 1.4)
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _vary(
    low: np.ndarray[Any, Any], ref: np.ndarray[Any, Any], random: Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The same random part, scale and flip of both, (SIZE, SIZE, 3), 0 to 1."""
    part = int(random.integers(round(0.55 * low.shape[0]), low.shape[0] + 1))
    y, x = random.integers(0, low.shape[0] - part + 1, 2)
    flip = random.random() < 0.5
    cut = []
    for picture in (low, ref):
        piece = picture[y : y + part, x : x + part]
        piece = cv2.resize(piece, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        cut.append((piece[:, ::-1] if flip else piece).astype(np.float32) / 255)
    return cut[0], cut[1]


def _expose(
    low: np.ndarray[Any, Any], ref: np.ndarray[Any, Any], random: Generator
) -> tuple[np.ndarray[Any, Any], float]:
    """A darker exposure, or the reference itself; with shot and read noise. Its deviation."""
    chance = random.random()
    if chance < 0.12:  # what is well lit stays as it is
        low = ref
    elif chance < 0.5:  # less light still, in linear light
        light = low**2.2 * float(np.exp(random.uniform(np.log(0.15), 0)))
        low = light ** (1 / 2.2)
    read = float(random.uniform(0, 0.02)) if random.random() < 0.7 else 0.0
    shot = float(random.uniform(0, 0.02)) if read else 0.0
    deviation = np.sqrt(read**2 + shot**2 * low)
    noisy = low + random.normal(0, 1, low.shape) * deviation
    noisy = np.round(np.clip(noisy, 0, 1) * 255) / 255  # a camera's bytes: what is lost is lost
    return noisy.astype(np.float32), float(deviation.mean())


def thumbnail_of(pictures: Tensor) -> Tensor:
    """What the network is shown of pictures (n, 3, h, w)."""
    return functional.interpolate(pictures, size=THUMBNAIL, mode="area")


def regions_of(reference: Tensor) -> Tensor:
    """Regions of each scene by colour and place, (n, REGIONS, rows, columns) as exposure has."""
    rows, columns = (side // STRIDE for side in THUMBNAIL)
    small = functional.interpolate(reference, size=(rows, columns), mode="area")
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    masks = []
    for picture in small.permute(0, 2, 3, 1).numpy():
        points = np.concatenate([picture * 2, (y / rows)[..., None], (x / columns)[..., None]], 2)
        cv2.setRNGSeed(1)
        stop = (cv2.TERM_CRITERIA_MAX_ITER, 8, 0.0)
        _, labels, _ = cv2.kmeans(
            points.reshape(-1, 5).astype(np.float32),
            REGIONS,
            None,
            stop,
            1,
            cv2.KMEANS_PP_CENTERS,  # type: ignore[call-overload]
        )
        masks.append(labels.reshape(rows, columns)[None] == np.arange(REGIONS)[:, None, None])
    return torch.from_numpy(np.stack(masks).astype(np.float32))


class Features:
    """What pictures are compared by: means and spreads of an ImageNet network's early channels."""

    def __init__(self) -> None:
        trunk = Encoder()
        trunk.begin_with(trunk_weights())
        self._trunk = trunk.eval().requires_grad_(requires_grad=False)

    def __call__(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w), 0 to 1, to (n, 48)."""
        small = functional.interpolate(pictures, size=(64, 64), mode="area")
        x = self._trunk.early(small * 2 - 1)
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)


def terms_of(
    network: LowLightNetwork, features: Features, low: Tensor, ref: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """Every term of the loss for one batch."""
    said = network(thumbnail_of(low), noise)
    enhanced = enhance(low, said)
    # The same scene a moment later: shifted by a pixel or two, other gain, other noise.
    shift = [int(value) for value in torch.randint(-3, 4, (2,))]
    gain = 1 + 0.04 * torch.randn(len(low), 1, 1, 1)
    later = (torch.roll(low, shift, (2, 3)) * gain + 0.01 * torch.randn_like(low)).clamp(0, 1)
    said_later = network(thumbnail_of(later), noise)
    over = (ref * 1.9 + 0.1).clamp(0, 1)
    return {
        "distance": losses.distance(enhanced, ref),
        "structure": losses.structure(enhanced, ref),
        "exposed": losses.exposed(enhanced),
        "grey_world": losses.grey_world(enhanced),
        "spatial": losses.spatial(enhanced, low),
        "smooth": losses.smooth(said.exposure),
        "contrast": losses.contrast(
            features, enhanced, torch.roll(ref, 1, 0), torch.cat([low, over])
        ),
        "regional": losses.regional(said.exposure, regions_of(ref)),
        "steady": losses.steady(said.exposure, said_later.exposure)
        + losses.steady(said.curves, said_later.curves),
    }


def psnr_of(network: LowLightNetwork, pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean PSNR and SSIM over pairs, without noise, as they are."""
    psnrs, ssims = [], []
    with torch.no_grad():
        for pair in pairs:
            low, ref = (
                torch.from_numpy(read_picture(path)).permute(2, 0, 1)[None].float() / 255
                for path in (pair.low, pair.ref)
            )
            enhanced = enhance(low, network(thumbnail_of(low), torch.zeros(1))).clamp(0, 1)
            psnrs.append(-10 * math.log10(float((enhanced - ref).square().mean()) + 1e-10))
            ssims.append(float(losses.ssim(enhanced, ref)))
    return {"psnr": float(np.mean(psnrs)), "ssim": float(np.mean(ssims))}


def code_digest() -> str:
    """One digest of the code that decides what is learnt, whatever its layout and comments."""
    return training.code_digest(Path(__file__).parent, CODE)


def train(recipe: Recipe, folder: Path, *, check: int) -> dict[str, float]:
    """Train until `recipe.steps`, going on from the folder's checkpoint; the last figures."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    pairs = training_pairs()
    ours, unseen = in_part(pairs, "train"), in_part(pairs, "development")
    if recipe.final:
        ours, unseen = [*ours, *unseen], []
    batches, features = Batches(ours, recipe), Features()
    network = LowLightNetwork()
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-2)
    path, step = folder / "checkpoint.pt", 0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    facts = {"data": digest_of(ours), "code": code_digest()}
    measured: dict[str, float] = {}
    began, sums, count = time.monotonic(), dict[str, float](), 0
    while step < recipe.steps:
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            fall = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            group["lr"] = recipe.rate * min(1, (step + 1) / 100) * max(fall, 0.01)
        terms = terms_of(network, features, *batches.batch(step))
        kept = {name: term for name, term in terms.items() if name not in recipe.without}
        loss = torch.stack([WEIGHTS[name] * term for name, term in kept.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        training.follow(average, network, min(KEEP, (1 + step) / (10 + step)))
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
        count += 1
        if step % 100 and step != recipe.steps:
            continue
        line: dict[str, Any] = {"step": step, **{n: round(v / count, 5) for n, v in sums.items()}}
        line["ms_per_step"] = round((time.monotonic() - began) / count * 1000)
        if unseen and (step % check == 0 or step == recipe.steps):
            measured = psnr_of(average, unseen)
            line |= measured
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        state = {
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
        }
        training.save(state | facts, path)
        began, sums, count = time.monotonic(), {}, 0
    return measured


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/lowlight"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", action="append", default=[], choices=list(WEIGHTS))
    parser.add_argument("--final", action="store_true", help="learn from development scenes too")
    parser.add_argument("--check", type=int, default=200, help="measure after so many steps")
    a = parser.parse_args()
    recipe = Recipe(a.steps, a.batch, a.rate, a.seed, tuple(a.without), a.final)
    train(recipe, a.folder, check=a.check)


if __name__ == "__main__":
    main()
