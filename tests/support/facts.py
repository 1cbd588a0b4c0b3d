"""What an inventory says of recordings that nobody needs to make."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from streamer.convert.media_info import HighDynamicRange, Kind, MediaInfo, StreamInfo, VideoInfo
from streamer.core.image import ColorTags

MILLISECOND = Fraction(1, 1000)


def stream(index: int = 0, kind: Kind = "video", *, codec: str = "h264", **more: Any) -> StreamInfo:
    """A stream of which nothing is known but its *kind*; *more* are its other fields."""
    fields: dict[str, Any] = {
        "time_base": MILLISECOND, "tags": {}, "disposition": 0, "packets": 1,
        "times": np.zeros(1, np.int64), "durations": np.zeros(1, np.int64), "digest": "",
    }  # fmt: skip
    return StreamInfo(index=index, kind=kind, codec=codec, **{**fields, **more})


def video(
    times: Sequence[int] = (0, 40, 80),
    keys: Sequence[int] = (0,),
    *,
    time_base: Fraction = MILLISECOND,
    last: int = 40,
    timestamp_quality: Literal["known", "in order", "guessed"] = "known",
    **more: Any,
) -> VideoInfo:
    """The main video.

    Args:
        times: Of its pictures, in ticks, rising.
        keys: Places of the pictures from which decoding can begin.
        time_base: Seconds a tick.
        last: Ticks for which the last picture is shown.
        timestamp_quality: How sure the times are.
        more: Its other fields.
    """
    ticks = np.array(times, np.int64)
    facts = stream(
        time_base=time_base, packets=len(ticks), times=ticks, durations=np.full(len(ticks), last)
    )
    fields: dict[str, Any] = {
        "width": 160, "height": 120, "pixel_format": "yuv420p", "aspect": Fraction(1),
        "color": ColorTags(), "rate": Fraction(25), "display_matrix": None,
        "dynamic_range": HighDynamicRange(None, None), "interlaced": False,
    }  # fmt: skip
    return VideoInfo(
        stream=facts,
        times=ticks,
        key_times=ticks[list(keys)],
        last_duration=last,
        timestamp_quality=timestamp_quality,
        **{**fields, **more},
    )


def inventory(
    main: VideoInfo | None = None, others: Sequence[StreamInfo] = (), **more: Any
) -> MediaInfo:
    """A recording with these streams; *more* are its other fields."""
    fields: dict[str, Any] = {
        "path": Path("in.mkv"), "format": "matroska,webm", "tags": {}, "chapters": (),
        "origin": Fraction(0), "broken": None,
    }  # fmt: skip
    streams = ((main.stream,) if main else ()) + tuple(others)
    return MediaInfo(streams=streams, video=main, **{**fields, **more})
