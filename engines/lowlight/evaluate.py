"""Measures low-light enhancement: `python -m engines.lowlight.evaluate --json`.

Everything runs as in the program: 4:2:0 planes, the ONNX file, the curves at full size. No
brightness is ever corrected by the reference.

* pairs: pictures with a well exposed reference, on scenes never trained on or on any `--pairs`;
* `--video`: steadiness and noise on real night frames and on clips that are darkened here.
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

from engines.lowlight.baselines import all_peers, gamma_for, with_gamma
from engines.lowlight.data import Pair, in_part, read_pairs, read_picture, training_pairs
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.metrics import (
    brightness_flicker,
    gradient_deviation,
    noise_gain,
    psnr,
    ssim,
    warping_error,
)
from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.lowlight.still_image import darkened, enhance_picture, to_planes, to_rgb
from engines.smoke.data import data_folder

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
RATE = 25
CLIP_SIZE = (360, 640)
"""(height, width) of each part of `--clip`."""
SMOOTHING_S = 1.5
"""Time constant of automatic gamma, the same as ours."""


def measure_pairs(model: LowLightModel, pairs: Sequence[Pair]) -> dict[str, Any]:
    """PSNR, SSIM and perceptual distance of each method; ours at the top level as well."""
    methods: dict[str, Callable[[Rgb], Rgb]] = {
        OURS: lambda picture: enhance_picture(model, picture),
        "ours_noise_left": lambda picture: enhance_picture(model, picture, denoise=False),
        **all_peers(),
    }
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    for pair in pairs:
        low, ref = read_picture(pair.low), read_picture(pair.ref)
        for name, method in methods.items():
            done = method(low)
            fits = ref[: done.shape[0], : done.shape[1]]
            rows[name].append((psnr(done, fits), ssim(done, fits), gradient_deviation(done, fits)))
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
    """Steadiness and noise of each source, ours beside gamma with the same smoothing."""
    return {
        name: {
            OURS: _steadiness(_ours(model, frames), frames),
            "auto_gamma": _steadiness(_smoothed_gamma(frames), frames),
        }
        for name, frames in _sources()
    }


def _sources() -> Iterator[tuple[str, list[Rgb]]]:
    folder = data_folder() / "video"
    night = sorted((folder / "uavdark_person11_night").glob("*.jpg"))[:FRAMES]
    if night:
        yield "uavdark (night, moving)", [_half(read_picture(path)) for path in night]
    for name in CLIPS:
        path = folder / name
        if path.is_file():
            yield f"{path.stem} (darkened)", dark_clip(path)


def _half(picture: Rgb) -> Rgb:
    return cast("Rgb", cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def dark_clip(path: Path) -> list[Rgb]:
    """The beginning of a day clip as at night."""
    random = np.random.default_rng(1)
    with av.open(path) as clip:
        frames = itertools.islice(clip.decode(video=0), FRAMES)
        return [darkened(cast("Rgb", frame.to_ndarray(format="rgb24")), random) for frame in frames]


def _ours(model: LowLightModel, frames: Sequence[Rgb]) -> list[Rgb]:
    enhancer = Enhancer(model)
    return [
        to_rgb(enhancer(to_planes(frame), number / RATE)) for number, frame in enumerate(frames)
    ]


def _smoothed_gamma(frames: Sequence[Rgb]) -> list[Rgb]:
    gamma, done = None, []
    for frame in frames:
        wanted = gamma_for(frame)
        gamma = wanted if gamma is None else gamma + (wanted - gamma) * (1 / RATE / SMOOTHING_S)
        done.append(with_gamma(frame, gamma))
    return done


def _steadiness(outputs: Sequence[Rgb], inputs: Sequence[Rgb]) -> dict[str, float]:
    after, before = (
        [cast("Rgb", cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in each]
        for each in (outputs, inputs)
    )
    before = [frame[: after[0].shape[0], : after[0].shape[1]] for frame in before]
    settled = slice(len(after) // 4, None)  # the first second of a stream may still settle
    return {
        "brightness": float(np.mean([frame.mean() for frame in after])),
        "flicker": brightness_flicker(after[settled]),
        "warping_error": warping_error(after[settled], before[settled]),
        "noise_gain": noise_gain(after[settled], before[settled]),
    }


def sheet(model: LowLightModel, pairs: Sequence[Pair], path: Path, *, count: int = 8) -> None:
    """Side by side: dark, each method, reference; evenly spread over the pairs."""
    tiles = []
    for pair in pairs[:: max(1, len(pairs) // count)][:count]:
        low = read_picture(pair.low)
        shown = [low, enhance_picture(model, low)]
        shown += [method(low) for name, method in all_peers().items() if name != "raw"]
        shown.append(read_picture(pair.ref))
        tiles.append(np.hstack([cv2.resize(each, (220, 220)) for each in shown]))
    cv2.imwrite(str(path), np.vstack(tiles)[..., ::-1])


def clip(model: LowLightModel, path: Path) -> None:
    """A video of the sources of `--video`: dark, gamma with the same smoothing, ours."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 3 * CLIP_SIZE[1], CLIP_SIZE[0], "yuv420p"
        for _, frames in _sources():
            for three in zip(frames, _smoothed_gamma(frames), _ours(model, frames), strict=True):
                row = np.hstack([cv2.resize(each, CLIP_SIZE[::-1]) for each in three])
                frame = av.VideoFrame.from_ndarray(cast("Rgb", row), format="rgb24")
                file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="an ONNX file; the shipped one if left out")
    parser.add_argument("--pairs", type=Path, help="a CSV with low, ref, scene; all is measured")
    parser.add_argument("--video", action="store_true", help="steadiness as well")
    parser.add_argument("--sheet", type=Path, help="a picture of methods side by side")
    parser.add_argument("--clip", type=Path, help="a video of dark sources: dark, gamma, ours")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    a = parser.parse_args()
    model = open_lowlight_model(a.model)
    pairs = read_pairs(a.pairs) if a.pairs else in_part(training_pairs(), "validation")
    result = measure_pairs(model, pairs)
    if a.video:
        result["video"] = measure_video(model)
    if a.clip:
        clip(model, a.clip)
    if a.sheet:
        sheet(model, pairs, a.sheet)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
