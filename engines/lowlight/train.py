"""Train the low-light network: `python -m engines.lowlight.train`.

The averaged weights are evaluated and exported. `--without TERM` leaves out a term of the loss.
"""

# ruff: noqa: PLR2004  random ranges stand where they act
from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.common import training
from engines.common.dataset import read_rgb
from engines.common.encoder import Encoder, imagenet_weights
from engines.lowlight import losses
from engines.lowlight.data import Pair, digest_of, pairs_of, training_pairs
from engines.lowlight.network import STRIDE, LowLightNetwork, enhance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator

CODE = (
    "network.py",
    "data.py",
    "losses.py",
    "train.py",
    "../common/encoder.py",
    "../common/training.py",
)
"""Files whose digest goes into the checkpoint."""
SIZE = 192
"""Side of a training image."""
THUMBNAIL = (96, 160)
"""(height, width) of the network's input, here and in the program."""
EMA_DECAY = 0.997
REGIONS = 6
"""Regions per scene for `semantic_brightness`."""
WEIGHTS: Mapping[str, float] = {
    "distance": 1.0,
    "structure": 0.8,
    "exposure": 0.2,
    "grey_world": 0.3,
    "spatial": 2.0,
    "smooth": 1.0,
    "contrast": 0.5,
    "semantic_brightness": 0.5,
    "temporal": 0.5,
}
"""Weights of the terms of `losses.py`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parameters that decide the outcome of a training run."""

    steps: int = 2000
    batch: int = 8
    rate: float = 1e-3
    seed: int = 1
    without: tuple[str, ...] = ()
    final: bool = False
    """Whether to train on the development scenes, by which the recipe was chosen, as well."""


