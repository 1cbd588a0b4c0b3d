"""What the report of a camera says about its video source."""

from collections.abc import Iterator
from typing import Any, Final

from streamer.health.reports import Condition
from streamer.sources.video import VideoStatistics

_NS: Final = 1_000_000_000


def video_report(video: VideoStatistics, *, live: bool) -> dict[str, Any]:
    """Return the fields of `CameraReport` that a video source knows."""
    return {
        "connections": video.opened,
        "packets": video.packets,
        "damaged": video.damaged,
        "timestamp_repairs": video.repairs.total,
        "decoder": video.decoder,
        "decode_time": video.decode_time,
        "dropped": {"behind": video.skipped_behind},
        "source_lag_s": None if video.lag_ns is None or not live else video.lag_ns / _NS,
    }


def video_conditions(video: VideoStatistics) -> Iterator[Condition]:
    """Yield what is wrong with a video that nevertheless delivers frames."""
    if video.behind_since_ns is not None:
        reason = "decoding is slower than the camera: packets are skipped up to a key frame"
        yield Condition("behind", reason, video.behind_since_ns)
    if video.by_arrival_since_ns is not None:
        reason = "the camera's timestamps are wrong: the arrival of its packets replaces them"
        yield Condition("timestamps", reason, video.by_arrival_since_ns)
