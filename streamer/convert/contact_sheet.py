"""Contact sheet: a preview of what a conversion makes of four places in a recording."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.clock import CancelToken
from streamer.core.frame import Frame
from streamer.core.jpeg import encode_image
from streamer.core.pipeline import Stage  # noqa: TC001  one place for imports

from .chunk_source import ChunkSource
from .chunks import nanoseconds
from .job import StagesOf
from .plan import Plan

_ROWS: Final = 4
_WIDTH: Final = 480
"""Pixels of one image on the sheet."""

_GAP: Final = 4
"""Pixels between images."""


def contact_sheet(plan: Plan, stages: StagesOf) -> NDArray[np.uint8]:
    """Render the sheet as (height, width, 3) RGB.

    Each row shows two neighbouring frames of the recording and, between them, the output frame in
    the middle of their interval.
    """
    times = plan.video.times
    rows = []
    for row in range(_ROWS):
        number = min((2 * row + 1) * len(times) // (2 * _ROWS), max(0, len(times) - 2))
        rows.append(_row(plan, stages, number))
    return np.vstack(rows)


def save(image: NDArray[np.uint8], path: Path) -> None:
    """Write an RGB image in the format that the suffix of *path* names.

    Raises:
        OSError: The file cannot be written.
        ValueError: The suffix names no image format.
    """
    path.write_bytes(encode_image(image, path.suffix or ".png"))


def _row(plan: Plan, stages: StagesOf, first: int) -> NDArray[np.uint8]:
    base = plan.video.time_base
    begin, end = (
        nanoseconds(int(plan.video.times[min(number, len(plan.video.times) - 1)]), base)
        for number in (first, first + 1)
    )
    chunk = replace(
        next(one for one in reversed(plan.chunks) if one.first <= first),
        number=1,  # Not 0: chunk 0 is decoded from the beginning of the file.
        begin_ns=begin,
        end_ns=max(end, begin + 1),
        frame_count=1,
        is_last=False,
    )
    inputs: list[Frame] = []
    parts = stages(chunk)
    frames = _recorded(
        ChunkSource(plan.media, chunk, plan.decoding, lead_ns=plan.lead_ns, follow=1)(
            CancelToken()
        ),
        inputs,
    )
    all_stages: list[Stage] = [*parts.before.values(), parts.frame_rate, *parts.after.values()]
    for stage in all_stages:
        frames = stage(frames)
    outputs = list(frames)
    neighbours = [frame for frame in inputs if frame.pts_ns >= begin][:2]
    middle = outputs[len(outputs) // 2]
    images = [_thumbnail(frame) for frame in (neighbours[0], middle, neighbours[-1])]
    return np.hstack(images)


def _recorded(frames: Iterator[Frame], inputs: list[Frame]) -> Iterator[Frame]:
    for frame in frames:
        inputs.append(frame)
        yield frame


def _thumbnail(frame: Frame) -> NDArray[np.uint8]:
    height = max(2, round(frame.image.height * _WIDTH / frame.image.width / 2) * 2)
    image = frame.image.rgb((height, _WIDTH))
    framed = np.zeros((height + _GAP, _WIDTH + _GAP, 3), np.uint8)
    framed[:height, :_WIDTH] = image
    return framed
