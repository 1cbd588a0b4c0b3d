"""Which frames are decoded, and which of them are sampled for inference. Pure.

One frame a second needs only the key frames of a stream that has one each second, at a tenth of
the cost of decoding every frame. Cameras do not announce the distance of their key frames (the
GOP length), and some change it with the scene, so it is measured.
"""

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

_TOLERANCE: Final = 1.1
"""Key frames up to this much further apart than the interval still suffice: a camera's second is
rarely exact, and a frame that is 0.1 s late is worth a tenth of the decoding."""

_MEASURED_GOPS: Final = 4
"""GOPs whose longest counts. After a long one, as many short ones must follow."""

_MAX_ISOLATED_FAILURES: Final = 3
"""Key frames in a row that give no frame when decoded alone, e.g. with gradual refresh; after so
many, every frame is decoded for the rest of the connection."""


_MANY_SKIPS: Final = 3
_SKIPS_WITHIN_NS: Final = 30_000_000_000
_LIMITED_NS: Final = 60_000_000_000
"""After so many skips within this time, only key frames are decoded for a minute: skipping in the
middle of a group wastes what was decoded of it."""


class DecodeMode(enum.Enum):
    """How much of a stream is decoded."""

    EVERY_FRAME = "every frame"
    KEY_FRAMES = "key frames only"


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """What is decoded, and why."""

    decode: DecodeMode
    reason: str
    """Explanation for people, with the measured GOP length."""

    gop_ns: int | None
    """Longest distance of two recent key frames; `None` before two were received."""

    def __str__(self) -> str:
        return f"{self.decode.value}: {self.reason}"


