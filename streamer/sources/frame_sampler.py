"""Which pictures are decoded, and which of them are shown: decode only what is looked at. Pure.

Watching at one picture a second needs no more than the key frames if there is one each second,
at a tenth of the cost. Whether there is, only the stream itself tells: cameras do not announce
the distance of their key frames, and some change it with the scene.
"""

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

_TOLERANCE: Final = 1.1
"""Key frames this much further apart than the looks wanted still cover them: a camera's second is
rarely exact, and a look 0.1 s late is worth a tenth of the decoding."""

_REMEMBERED: Final = 4
"""Distances of key frames that count; after a long one, as many short ones must follow."""

_LONE_FAILURES: Final = 3
"""Key frames in a row that yield no picture by themselves, e.g. with gradual refresh."""


class DecodeMode(enum.Enum):
    """How much of a stream is decoded."""

    EVERY_FRAME = "every frame"
    KEY_FRAMES = "key frames only"


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """What is decoded, and why."""

    decode: DecodeMode
    reason: str
    """For people, with the measured figure."""

    gop_ns: int | None
    """Longest distance of two key frames of late; None before two were seen."""

    def __str__(self) -> str:
        return f"{self.decode.value}: {self.reason}"


class FrameSampler:
    """Measures the distance of key frames and says what to decode. Belongs to one thread.

    Args:
        interval_ns: One picture per interval is wanted; None: all are.
    """

    def __init__(self, interval_ns: int | None) -> None:
        self._interval_ns = interval_ns
        self._gops_ns: deque[int] = deque(maxlen=_REMEMBERED)
        self._key_ns: int | None = None
        self._due_ns: int | None = None
        self._previous_ns: int | None = None
        self._step_ns = 0  # Distance of the last two candidates.
        self._lone_failures = 0
        self.plan = SamplingPlan(DecodeMode.EVERY_FRAME, self._first_reason(), None)

    def begin(self) -> None:
        """A connection begins: what was measured before may not hold any more."""
        self._gops_ns.clear()
        self._key_ns = None
        self._lone_failures = 0
        self.plan = SamplingPlan(DecodeMode.EVERY_FRAME, self._first_reason(), None)

    def see(self, time_ns: int, *, keyframe: bool) -> SamplingPlan:
        """Take note of the next packet, in the order of the stream.

        Args:
            time_ns: Its decoding time.
            keyframe: Whether it can be decoded by itself.

        Returns:
            The plan from this packet on. It changes to key frames only at a key frame.
        """
        if self._interval_ns is None:
            return self.plan
        running_ns = 0 if self._key_ns is None else time_ns - self._key_ns
        if keyframe:
            if self._key_ns is not None:
                self._gops_ns.append(running_ns)
            self._key_ns = time_ns
        if self.plan.decode is DecodeMode.KEY_FRAMES:
            if running_ns > self._interval_ns * _TOLERANCE:
                self._every_frame(running_ns, f"a key frame is missing since {_s(running_ns)}")
        elif keyframe and self._gops_ns:
            longest_ns = max(self._gops_ns)
            if self._lone_failures >= _LONE_FAILURES:
                return self.plan
            if longest_ns <= self._interval_ns * _TOLERANCE:
                reason = f"one each {_s(longest_ns)} covers a look each {_s(self._interval_ns)}"
                self.plan = SamplingPlan(DecodeMode.KEY_FRAMES, reason, longest_ns)
            else:
                self._every_frame(
                    longest_ns,
                    f"a key frame each {_s(longest_ns)} is too rare for a look each"
                    f" {_s(self._interval_ns)}",
                )
        return self.plan

    def lone_key_frame(self, *, decoded: bool) -> SamplingPlan:
        """Take note of whether a key frame by itself gave a picture."""
        self._lone_failures = 0 if decoded else self._lone_failures + 1
        if self._lone_failures >= _LONE_FAILURES and self.plan.decode is DecodeMode.KEY_FRAMES:
            self._every_frame(self.plan.gop_ns, "its key frames give no picture by themselves")
        return self.plan

    def wants(self, pts_ns: int) -> bool:
        """Whether the picture shown at *pts_ns* is a look, i.e. nearest to when one is due.

        Asked once for each candidate, in order of time: of decoded pictures, or of key frames
        before they are decoded.
        """
        if self._interval_ns is None:
            return True
        if self._previous_ns is not None and pts_ns > self._previous_ns:
            self._step_ns = min(pts_ns - self._previous_ns, self._interval_ns)
        self._previous_ns = pts_ns
        if self._due_ns is not None and pts_ns < self._due_ns - self._step_ns // 2:
            return False
        # Key frames do not fall on a grid of ours: counting from each look loses none. All
        # pictures do: counting from when the look was due keeps the rate exact.
        on_grid = self.plan.decode is DecodeMode.EVERY_FRAME and self._due_ns is not None
        base_ns = self._due_ns if on_grid and self._due_ns is not None else pts_ns
        if pts_ns - base_ns >= self._interval_ns:
            base_ns = pts_ns
        self._due_ns = base_ns + self._interval_ns
        return True

    def _every_frame(self, gop_ns: int | None, reason: str) -> None:
        known_ns = self.plan.gop_ns
        if (
            self.plan.decode is DecodeMode.EVERY_FRAME
            and gop_ns is not None
            and known_ns is not None
        ):
            shorter_ns, longer_ns = sorted((gop_ns, known_ns))
            if longer_ns <= shorter_ns * _TOLERANCE:  # Nothing new is to be said.
                return
        self.plan = SamplingPlan(DecodeMode.EVERY_FRAME, reason, gop_ns)

    def _first_reason(self) -> str:
        if self._interval_ns is None:
            return "every picture is wanted"
        return "the distance of the key frames is not known yet"


def _s(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.3g} s"
