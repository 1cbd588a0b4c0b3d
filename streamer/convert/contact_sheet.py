"""A strip of stills: what a conversion makes of some places of a recording, before it is made."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.clock import CancelToken
from streamer.core.frame import Frame
from streamer.core.jpeg import encode_image

from .chunk_source import ChunkSource
from .chunks import nanoseconds
from .job import StagesOf
from .plan import Plan

_PLACES: Final = 4
_WIDTH: Final = 480
"""Pixels of a still in the strip."""

_EDGE: Final = 4


def strip(plan: Plan, stages: StagesOf) -> NDArray[np.uint8]:
    """(height, width, 3) RGB: a row for each place, with two pictures of the recording and, between
    them, what the conversion shows there.
    """  # noqa: D205  one sentence
    times = plan.video.times
    rows = []
    for place in range(_PLACES):
        at = min((2 * place + 1) * len(times) // (2 * _PLACES), max(0, len(times) - 2))
        rows.append(_row(plan, stages, at))
    return np.vstack(rows)


def save(image: NDArray[np.uint8], path: Path) -> None:
    """Write RGB as a picture, by the suffix of *path*.

    Raises:
        OSError: It cannot be written.
        ValueError: The suffix names no kind of image.
    """
    path.write_bytes(encode_image(image, path.suffix or ".png"))


def _row(plan: Plan, stages: StagesOf, at: int) -> NDArray[np.uint8]:
    base = plan.video.time_base
    begin, end = (
        nanoseconds(int(plan.video.times[min(number, len(plan.video.times) - 1)]), base)
        for number in (at, at + 1)
    )
    chunk = replace(
        next(one for one in reversed(plan.chunks) if one.first <= at),
        number=1,  # Anything but the first: it is sought, not decoded from the beginning.
        begin_ns=begin,
        end_ns=max(end, begin + 1),
        pictures=1,
        last=False,
    )
    seen: list[Frame] = []
    parts = stages(chunk)
    frames = _noted(
        ChunkSource(plan.inventory, chunk, plan.decoding, lead_ns=plan.lead_ns, follow=1)(
            CancelToken()
        ),
        seen,
    )
    for stage in (*parts.before.values(), parts.retime, *parts.after.values()):
        frames = stage(frames)
    shown = list(frames)
    around = [frame for frame in seen if frame.pts_ns >= begin][:2]
    middle = shown[len(shown) // 2]
    stills = [_still(frame) for frame in (around[0], middle, around[-1])]
    return np.hstack(stills)


def _noted(frames: Iterator[Frame], seen: list[Frame]) -> Iterator[Frame]:
    for frame in frames:
        seen.append(frame)
        yield frame


def _still(frame: Frame) -> NDArray[np.uint8]:
    height = max(2, round(frame.image.height * _WIDTH / frame.image.width / 2) * 2)
    image = frame.image.rgb((height, _WIDTH))
    edged = np.zeros((height + _EDGE, _WIDTH + _EDGE, 3), np.uint8)
    edged[:height, :_WIDTH] = image
    return edged