class FrameSampler:
    """Measures the GOP length, chooses the decode mode and selects frames. Used by one thread.

    Frames are due on a grid of *interval_ns*. Candidates are all frames, or the key frames alone.
    The candidate nearest to each grid point is sampled, so the mean rate is as requested at any
    frame rate and at any GOP length up to the interval. Two sampled frames are at most the interval
    plus the distance of two candidates apart (1.5 distances where these vary).

    Args:
        interval_ns: Media time from one sampled frame to the next; `None` samples every frame.
        every_frame: Decode every frame, because other parts show all of them.
    """

    def __init__(self, interval_ns: int | None, *, every_frame: bool = False) -> None:
        self._interval_ns = interval_ns
        self._always_every_frame = every_frame or interval_ns is None
        self._gops_ns: deque[int] = deque(maxlen=_MEASURED_GOPS)
        self._keyframe_ns: int | None = None
        self._due_ns: int | None = None
        self._previous_ns: int | None = None
        self._step_ns = 0  # Distance of the last two candidates.
        self._isolated_failures = 0
        self._skips_ns: deque[int] = deque(maxlen=_MANY_SKIPS)
        self._limited_until_ns: int | None = None  # Key frames only, whatever the plan would be.
        self.plan = SamplingPlan(DecodeMode.EVERY_FRAME, self._initial_reason(), None)

    def begin(self) -> None:
        """Forget the measured GOP length at the start of a connection; the grid continues."""
        self._gops_ns.clear()
        self._keyframe_ns = None
        self._isolated_failures = 0
        self._skips_ns.clear()
        self._limited_until_ns = None
        self.plan = SamplingPlan(DecodeMode.EVERY_FRAME, self._initial_reason(), None)

    @property
    def limited(self) -> bool:
        """Whether only key frames are decoded because decoding all of them cannot keep up."""
        return self._limited_until_ns is not None

    def observe_packet(self, dts_ns: int, *, keyframe: bool) -> SamplingPlan:
        """Measure with the next packet, in stream order, and return the plan from it on.

        The plan changes to `KEY_FRAMES` only at a key frame.
        """
        if self._limited_until_ns is not None and keyframe and dts_ns >= self._limited_until_ns:
            self._limited_until_ns, self._keyframe_ns = None, None
            self._gops_ns.clear()
            self.plan = SamplingPlan(DecodeMode.EVERY_FRAME, self._initial_reason(), None)
        if self._always_every_frame or self._limited_until_ns is not None:
            return self.plan
        assert self._interval_ns is not None
        since_key_ns = 0 if self._keyframe_ns is None else dts_ns - self._keyframe_ns
        if keyframe:
            if self._keyframe_ns is not None:
                self._gops_ns.append(since_key_ns)
            self._keyframe_ns = dts_ns
        if self.plan.decode is DecodeMode.KEY_FRAMES:
            if since_key_ns > self._interval_ns * _TOLERANCE:
                self._decode_every_frame(since_key_ns, f"no key frame for {_s(since_key_ns)}")
        elif keyframe and self._gops_ns and self._isolated_failures < _MAX_ISOLATED_FAILURES:
            gop_ns = max(self._gops_ns)
            if gop_ns <= self._interval_ns * _TOLERANCE:
                reason = f"one each {_s(gop_ns)} suffices for one inference each"
                self.plan = SamplingPlan(
                    DecodeMode.KEY_FRAMES, f"{reason} {_s(self._interval_ns)}", gop_ns
                )
            else:
                reason = f"a key frame each {_s(gop_ns)} is too rare for one inference each"
                self._decode_every_frame(gop_ns, f"{reason} {_s(self._interval_ns)}")
        return self.plan

    def note_skip(self, dts_ns: int) -> None:
        """Note that packets were skipped because decoding cannot keep up.

        If it happens again and again, only key frames are decoded for a minute.
        """
        self._skips_ns.append(dts_ns)
        often = len(self._skips_ns) == _MANY_SKIPS
        if (
            often
            and dts_ns - self._skips_ns[0] <= _SKIPS_WITHIN_NS
            and self.plan.decode is DecodeMode.EVERY_FRAME
            and self._isolated_failures < _MAX_ISOLATED_FAILURES
        ):
            self._skips_ns.clear()
            self._limited_until_ns = dts_ns + _LIMITED_NS
            reason = "decoding every frame cannot keep up with the camera"
            self.plan = SamplingPlan(DecodeMode.KEY_FRAMES, reason, self.plan.gop_ns)

    def note_isolated_keyframe(self, *, decoded: bool) -> SamplingPlan:
        """Note whether a key frame that was decoded alone gave a frame; return the plan."""
        self._isolated_failures = 0 if decoded else self._isolated_failures + 1
        if (
            self._isolated_failures >= _MAX_ISOLATED_FAILURES
            and self.plan.decode is DecodeMode.KEY_FRAMES
        ):
            self._limited_until_ns = None
            self._decode_every_frame(self.plan.gop_ns, "its key frames cannot be decoded alone")
        return self.plan

    def selects(self, pts_ns: int) -> bool:
        """Whether the candidate at *pts_ns* is sampled: nearest to the next grid point.

        Called once for each candidate, in order of time: for each decoded frame, or for each key
        frame before it is decoded.
        """
        if self._interval_ns is None:
            return True
        if self._previous_ns is not None and pts_ns > self._previous_ns:
            self._step_ns = min(pts_ns - self._previous_ns, self._interval_ns)
        self._previous_ns = pts_ns
        if self._due_ns is None:
            self._due_ns = pts_ns
        if pts_ns < self._due_ns - self._step_ns // 2:
            return False
        missed = pts_ns - self._due_ns >= self._interval_ns  # After a gap the grid begins anew.
        self._due_ns = (pts_ns if missed else self._due_ns) + self._interval_ns
        return True

    def _decode_every_frame(self, gop_ns: int | None, reason: str) -> None:
        known_ns = self.plan.gop_ns
        if (
            self.plan.decode is DecodeMode.EVERY_FRAME
            and gop_ns is not None
            and known_ns is not None
        ):
            shorter_ns, longer_ns = sorted((gop_ns, known_ns))
            if longer_ns <= shorter_ns * _TOLERANCE:  # Not worth another line in the log.
                return
        self.plan = SamplingPlan(DecodeMode.EVERY_FRAME, reason, gop_ns)

    def _initial_reason(self) -> str:
        if self._always_every_frame:
            return "every frame is requested"
        return "the distance of the key frames is not measured yet"


def _s(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.3g} s"
