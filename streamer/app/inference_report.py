"""What is reported and logged of the inferences of a camera: figures, overload, hanging calls."""

from collections.abc import Iterator
from typing import Any, Final

import structlog

from streamer.core.clock import CancelToken, Clock
from streamer.detect.inference_scheduler import InferenceScheduler, SeatStatistics
from streamer.detect.overload import OverloadState
from streamer.health.reports import Condition

_NS: Final = 1_000_000_000
_HANGS_NS: Final = 15 * _NS
"""An inference that takes this much longer than the latency budget is reported. Compiling a network
for a new size takes seconds."""

_EVERY_S: Final = 1.0
_QUIET_NS: Final = 60 * _NS
"""Least time between two lines of the log about one camera."""

_log = structlog.get_logger(__name__)


def inference_report(seat: SeatStatistics, *, fps: float) -> dict[str, Any]:
    """Return the fields of `CameraReport` that the seat of a camera knows.

    Args:
        seat: Its statistics.
        fps: Inferences per second of the configuration.
    """
    return {
        "wanted_fps": seat.overload.wanted_fps,
        "late_inferences": seat.late,
        "skipped_inferences": seat.skipped,
        "inference_time": seat.service,
        "overload": _overload(seat.overload, fps),
    }


def hanging_inference(
    seat: SeatStatistics, *, latency_budget_ns: int, clock: Clock
) -> Iterator[Condition]:
    """Yield a condition if the inference in progress should have ended long ago."""
    since_ns, limit_ns = seat.running_since_ns, _HANGS_NS + latency_budget_ns
    if since_ns is not None and clock.monotonic_ns() - since_ns > limit_ns:
        reason = f"an inference has not returned for more than {limit_ns / _NS:.0f} s"
        yield Condition("inference", reason, since_ns)


def _overload(state: OverloadState, fps: float) -> Condition | None:
    """The overload; its text changes only when it gets worse, as channels publish each change."""
    if state.since_ns is None:
        return None
    share = f"{10 * round(10 * state.worst_share)} %"
    reason = f"the machine is too slow: down to {share} of {fps:g} inferences per second in time"
    return Condition("overload", reason, state.since_ns)


class OverloadLog:
    """Logs the beginning and the end of each camera's overload, at most one line a minute each."""

    def __init__(self, scheduler: InferenceScheduler) -> None:
        self._scheduler = scheduler
        self._logged: dict[str, tuple[int, bool]] = {}  # When, and whether it was overloaded.

    def run(self, cancel: CancelToken) -> None:
        """Log until *cancel* is set; a background service."""
        while True:
            for line in self.lines():
                if line.pop("overloaded"):
                    _log.warning("overloaded: too few inferences in time", **line)
                else:
                    _log.info("no longer overloaded", **line)
            cancel.sleep(_EVERY_S)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of the lines that are due."""
        now_ns = self._scheduler.clock.monotonic_ns()
        seats = self._scheduler.seats()
        for gone in self._logged.keys() - {seat.camera for seat in seats}:
            del self._logged[gone]
        for seat in seats:
            counts = seat.statistics()
            state = counts.overload
            overloaded = state.since_ns is not None
            at_ns, before = self._logged.get(seat.camera, (now_ns - _QUIET_NS, False))
            if overloaded == before or now_ns - at_ns < _QUIET_NS:
                continue
            self._logged[seat.camera] = now_ns, overloaded
            yield {
                "overloaded": overloaded,
                "camera": seat.camera,
                "wanted_fps": round(state.wanted_fps, 2),
                "inferred_fps": round(state.inferred_fps, 2),
                "in_time": f"{state.share:.0%}",
                "late": counts.late,
                "skipped": dict(counts.skipped),
            }
