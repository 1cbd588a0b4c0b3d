"""Inspection results of recordings that do not exist."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from streamer.convert.media_info import (
    HdrMetadata,
    MediaInfo,
    StreamInfo,
    StreamKind,
    TimestampQuality,
    VideoInfo,
)
from streamer.convert.packet_table import PacketTableBuilder
from streamer.core.image import ColorTags

MILLISECOND = Fraction(1, 1000)


def stream(
    index: int = 0, kind: StreamKind = "video", *, codec: str = "h264", count: int = 1, **more: Any
) -> StreamInfo:
    """Return a stream of *count* packets at time 0; *more* are its other fields."""
    builder = PacketTableBuilder(hashed=False)
    fields: dict[str, Any] = {
        "time_base": MILLISECOND, "tags": {}, "disposition": 0, "packets": builder.build(),
        "times": np.zeros(count, np.int64), "durations": np.zeros(count, np.int64), "digest": "",
    }  # fmt: skip
    return StreamInfo(index=index, kind=kind, codec=codec, **{**fields, **more})


def video(
    times: Sequence[int] = (0, 40, 80),
    keys: Sequence[int] = (0,),
    *,
    time_base: Fraction = MILLISECOND,
    last: int = 40,
    timestamp_quality: TimestampQuality = "exact",
    **more: Any,
) -> VideoInfo:
    """Return a main video.

    Args:
        times: Presentation times of its frames in ticks, rising.
        keys: Indexes of its key frames.
        time_base: Seconds per tick.
        last: Duration of the last frame in ticks.
        timestamp_quality: How the times were obtained.
        more: Its other fields.
    """
    ticks = np.array(times, np.int64)
    info = stream(time_base=time_base, times=ticks, durations=np.full(len(ticks), last))
    fields: dict[str, Any] = {
        "width": 160, "height": 120, "pixel_format": "yuv420p", "sample_aspect_ratio": Fraction(1),
        "color": ColorTags(), "rate": Fraction(25), "display_matrix": None,
        "hdr": HdrMetadata(None, None), "interlaced": False,
    }  # fmt: skip
    return VideoInfo(
        stream=info,
        times=ticks,
        key_times=ticks[list(keys)],
        last_duration=last,
        timestamp_quality=timestamp_quality,
        **{**fields, **more},
    )


def media_info(
    main: VideoInfo | None = None, others: Sequence[StreamInfo] = (), **more: Any
) -> MediaInfo:
    """Return a recording with these streams; *more* are its other fields."""
    fields: dict[str, Any] = {
        "path": Path("in.mkv"), "format": "matroska,webm", "tags": {}, "chapters": (),
        "origin": Fraction(0), "truncation": None,
    }  # fmt: skip
    streams = ((main.stream,) if main else ()) + tuple(others)
    return MediaInfo(streams=streams, video=main, **{**fields, **more})
