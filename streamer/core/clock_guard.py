"""Whether the wall clock can be believed, so that a wrong clock deletes nothing.

The age of a file is a difference of two wall times, and either may be wrong: a device without a
battery clock starts in 1970, or where it was switched off; a glitch shows 2036. The kernel's clock
since boot is never wrong. So the guard follows the *offset*, wall time minus time since boot: while
that stays, the wall clock is as right as before. A new offset is accepted at once where none was
known in this boot, and otherwise only after it has stayed for a while.

Files are counted by a *sequence number*, and the guard remembers from which number on which offset
was in force. Once the right offset of a boot is known, it says by how much the times of earlier
files of that boot are wrong (`corrections`).
"""

import ctypes
import enum
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from .atomic_file import write_atomically

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3600 * _NS
_YEAR_NS: Final = 8766 * _HOUR_NS

OLDEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock that is set shows an earlier time: this program is younger."""

TOLERANCE_NS: Final = 300 * _NS
"""A smaller change of the offset is no leap but a correction: it moves no file by a day."""

_MAX_AHEAD_NS: Final = 2 * _YEAR_NS
"""A clock that is further ahead of the last good time is never accepted by itself. Arbitrary:
longer than a device stays switched off, shorter than the leaps of broken clocks (2036, 2038)."""

_SETTLE_NS: Final = 24 * _HOUR_NS
"""How long a new offset must stay until it is accepted. Arbitrary; the archive can wait a day."""

_SETTLE_SYNCHRONISED_NS: Final = _HOUR_NS
"""The same where the kernel reports that a time server disciplines the clock."""

_YOUNG_NS: Final = _HOUR_NS
"""A leap this soon after the first reading of a boot, to a disciplined clock, is the first answer
of the time server. It is accepted at once."""

_SAVE_NS: Final = 600 * _NS
"""Time between two writes of an unchanged state: a last good time this old does no harm."""

_MAX_SPANS: Final = 1000
_TIMEX_BYTES: Final = 512
_TIME_ERROR: Final = 5


class ClockState(enum.Enum):
    """Whether the wall clock is believed."""

    OK = "ok"
    NOT_SET = "not set"
    LEAPT = "leapt"
    AHEAD = "ahead"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Both clocks of the machine at one moment."""

    wall_ns: int
    """Wall time, nanoseconds since 1970."""

    boot_ns: int
    """Nanoseconds since boot, suspension included."""

    boot: str
    """Identifies the boot."""

    synchronised: bool
    """Whether the kernel reports that a time server disciplines the clock."""

    @property
    def offset_ns(self) -> int:
        """Wall time minus time since boot."""
        return self.wall_ns - self.boot_ns


@dataclass(frozen=True, slots=True)
class ClockSpan:
    """Files that were named while one offset was in force."""

    boot: str
    first: int
    """Sequence number of the first file; the span ends where the next one begins."""

    offset_ns: int
    known: bool
    """Whether the times of these files are believed."""


@dataclass(frozen=True, slots=True)
class Correction:
    """Files whose times are wrong by a known amount: `first` to `end`, exclusive."""

    first: int
    end: int | None
    """`None`: up to the newest."""

    shift: timedelta
    """What must be added to the time in their names."""


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """What the guard reports."""

    state: ClockState
    reason: str
    """Why the clock is not believed, and what follows; empty when it is."""

    since_ns: int | None
    """Time since boot at which it stopped being believed; `None` while it is."""


