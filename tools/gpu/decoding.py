"""The section `decode`: on the CPU, by NVDEC with download, and by NVDEC without download.

The figures show whether keeping frames on the device would pay: the cost of downloading and
uploading them again, compared with the cost of decoding.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import av
from av.codec.hwaccel import HWAccel

from gpu.material import watch_clip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu.sections import Options, ResultLog

STREAMS = (1, 8, 24)
"""Streams decoded at once: a card has several decoders, and each camera its own session."""


def run(options: Options, results: ResultLog) -> None:
    """Measure decoding by each method, and copying of a frame."""
    path = watch_clip(options)
    results.attempt("processor", partial(_measure, options, results, "processor", path, _software))
    if not options.on_gpu:
        return
    from streamer.core.hwaccel import open_hwaccel

    opened: Callable[[], HWAccel] = partial(open_hwaccel, options.device)
    results.attempt("nvdec", opened)
    if results.problems:
        return
    down = partial(_hardware, opened, None)
    results.attempt(
        "nvdec, brought down",
        partial(_measure, options, results, "nvdec, brought down", path, down),
    )
    number = str(options.index)
    kept = partial(_hardware, partial(HWAccel, "cuda", device=number, is_hw_owned=True), _to_torch)
    results.attempt(
        "nvdec, kept there", partial(_measure, options, results, "nvdec, kept there", path, kept)
    )
    results.attempt("up and down", partial(_copies, options, results))


def _measure(
    options: Options, results: ResultLog, name: str, path: Path, decode: Callable[[Path], int]
) -> None:
    for streams in STREAMS[:1] if options.quick else STREAMS:
        began = time.perf_counter()
        with ThreadPoolExecutor(streams) as pool:
            frames = sum(pool.map(decode, [path] * streams))
        rate = frames / (time.perf_counter() - began)
        results.add(f"{name}, {streams} streams", {"frames_per_s": round(rate, 1)})
        results.row(f"{name}, {streams} at once", f"{rate:.0f} frames a second")


def _software(path: Path) -> int:
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1  # as a camera is decoded
        return sum(1 for _ in file.decode(stream))


def _hardware(
    opened: Callable[[], HWAccel], use: Callable[[av.VideoFrame], object] | None, path: Path
) -> int:
    from streamer.core.hwaccel import is_hardware_decoded

    count = 0
    with av.open(str(path), hwaccel=opened()) as file:
        stream = file.streams.video[0]
        for count, frame in enumerate(file.decode(stream), 1):  # noqa: B007  counted to the end
            if use is not None:
                use(frame)
        if not is_hardware_decoded(stream.codec_context):
            raise RuntimeError("the processor decoded it")
    return count


def _to_torch(frame: av.VideoFrame) -> object:
    """Return the planes as tensors without a copy (DLPack)."""
    import torch.utils.dlpack

    return [torch.utils.dlpack.from_dlpack(plane) for plane in frame.planes]


def _copies(options: Options, results: ResultLog) -> None:
    """Measure the milliseconds to upload one NV12 frame from pinned memory, and to download it."""
    from engines.backends import cuda

    gpu = cuda.gpu(options.index)
    size = 1920 * 1080 * 3 // 2
    pinned, buffer, stream = gpu.pinned((size,), "uint8"), gpu.allocate(size), gpu.stream()
    rounds = 200
    figures: dict[str, Any] = {}
    try:
        with gpu.current("copying"):
            for name, copy in (
                ("up_ms", partial(stream.upload, buffer, pinned)),
                ("down_ms", partial(stream.download, pinned, buffer)),
            ):
                copy()
                stream.synchronize()
                began = time.perf_counter()
                for _ in range(rounds):
                    copy()
                stream.synchronize()
                figures[name] = round(1e3 * (time.perf_counter() - began) / rounds, 4)
    finally:
        for held in (pinned, buffer):
            held.free()
        stream.close()
    results.add("1080p NV12", figures)
    results.row("1080p NV12 up; down", f"{figures['up_ms']:.3f} ms; {figures['down_ms']:.3f} ms")