class Batches:
    """Makes batch number n, deterministically: pairs with synthetic noise and darkening."""

    def __init__(self, pairs: Sequence[Pair], recipe: Recipe) -> None:
        self._recipe = recipe
        by_scene: dict[str, list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]] = {}
        for pair in pairs:
            both = (_small(read_rgb(pair.low)), _small(read_rgb(pair.ref)))
            by_scene.setdefault(pair.scene, []).append(both)
        self._scenes = list(by_scene.values())

    def batch(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy images (n, 3, h, w), references, and the noise's deviation (n,)."""
        rng = np.random.default_rng((self._recipe.seed, number))
        lows, refs, sigmas = [], [], []
        for _ in range(self._recipe.batch):
            scene = self._scenes[int(rng.integers(len(self._scenes)))]
            low, ref = scene[int(rng.integers(len(scene)))]
            low, ref = _vary(low, ref, rng)
            low, sigma = _expose(low, ref, rng)
            lows.append(low)
            refs.append(ref)
            sigmas.append(sigma)
        return _tensor(lows), _tensor(refs), torch.tensor(sigmas, dtype=torch.float32)


def _tensor(images: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    """Stack images (h, w, 3) to (n, 3, h, w)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _small(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    side = round(SIZE * 1.4)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _vary(
    low: np.ndarray[Any, Any], ref: np.ndarray[Any, Any], rng: Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the same random crop, scale and flip of both, (SIZE, SIZE, 3), 0 to 1."""
    part = int(rng.integers(round(0.55 * low.shape[0]), low.shape[0] + 1))
    y, x = rng.integers(0, low.shape[0] - part + 1, 2)
    flip = rng.random() < 0.5
    cut = []
    for image in (low, ref):
        piece = image[y : y + part, x : x + part]
        piece = cv2.resize(piece, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        cut.append((piece[:, ::-1] if flip else piece).astype(np.float32) / 255)
    return cut[0], cut[1]


def _expose(
    low: np.ndarray[Any, Any], ref: np.ndarray[Any, Any], rng: Generator
) -> tuple[np.ndarray[Any, Any], float]:
    """Return a darker exposure, or the reference, with shot and read noise, and its deviation."""
    choice = rng.random()
    if choice < 0.12:  # well exposed images must stay unchanged
        low = ref
    elif choice < 0.5:  # even less light, in linear light
        light = low**2.2 * float(np.exp(rng.uniform(np.log(0.15), 0)))
        low = light ** (1 / 2.2)
    read = float(rng.uniform(0, 0.02)) if rng.random() < 0.7 else 0.0
    shot = float(rng.uniform(0, 0.02)) if read else 0.0
    deviation = np.sqrt(read**2 + shot**2 * low)
    noisy = low + rng.normal(0, 1, low.shape) * deviation
    noisy = np.round(np.clip(noisy, 0, 1) * 255) / 255  # rounding of a camera
    return noisy.astype(np.float32), float(deviation.mean())


def thumbnail_of(images: Tensor) -> Tensor:
    """Return the thumbnails of images (n, 3, h, w)."""
    return functional.interpolate(images, size=THUMBNAIL, mode="area")


def regions_of(reference: Tensor) -> Tensor:
    """Return regions by colour and position, (n, REGIONS, rows, columns), by k-means."""
    rows, columns = (side // STRIDE for side in THUMBNAIL)
    small = functional.interpolate(reference, size=(rows, columns), mode="area")
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    masks = []
    for image in small.permute(0, 2, 3, 1).numpy():
        points = np.concatenate([image * 2, (y / rows)[..., None], (x / columns)[..., None]], 2)
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
    """Features of the contrastive term: channel statistics of the pretrained encoder's stem."""

    def __init__(self) -> None:
        encoder = Encoder()
        encoder.load_pretrained(imagenet_weights())
        self._encoder = encoder.eval().requires_grad_(requires_grad=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w), 0 to 1, to (n, 48)."""
        small = functional.interpolate(images, size=(64, 64), mode="area")
        x = self._encoder.stem_features(small * 2 - 1)
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)


def terms_of(
    network: LowLightNetwork, features: Features, low: Tensor, ref: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """Return every term of the loss for one batch."""
    output = network(thumbnail_of(low), noise)
    enhanced = enhance(low, output)
    # The same scene a moment later: shifted by a few pixels, with other gain and noise.
    shift = [int(value) for value in torch.randint(-3, 4, (2,))]
    gain = 1 + 0.04 * torch.randn(len(low), 1, 1, 1)
    later = (torch.roll(low, shift, (2, 3)) * gain + 0.01 * torch.randn_like(low)).clamp(0, 1)
    output_later = network(thumbnail_of(later), noise)
    over = (ref * 1.9 + 0.1).clamp(0, 1)
    return {
        "distance": losses.distance(enhanced, ref),
        "structure": losses.structure(enhanced, ref),
        "exposure": losses.exposure(enhanced),
        "grey_world": losses.grey_world(enhanced),
        "spatial": losses.spatial(enhanced, low),
        "smooth": losses.smooth(output.exposure),
        "contrast": losses.contrast(
            features, enhanced, torch.roll(ref, 1, 0), torch.cat([low, over])
        ),
        "semantic_brightness": losses.semantic_brightness(output.exposure, regions_of(ref)),
        "temporal": losses.temporal(output.exposure, output_later.exposure)
        + losses.temporal(output.curves, output_later.curves),
    }


def measure(network: nn.Module, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return mean PSNR and SSIM over pairs, without denoising."""
    psnrs, ssims = [], []
    with torch.no_grad():
        for pair in pairs:
            low, ref = (
                torch.from_numpy(read_rgb(path)).permute(2, 0, 1)[None].float() / 255
                for path in (pair.low, pair.ref)
            )
            enhanced = enhance(low, network(thumbnail_of(low), torch.zeros(1))).clamp(0, 1)
            psnrs.append(-10 * math.log10(float((enhanced - ref).square().mean()) + 1e-10))
            ssims.append(float(losses.ssim(enhanced, ref)))
    return {"psnr": float(np.mean(psnrs)), "ssim": float(np.mean(ssims))}


def code_digest() -> str:
    """Return the digest of the code that decides what is learned."""
    return training.code_digest(Path(__file__).parent, CODE)


def train(recipe: Recipe, folder: Path, *, check: int) -> dict[str, float]:
    """Train for `recipe.steps`, resuming from the folder's checkpoint; return the last figures."""
    torch.manual_seed(recipe.seed)
    pairs = training_pairs()
    chosen, development = pairs_of(pairs, "train"), pairs_of(pairs, "development")
    if recipe.final:
        chosen, development = [*chosen, *development], []
    batches, features = Batches(chosen, recipe), Features()
    network = LowLightNetwork()
    run = training.TrainingRun(
        network,
        torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-2),
        folder,
        schedule=training.cosine_schedule(
            lambda step, _: step / recipe.steps, warmup_steps=100, floor=0.01
        ),
        max_gradient_norm=1.0,
        ema_decay=EMA_DECAY,
    )
    facts = {"data": digest_of(chosen), "code": code_digest()}
    measured: dict[str, float] = {}
    while run.step < recipe.steps:
        torch.manual_seed(recipe.seed * 1_000_003 + run.step)
        terms = terms_of(network, features, *batches.batch(run.step))
        used = {name: term for name, term in terms.items() if name not in recipe.without}
        loss = torch.stack([WEIGHTS[name] * term for name, term in used.items()]).sum()
        run.optimize(loss, terms)
        if run.step % 100 and run.step != recipe.steps:
            continue
        figures: dict[str, float] = {}
        if development and (run.step % check == 0 or run.step == recipe.steps):
            figures = measured = measure(run.average.eval(), development)
        print(json.dumps(run.log(**figures)), flush=True)
        run.save(**facts)
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
    parser.add_argument("--final", action="store_true", help="train on development scenes as well")
    parser.add_argument("--check", type=int, default=200, help="evaluate after so many steps")
    a = parser.parse_args()
    recipe = Recipe(a.steps, a.batch, a.rate, a.seed, tuple(a.without), a.final)
    train(recipe, a.folder, check=a.check)


if __name__ == "__main__":
    main()
