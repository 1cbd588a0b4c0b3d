"""What is expected of a conversion, the checks, and the report of a comparison."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from streamer.config.convert import ConvertOptions

CHECK_NAMES: Final = (
    "complete", "frames", "added frames", "timestamp order", "start", "duration",
    "codec", "resolution", "aspect ratio", "rotation", "color", "HDR metadata", "pixel format",
    "interlacing",
    "streams", "packets", "A/V sync", "languages", "titles", "dispositions", "tags", "chapters",
    "attachments", "cover art",
    "frame content", "scene changes", "side data",
)  # fmt: skip
"""All checks, in the order of a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a conversion was to do; everything else must be unchanged."""

    options: ConvertOptions = field(default_factory=ConvertOptions)
    """Options of the conversion. Times between two original frames are divided evenly; fewer frames
    may follow the last original."""

    dropped_streams: tuple[int, ...] = ()
    """Numbers of the input streams that are not in the output on purpose."""

    stretched_streams: tuple[int, ...] = ()
    """Numbers of the audio streams that were stretched to the new duration."""

    video_codec: str | None = None
    """FFmpeg's name of the expected video format; `None` accepts any."""

    deinterlaced: bool = False
    """Whether interlaced frames were to become progressive."""

    @property
    def is_altered(self) -> bool:
        """Whether the content of frames was to change."""
        return self.options.enhance or self.options.overlay

    def __str__(self) -> str:
        """Describe the expectation for people."""
        options = self.options
        parts = []
        if options.fps is not None:
            parts.append(f"{float(options.fps):g} fps")
        else:
            parts.append(f"factor {options.resolved_factor}")
        if options.speed != 1:
            parts.append(f"speed {options.speed}")
        if self.is_altered:
            parts.append("frames altered")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    """One of `CHECK_NAMES`."""

    ok: bool
    detail: str
    """What was found, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of comparing two recordings."""

    source: Path
    output: Path
    expected: Expectation
    inferred: bool
    """Whether the expectation was inferred from the two recordings."""

    source_frames: int
    output_frames: int
    thorough: bool
    """Whether all frames were decoded, not only samples."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return all(check.ok for check in self.checks)

    def failed(self) -> tuple[str, ...]:
        """Return the names of the checks that failed."""
        return tuple(check.name for check in self.checks if not check.ok)

    def records(self) -> list[dict[str, Any]]:
        """Return JSON records: one per check, then a summary."""
        summary = {
            "kind": "summary",
            "ok": self.ok,
            "source": str(self.source),
            "output": str(self.output),
            "source_frames": self.source_frames,
            "output_frames": self.output_frames,
            "expected": str(self.expected),
            "inferred": self.inferred,
            "thorough": self.thorough,
            "failed": list(self.failed()),
        }
        checks = [
            {"kind": "check", "name": one.name, "ok": one.ok, "detail": one.detail}
            for one in self.checks
        ]
        return [*checks, summary]


def check(name: str, faults: list[str], fine: str, *, most: int = 4) -> Check:
    """Return the check called *name*, which passes without *faults*; it lists at most *most*."""
    assert name in CHECK_NAMES, name
    if not faults:
        return Check(name, ok=True, detail=fine)
    more = f"; and {len(faults) - most} more" if len(faults) > most else ""
    return Check(name, ok=False, detail="; ".join(faults[:most]) + more)


def in_seconds(time: Fraction) -> str:
    """Format a time or a duration to the microsecond, such as `1.400000 s`."""
    return f"{float(time):.6f} s"