@dataclass(frozen=True, slots=True)
class ClockHistory:
    """What the guard knows; `observe` is a pure function of it and a reading."""

    good_ns: int = 0
    """Newest wall time that was believed; 0 if none was."""

    boot: str = ""
    reference_ns: int | None = None
    """The offset that is believed in this boot."""

    reference_since_ns: int = 0
    """Time since boot at which the first offset of this boot was believed."""

    candidate_ns: int | None = None
    """Another offset that is in force now, and waits to be accepted."""

    candidate_since_ns: int = 0
    state: ClockState = ClockState.OK
    since_ns: int | None = None
    leap_ns: int = 0
    """By how much the candidate differs from what was believed."""

    spans: tuple[ClockSpan, ...] = ()

    def observe(self, now: ClockReading, next_sequence: int) -> "ClockHistory":
        """Return the history after one more reading; *next_sequence* is the next file's number."""
        history = self if now.boot == self.boot else _booted(self, now)
        return _spanning(_judge(history, now), now, next_sequence)

    def corrections(self) -> list[Correction]:
        """Return the files of this boot whose times are wrong by a known amount, oldest first."""
        reference_ns = self.reference_ns
        if self.state is not ClockState.OK or reference_ns is None:
            return []
        ends = [span.first for span in self.spans[1:]]
        return [
            Correction(span.first, end, timedelta(microseconds=wrong_ns // 1000))
            for span, end in zip(self.spans, [*ends, None], strict=True)
            if span.boot == self.boot
            and abs(wrong_ns := reference_ns - span.offset_ns) > TOLERANCE_NS
        ]

    def corrected(self, correction: Correction) -> "ClockHistory":
        """Return the history after the files of *correction* were given their true times."""
        assert self.reference_ns is not None
        right = self.reference_ns
        spans = tuple(
            replace(span, offset_ns=right, known=True)
            if span.first == correction.first and span.boot == self.boot
            else span
            for span in self.spans
        )
        return _merged(replace(self, spans=spans))

    def is_known(self, sequence: int) -> bool:
        """Whether the time in the name of this file is believed."""
        known = True  # Files that are older than the history: nothing speaks against them.
        for span in self.spans:
            if span.first > sequence:
                break
            known = span.known
        return known

    def status(self) -> ClockStatus:
        """Return the state with its reason."""
        return ClockStatus(self.state, self._reason(), self.since_ns)

    def _reason(self) -> str:
        if self.state is ClockState.OK or self.candidate_ns is None:
            return ""
        shown = _utc_of(self.candidate_ns + self.candidate_since_ns)
        when = shown.isoformat(" ", "seconds")
        nothing = "nothing is deleted by age"
        if self.state is ClockState.NOT_SET:
            return f"the clock is not set, it showed {when}: {nothing} until it is"
        leap = _span_text(self.leap_ns)
        if self.state is ClockState.AHEAD:
            return (
                f"the clock leapt by {leap} to {when}: {nothing}; set it, or, if it is right,"
                " delete clock.json in the data folder and restart"
            )
        return f"the clock leapt by {leap} to {when}: {nothing} until it has been steady for a day"


def _booted(history: ClockHistory, now: ClockReading) -> ClockHistory:
    return replace(
        history, boot=now.boot, reference_ns=None, candidate_ns=None, state=ClockState.OK,
        since_ns=None, leap_ns=0,
    )  # fmt: skip


def _judge(history: ClockHistory, now: ClockReading) -> ClockHistory:
    reference_ns = history.reference_ns
    if reference_ns is not None and abs(now.offset_ns - reference_ns) <= TOLERANCE_NS:
        return _believe(history, now)
    state = _implausible(history, now)
    if state is None and reference_ns is None:
        return _believe(history, now)
    history = _doubt(history, now, state or ClockState.LEAPT)
    return _believe(history, now) if _has_settled(history, now) else history


def _implausible(history: ClockHistory, now: ClockReading) -> ClockState | None:
    """What is wrong with the time itself, whatever it was before."""
    oldest_ns = _ns_of(OLDEST)
    if now.wall_ns < oldest_ns:
        return ClockState.NOT_SET
    if now.wall_ns > max(history.good_ns, oldest_ns) + _MAX_AHEAD_NS and history.good_ns:
        return ClockState.AHEAD
    if now.wall_ns < history.good_ns - TOLERANCE_NS:
        return ClockState.BEHIND
    return None


def _has_settled(history: ClockHistory, now: ClockReading) -> bool:
    if history.state in (ClockState.NOT_SET, ClockState.AHEAD):
        return False
    young = history.candidate_since_ns - history.reference_since_ns < _YOUNG_NS
    if now.synchronised and history.reference_ns is not None and young:
        return True
    wait_ns = _SETTLE_SYNCHRONISED_NS if now.synchronised else _SETTLE_NS
    return now.boot_ns - history.candidate_since_ns >= wait_ns


def _believe(history: ClockHistory, now: ClockReading) -> ClockHistory:
    first = history.reference_ns is None
    return replace(
        history,
        good_ns=now.wall_ns,
        reference_ns=now.offset_ns,
        reference_since_ns=now.boot_ns if first else history.reference_since_ns,
        candidate_ns=None,
        state=ClockState.OK,
        since_ns=None,
        leap_ns=0,
    )


def _doubt(history: ClockHistory, now: ClockReading, state: ClockState) -> ClockHistory:
    same = (
        history.candidate_ns is not None
        and abs(now.offset_ns - history.candidate_ns) <= TOLERANCE_NS
    )
    expected_ns = history.good_ns if history.reference_ns is None else _expected_ns(history, now)
    return replace(
        history,
        candidate_ns=now.offset_ns,
        candidate_since_ns=history.candidate_since_ns if same else now.boot_ns,
        state=state,
        since_ns=now.boot_ns if history.since_ns is None else history.since_ns,
        leap_ns=now.wall_ns - expected_ns if expected_ns else 0,
    )


def _expected_ns(history: ClockHistory, now: ClockReading) -> int:
    assert history.reference_ns is not None
    return now.boot_ns + history.reference_ns


def _spanning(history: ClockHistory, now: ClockReading, next_sequence: int) -> ClockHistory:
    known = history.state is ClockState.OK
    spans = history.spans
    last = spans[-1] if spans else None
    if last is not None and last.boot == now.boot:
        if abs(last.offset_ns - now.offset_ns) <= TOLERANCE_NS:
            if last.known == known:
                return history
            return _merged(replace(history, spans=(*spans[:-1], replace(last, known=known))))
        if last.first == next_sequence:  # It holds no file.
            spans = spans[:-1]
    new = ClockSpan(now.boot, next_sequence, now.offset_ns, known)
    return _merged(replace(history, spans=(*spans, new)[-_MAX_SPANS:]))


def _merged(history: ClockHistory) -> ClockHistory:
    """Join neighbours that say the same: known, with one offset or of boots that are over."""
    merged: list[ClockSpan] = []
    for span in history.spans:
        last = merged[-1] if merged else None
        if last is not None and last.known and span.known and _same(history, last, span):
            merged[-1] = replace(span, first=last.first)
        else:
            merged.append(span)
    return replace(history, spans=tuple(merged))


def _same(history: ClockHistory, one: ClockSpan, other: ClockSpan) -> bool:
    if history.boot not in (one.boot, other.boot):
        return True
    return one.boot == other.boot and abs(one.offset_ns - other.offset_ns) <= TOLERANCE_NS


class ClockGuard:
    """Follows the clocks of this machine, and keeps its history in a file. For any thread.

    Args:
        path: The file; it is written when something changes, and every ten minutes. `None` keeps
            nothing.
        read: Returns both clocks.
    """

    def __init__(
        self, path: Path | None, *, read: Callable[[], ClockReading] | None = None
    ) -> None:
        self._path = path
        self._read = read or read_clocks
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._history = ClockHistory() if path is None else _loaded(path)
        self._saved_ns: int | None = None
        self._saving = threading.Lock()
        self._failing = False  # Guarded by _saving.

    def observe(self, next_sequence: int) -> ClockStatus:
        """Read the clocks. Call it before each file is named, and every minute."""
        now = self._read()
        with self._lock:
            before = self._history
            after = self._history = before.observe(now, next_sequence)
            changed = (before.state, before.spans) != (after.state, after.spans)
            due = self._saved_ns is None or now.boot_ns - self._saved_ns >= _SAVE_NS
            if changed or due:
                self._saved_ns = now.boot_ns
        status = after.status()
        if status.state is not before.state:
            if status.reason:
                _log.error("clock", reason=status.reason)
            else:
                _log.warning("clock is believed again")
        if changed or due:
            self._save()
        return status

    def status(self) -> ClockStatus:
        """Return the status of the last reading; never waits for the disk."""
        return self.history().status()

    def history(self) -> ClockHistory:
        """Return what is known."""
        with self._lock:
            return self._history

    def doubted_for_ns(self) -> int:
        """Return for how long the clock has not been believed; 0 while it is."""
        since_ns = self.history().since_ns
        return 0 if since_ns is None else max(0, self._read().boot_ns - since_ns)

    def mark_corrected(self, correction: Correction) -> None:
        """Note that the files of *correction* have their true times now."""
        with self._lock:
            self._history = self._history.corrected(correction)
        self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        with self._saving:
            history = self.history()
            values = {**asdict(history), "state": history.state.value}
            try:
                write_atomically(self._path, (json.dumps(values, indent=1) + "\n").encode())
            except OSError as error:
                if not self._failing:  # Once per outage: the disk may be full for hours.
                    _log.warning("clock history not saved", reason=str(error))
                self._failing = True
            else:
                self._failing = False


def read_clocks() -> ClockReading:
    """Return both clocks of this machine."""
    return ClockReading(
        wall_ns=time.time_ns(),
        # Suspension is no leap. Linux has this clock; elsewhere a suspended machine seems to leap.
        boot_ns=time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)),
        boot=_boot_id(),
        synchronised=clock_is_synchronised() is True,
    )


def clock_is_synchronised() -> bool | None:
    """Whether a time server disciplines the kernel's clock; `None` where that is not reported."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    state = int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state != _TIME_ERROR


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # Not Linux: each start of the program counts as a boot.
        return f"process {time.monotonic_ns() - time.process_time_ns():x}"


def _loaded(path: Path) -> ClockHistory:
    try:
        values = json.loads(path.read_bytes())
        spans = tuple(ClockSpan(**span) for span in values.pop("spans"))
        return ClockHistory(**{**values, "state": ClockState(values["state"]), "spans": spans})
    except FileNotFoundError:
        return ClockHistory()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("clock history not readable, begun anew", path=str(path), reason=str(error))
        return ClockHistory()


def _ns_of(moment: datetime) -> int:
    return int(moment.timestamp()) * _NS


def _utc_of(wall_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wall_ns // 1000)


def _span_text(span_ns: int) -> str:
    sign, seconds = ("-" if span_ns < 0 else "+"), abs(span_ns) / _NS
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{sign}{seconds / size:.1f} {unit}"
    return f"{sign}{seconds:.0f} seconds"
