"""Evaluate low-light enhancement: `python -m engines.lowlight.evaluate --json`.

Everything runs as in the program: 4:2:0 planes, the ONNX file, the curves at full resolution. The
brightness is never corrected by the reference.

* pairs: images with a well exposed reference, of scenes never trained on or of any `--pairs`;
* `--video`: temporal stability and noise on real night frames and on darkened clips.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.common.dataset import data_folder, read_rgb
from engines.common.i420 import i420_to_rgb, rgb_to_i420
from engines.common.metrics import gmsd, psnr, ssim
from engines.lowlight.baselines import all_baselines, gamma_for, with_gamma
from engines.lowlight.data import Pair, pairs_of, read_pairs, training_pairs
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.metrics import (
    brightness_flicker,
    noise_gain,
    warping_error,
)
from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.lowlight.still_image import darken, enhance_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]

OURS = "ours"
CLIPS = (
    "clips/opencv/vtest.mp4",
    "clips/lane_detecting/countryroad.mp4",
    "clips/sam2_gallery/bedroom.mp4",
)
"""Day clips that are darkened: people, a drive, a room."""
FRAMES = 40
FPS = 25
CLIP_SIZE = (360, 640)
"""(height, width) of each part of `--clip`."""
SMOOTHING_S = 1.5
"""Time constant of automatic gamma, the same as ours."""


def measure_pairs(model: LowLightModel, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return PSNR, SSIM and GMSD of each method; ours at the top level as well."""
    methods: dict[str, Callable[[Rgb], Rgb]] = {
        OURS: lambda image: enhance_image(model, image),
        "ours_without_denoising": lambda image: enhance_image(model, image, denoise=False),
        **all_baselines(),
    }
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    for pair in pairs:
        low, ref = read_rgb(pair.low), read_rgb(pair.ref)
        for name, method in methods.items():
            enhanced = method(low)
            cropped = ref[: enhanced.shape[0], : enhanced.shape[1]]
            scores = psnr(enhanced, cropped), ssim(enhanced, cropped), gmsd(enhanced, cropped)
            rows[name].append(scores)
    figures = {
        name: dict(zip(("psnr", "ssim", "gmsd"), np.mean(values, axis=0).tolist(), strict=True))
        for name, values in rows.items()
    }
    return {
        **figures[OURS],
        "baselines": {name: line for name, line in figures.items() if name != OURS},
        "pairs": len(pairs),
        "scenes": len({pair.scene for pair in pairs}),
        "engine": model.backend,
    }


def measure_video(model: LowLightModel) -> dict[str, Any]:
    """Return temporal metrics of each source, ours beside gamma with the same smoothing."""
    return {
        name: {
            OURS: _temporal_metrics(_ours(model, frames), frames),
            "auto_gamma": _temporal_metrics(_smoothed_gamma(frames), frames),
        }
        for name, frames in _sources()
    }


def _sources() -> Iterator[tuple[str, list[Rgb]]]:
    folder = data_folder() / "video"
    night = sorted((folder / "uavdark_person11_night").glob("*.jpg"))[:FRAMES]
    if night:
        yield "uavdark (night, moving)", [_half(read_rgb(path)) for path in night]
    for name in CLIPS:
        path = folder / name
        if path.is_file():
            yield f"{path.stem} (darkened)", dark_clip(path)


def _half(image: Rgb) -> Rgb:
    return cast("Rgb", cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def dark_clip(path: Path) -> list[Rgb]:
    """Return the first frames of a day clip, darkened."""
    rng = np.random.default_rng(1)
    with av.open(path) as clip:
        frames = itertools.islice(clip.decode(video=0), FRAMES)
        return [darken(cast("Rgb", frame.to_ndarray(format="rgb24")), rng) for frame in frames]


def _ours(model: LowLightModel, frames: Sequence[Rgb]) -> list[Rgb]:
    enhancer = Enhancer(model)
    return [
        i420_to_rgb(enhancer(rgb_to_i420(frame), number / FPS))
        for number, frame in enumerate(frames)
    ]


def _smoothed_gamma(frames: Sequence[Rgb]) -> list[Rgb]:
    gamma, enhanced = None, []
    for frame in frames:
        target = gamma_for(frame)
        gamma = target if gamma is None else gamma + (target - gamma) * (1 / FPS / SMOOTHING_S)
        enhanced.append(with_gamma(frame, gamma))
    return enhanced


def _temporal_metrics(outputs: Sequence[Rgb], inputs: Sequence[Rgb]) -> dict[str, float]:
    after, before = (
        [cast("Rgb", cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in each]
        for each in (outputs, inputs)
    )
    before = [frame[: after[0].shape[0], : after[0].shape[1]] for frame in before]
    settled = slice(len(after) // 4, None)  # the first frames of a stream may still settle
    return {
        "brightness": float(np.mean([frame.mean() for frame in after])),
        "flicker": brightness_flicker(after[settled]),
        "warping_error": warping_error(after[settled], before[settled]),
        "noise_gain": noise_gain(after[settled], before[settled]),
    }


def draw_pairs(model: LowLightModel, pairs: Sequence[Pair], path: Path, *, count: int = 8) -> None:
    """Draw pairs side by side: dark, each method, reference."""
    tiles = []
    for pair in pairs[:: max(1, len(pairs) // count)][:count]:
        low = read_rgb(pair.low)
        shown = [low, enhance_image(model, low)]
        shown += [method(low) for name, method in all_baselines().items() if name != "raw"]
        shown.append(read_rgb(pair.ref))
        tiles.append(np.hstack([cv2.resize(each, (220, 220)) for each in shown]))
    cv2.imwrite(str(path), np.vstack(tiles)[..., ::-1])


def write_clip(model: LowLightModel, path: Path) -> None:
    """Write a video of the sources of `--video`: dark, gamma with the same smoothing, ours."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 3 * CLIP_SIZE[1], CLIP_SIZE[0], "yuv420p"
        for _, frames in _sources():
            for three in zip(frames, _smoothed_gamma(frames), _ours(model, frames), strict=True):
                row = np.hstack([cv2.resize(each, CLIP_SIZE[::-1]) for each in three])
                frame = av.VideoFrame.from_ndarray(cast("Rgb", row), format="rgb24")
                file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="an ONNX file; default: the shipped one")
    parser.add_argument("--pairs", type=Path, help="a CSV with low, ref, scene; all are used")
    parser.add_argument("--video", action="store_true", help="temporal metrics as well")
    parser.add_argument("--sheet", type=Path, help="image of the methods side by side")
    parser.add_argument("--clip", type=Path, help="video of the sources: dark, gamma, ours")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    a = parser.parse_args()
    model = open_lowlight_model(a.model)
    pairs = read_pairs(a.pairs) if a.pairs else pairs_of(training_pairs(), "validation")
    result = measure_pairs(model, pairs)
    if a.video:
        result["video"] = measure_video(model)
    if a.clip:
        write_clip(model, a.clip)
    if a.sheet:
        draw_pairs(model, pairs, a.sheet)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
