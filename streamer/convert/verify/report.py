"""What is expected of a conversion, what was looked at, and what came of it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

NAMES: Final = (
    "whole", "frames", "new frames", "order", "start", "duration",
    "codec", "size", "aspect", "rotation", "color", "dynamic range", "depth", "fields",
    "streams", "packets", "in step", "languages", "titles", "dispositions", "tags", "chapters",
    "attachments", "covers",
    "pictures", "cuts", "side data",
)  # fmt: skip
"""Every check there is, in the order of a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a conversion was asked to do; what is not asked for must stay as it was."""

    factor: Fraction | None = None
    """Frames for each one. Times between two originals are shared out evenly; the last original
    may be followed by fewer."""

    speed: Fraction = Fraction(1)
    """How fast the recording runs; a time t becomes t / speed, from the recording's zero."""

    rate: Fraction | None = None
    """Constant frames a second of the output, from the first original on, in place of a factor."""

    altered: bool = False
    """Whether pictures were changed: enhanced, or something drawn over them."""

    dropped_streams: tuple[int, ...] = ()
    """Streams of the input, by number, that were left out on purpose."""

    video_codec: str | None = None
    """FFmpeg's name of the format asked for; `None` if any will do."""

    pixel_format: str | None = None
    """Asked for; `None` if depth, chroma and transparency must be kept."""

    deinterlaced: bool = False
    """Whether two fields were to be made one picture."""

    stretched: tuple[int, ...] = ()
    """Sounds, by number, that were made longer or shorter together with the picture."""

    @property
    def interpolates(self) -> bool:
        """Whether frames are made between others, and so perhaps in place of repeated ones."""
        return self.rate is not None or self.factor not in (None, 1)

    def __str__(self) -> str:
        """In words."""
        words = []
        if self.rate is not None:
            words.append(f"{float(self.rate):g} frames a second")
        elif self.factor is not None:
            words.append(f"{self.factor} times the frames")
        if self.speed != 1:
            words.append(f"speed {self.speed}")
        if self.altered:
            words.append("pictures changed")
        return ", ".join(words) or "nothing changed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """One of `NAMES`."""

    ok: bool
    detail: str
    """What was found, literally; for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of comparing two recordings."""

    before: Path
    after: Path
    expected: Expectation
    """As given, or as deduced from the two."""

    deduced: bool
    """Whether nobody said what to expect."""

    frames_before: int
    frames_after: int
    thorough: bool
    """Whether all frames were decoded, rather than those of some places."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is lost."""
        return all(check.ok for check in self.checks)

    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if not check.ok)

    def records(self) -> list[dict[str, Any]]:
        """For scripts: each check, then a summary."""
        summary = {
            "kind": "summary",
            "ok": self.ok,
            "before": str(self.before),
            "after": str(self.after),
            "frames_before": self.frames_before,
            "frames_after": self.frames_after,
            "expected": str(self.expected),
            "deduced": self.deduced,
            "thorough": self.thorough,
            "failed": list(self.failed()),
        }
        checks = [
            {"kind": "check", "name": one.name, "ok": one.ok, "detail": one.detail}
            for one in self.checks
        ]
        return [*checks, summary]


def listed(faults: list[str], fine: str, *, most: int = 4) -> tuple[bool, str]:
    """Whether there are no *faults*, and what to say: that all is *fine*, or the first *most*."""
    if not faults:
        return True, fine
    more = f"; and {len(faults) - most} more" if len(faults) > most else ""
    return False, "; ".join(faults[:most]) + more


def check(name: str, faults: list[str], fine: str) -> Check:
    """The check called *name*, which is passed if there are no *faults*."""
    assert name in NAMES, name
    return Check(name, *listed(faults, fine))


def in_seconds(time: Fraction) -> str:
    """A time or a distance to the microsecond, such as `1.400000 s`."""
    return f"{float(time):.6f} s"
