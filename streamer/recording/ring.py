"""The packet ring: the newest encoded packets of one camera, for clips and recordings.

A clip can have a pre-roll because the packets are still in the ring when the alarm is raised. The
ring copies nothing and never waits: a packet is one object, shared by the ring and its readers. A
reader that is too slow loses packets, which it counts.
"""

import enum
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from streamer.core.clock import CancelToken
from streamer.core.packet import EncodedPacket

_OVERHEAD: Final = 300
"""Bytes counted for a packet besides its payload: the objects around it, 271 where measured."""


class EndReason(enum.Enum):
    """Why a reader returns no more packets."""

    REACHED = "reached"
    """The end of the requested time has come."""

    CLOSED = "closed"
    """The source has ended, the ring was closed, or `PacketReader.finish` was called."""

    SILENT = "silent"
    """No packet came within the timeout of the reader."""

    LEFT = "left"
    """The reader was closed."""


@dataclass(frozen=True, slots=True)
class RingStatistics:
    """Counts since the ring was made: received = packets + evicted + discarded."""

    packets: int
    bytes: int
    """Payloads and the objects around them."""

    span_ns: int
    """Media time from the first stored packet to the last."""

    received: int
    evicted: int
    """Removed for newer packets: the normal end of a packet."""

    discarded: int
    """Useless for a clip: before the first key frame, or in a GOP larger than the ring."""

    readers: int
    """Readers at this moment."""

    lost: int
    """Packets that readers lost because they were too slow."""


class _Group:
    """A GOP: a key frame and the packets up to the next one."""

    __slots__ = ("packets", "size", "start_ns")

    def __init__(self, key: EncodedPacket) -> None:
        self.packets: list[EncodedPacket] = []
        self.size = 0
        self.start_ns = key.pts_ns

    def add(self, packet: EncodedPacket, size: int) -> None:
        self.packets.append(packet)
        self.size += size


class PacketRing:
    """A `PacketTap` that stores the newest packets, from a key frame on.

    Two bounds always hold. In *bytes*: never more than `max_bytes`, whatever the stream does. In
    *time*: no GOP is stored that is not needed to reach `max_ns` back, so that
    a pre-roll of up to `max_ns` is complete, and the ring is longer than that by less than one GOP.
    GOPs are evicted as a whole, the oldest first. A single GOP larger than `max_bytes` is
    discarded, and the ring waits for the next key frame.

    Each reader may hold up to `2 * max_bytes` more: the packets it took when it began, and those
    that came since while it was busy.

    Args:
        max_ns: How far back a clip may reach, in media time.
        max_bytes: Limit of the stored bytes.
    """

    def __init__(self, *, max_ns: int, max_bytes: int) -> None:
        if max_ns < 1:
            raise ValueError(f"max_ns must be at least 1, got {max_ns}")
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        self.max_ns = max_ns
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._groups: deque[_Group] = deque()
        self._bytes = 0
        self._newest_ns: int | None = None
        self._readers: list[PacketReader] = []
        self._closed = False
        self._sealed: _Group | None = None  # The last group of a source run that has ended.
        self._between_runs = False  # Whether no packet has come since a source run ended.
        self._received = self._evicted = self._discarded = 0
        self._lost_before = 0  # By readers that have left.

    def __call__(self, packet: EncodedPacket, /) -> None:
        """Store *packet* and pass it to the readers. Does nothing after the ring was closed."""
        size = len(packet.payload) + _OVERHEAD
        with self._lock:
            if self._closed:
                return
            self._received += 1
            self._between_runs = False
            self._newest_ns = packet.dts_ns
            self._store(packet, size)
            for reader in tuple(self._readers):
                if not reader._offer(packet, size):  # noqa: SLF001  ring and reader are one unit
                    self._unregister(reader)

    def _store(self, packet: EncodedPacket, size: int) -> None:
        if packet.keyframe:
            self._groups.append(_Group(packet))
        elif not self._groups or self._groups[-1] is self._sealed:
            self._discarded += 1
            return
        self._groups[-1].add(packet, size)
        self._bytes += size
        while len(self._groups) > 1 and (
            self._bytes > self.max_bytes
            # The second group reaches back far enough without the first.
            or packet.dts_ns - self._groups[1].start_ns >= self.max_ns
        ):
            self._evicted += self._drop_group()
        if self._bytes > self.max_bytes:
            self._discarded += self._drop_group()

    def _drop_group(self) -> int:
        group = self._groups.popleft()
        self._bytes -= group.size
        return len(group.packets)

    def clip(self, start_ns: int, end_ns: int, *, timeout_s: float) -> "PacketReader":
        """Return a reader from the last key frame at or before *start_ns* up to *end_ns*.

        It takes stored packets at once, so that a later eviction does not matter. It then follows
        the ring until *end_ns*, the end of the ring, or silence.

        Args:
            start_ns: Media time of the first required frame.
            end_ns: Media time of the last required frame.
            timeout_s: Longest wait for a packet.

        Returns:
            A reader; `PacketReader.missing_reason` states afterwards what is missing.
        """
        if end_ns < start_ns:
            raise ValueError(f"a clip from {start_ns} ns cannot end before it, at {end_ns} ns")
        with self._lock:
            taken = [p for p in self._from(start_ns) if p.dts_ns <= end_ns]
            reader = PacketReader(
                self, taken, start_ns=start_ns, end_ns=end_ns, timeout_s=timeout_s
            )
            if self._newest_ns is not None and self._newest_ns > end_ns:
                reader._end(EndReason.REACHED)  # noqa: SLF001  as above
            elif self._between_runs:
                reader._end(EndReason.CLOSED)  # noqa: SLF001  as above
            self._register(reader)
            return reader

    def follow(self, cancel: CancelToken) -> "PacketReader":
        """Return a reader from the newest key frame on, until *cancel* or the end of the ring.

        Packets from before `end_readers` are not given again: an earlier reader had them.
        """
        with self._lock:
            newest = self._groups[-1] if self._groups else None
            taken = [] if newest is None or newest is self._sealed else newest.packets
            reader = PacketReader(self, taken, start_ns=None, end_ns=None, timeout_s=None)
            self._register(reader)
        cancel.on_cancel(reader.close)
        return reader

    def _from(self, start_ns: int) -> Iterator[EncodedPacket]:
        """Yield from the last key frame at or before *start_ns*, or else from the first."""
        first = 0
        for index, group in enumerate(self._groups):
            if group.start_ns <= start_ns:
                first = index
        for index, group in enumerate(self._groups):
            if index >= first:
                yield from group.packets

    def _register(self, reader: "PacketReader") -> None:
        if self._closed:
            reader._end(EndReason.CLOSED)  # noqa: SLF001  as above
        elif reader.end_reason is None:
            self._readers.append(reader)

    def _unregister(self, reader: "PacketReader") -> None:
        if reader in self._readers:
            self._readers.remove(reader)
            self._lost_before += reader.lost

    def end_readers(self) -> None:
        """End all readers because the source run has ended; keep the packets for the next run.

        Readers get what they have not read yet, then `EndReason.CLOSED`. So does a clip that is
        requested before the next packet comes: an alarm of the last frames waits for nothing. A
        clip that is requested after a restart still reaches back to before it. The first group of
        the next run begins at its first key frame.
        """
        with self._lock:
            self._sealed = self._groups[-1] if self._groups else None
            self._between_runs = True
            for reader in tuple(self._readers):
                reader._end(EndReason.CLOSED)  # noqa: SLF001  as above
                self._unregister(reader)

    def close(self) -> None:
        """Accept no more packets. Readers get what they have not read yet, then the end."""
        with self._lock:
            self._closed = True
            for reader in tuple(self._readers):
                reader._end(EndReason.CLOSED)  # noqa: SLF001  as above
                self._unregister(reader)
            self._groups.clear()
            self._evicted = self._received - self._discarded
            self._bytes = 0

    def statistics(self) -> RingStatistics:
        """Return a consistent snapshot. From any thread."""
        with self._lock:
            packets = sum(len(group.packets) for group in self._groups)
            span_ns = 0
            if self._groups:
                span_ns = self._groups[-1].packets[-1].dts_ns - self._groups[0].packets[0].dts_ns
            return RingStatistics(
                packets=packets,
                bytes=self._bytes,
                span_ns=span_ns,
                received=self._received,
                evicted=self._evicted,
                discarded=self._discarded,
                readers=len(self._readers),
                lost=self._lost_before + sum(reader.lost for reader in self._readers),
            )


class PacketReader(Iterator[EncodedPacket]):
    """Iterates over packets of a ring in decoding order; the first is a key frame.

    A reader that falls behind by more than `max_bytes` of its ring loses the packets up to the next
    key frame for which there is room. It keeps the older packets: the onset of an alarm is worth
    more than what follows, and the output stays decodable.

    Made by `PacketRing.clip` and `PacketRing.follow`.
    """

    def __init__(
        self,
        ring: PacketRing,
        taken: list[EncodedPacket],
        *,
        start_ns: int | None,
        end_ns: int | None,
        timeout_s: float | None,
    ) -> None:
        self._ring = ring
        self._start_ns = start_ns
        self._end_ns = end_ns
        self._timeout_s = timeout_s
        self._lock = ring._lock  # noqa: SLF001  one lock for the ring and all of its readers
        self._changed = threading.Condition(self._lock)
        # All below are guarded by the lock.
        self._waiting = deque(taken)
        self._backlog_bytes = 0  # Bytes that came since the start and are not read.
        self._taken_left = len(taken)  # Packets taken at the start and not read.
        self._needs_key = not taken
        self._first = taken[0] if taken else None
        self._offered = 0
        self._lost = 0
        self._end_reason: EndReason | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EncodedPacket:
        packet = self.get(self._timeout_s)
        if packet is not None:
            return packet
        with self._lock:
            self._end(EndReason.SILENT)
            self._ring._unregister(self)  # noqa: SLF001  ring and reader are one unit
        raise StopIteration

    def get(self, timeout_s: float | None) -> EncodedPacket | None:
        """Return the next packet.

        Returns `None` at the end (`end_reason` states why), and when no packet came within
        *timeout_s*; after that, `get` may be called again.
        """
        with self._lock:
            while not self._waiting and self._end_reason is None:
                offered = self._offered
                if not self._changed.wait(timeout_s) and offered == self._offered:
                    return None
            if not self._waiting:
                return None
            packet = self._waiting.popleft()
            if self._taken_left:
                self._taken_left -= 1
            else:
                self._backlog_bytes -= len(packet.payload) + _OVERHEAD
            return packet

    def finish(self) -> None:
        """Accept nothing newer; pending packets are still returned. From any thread, repeatedly."""
        with self._lock:
            self._end(EndReason.CLOSED)
            self._ring._unregister(self)  # noqa: SLF001  as above

    def close(self) -> None:
        """Accept nothing newer and drop pending packets. From any thread, repeatedly."""
        with self._lock:
            self._waiting.clear()
            self._taken_left = self._backlog_bytes = 0
            self._end(EndReason.LEFT)
            self._ring._unregister(self)  # noqa: SLF001  as above

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def end_reason(self) -> EndReason | None:
        """Why nothing follows the pending packets; `None` while the reader runs."""
        return self._end_reason

    @property
    def exhausted(self) -> bool:
        """Whether the reader has ended and all packets were read."""
        with self._lock:
            return self._end_reason is not None and not self._waiting

    @property
    def lost(self) -> int:
        """Packets lost because this reader was too slow."""
        return self._lost

    @property
    def pre_roll_shortfall_ns(self) -> int | None:
        """Time by which the first frame is later than requested; `None` without a frame."""
        if self._first is None:
            return None
        if self._start_ns is None:
            return 0
        return max(0, self._first.pts_ns - self._start_ns)

    def missing_reason(self) -> str:
        """Return what is missing of the requested packets, as text; empty if nothing is."""
        found = []
        if self.pre_roll_shortfall_ns is None:
            found.append("no key frame came")
        elif self.pre_roll_shortfall_ns:
            found.append(
                f"begins {self.pre_roll_shortfall_ns / 1e9:.1f} s late: nothing older was kept"
            )
        if self._lost:
            found.append(f"{self._lost} packets lost: the disk is too slow")
        if self._end_reason is EndReason.SILENT:
            found.append(f"ends early: nothing came for {self._timeout_s:g} s")
        elif self._end_reason is EndReason.CLOSED and self._end_ns is not None:
            found.append("ends early: the camera was stopped")
        elif self._end_reason is EndReason.LEFT and self._end_ns is not None:
            found.append("ends early: the reader left")
        return "; ".join(found)

    def _offer(self, packet: EncodedPacket, size: int) -> bool:
        """Take *packet* if it is needed; return whether more is. The lock is held."""
        self._offered += 1
        if self._end_ns is not None and packet.dts_ns > self._end_ns:
            self._end(EndReason.REACHED)
            return False
        if self._backlog_bytes + size > self._ring.max_bytes or (
            self._needs_key and not packet.keyframe
        ):
            self._needs_key = True
            self._lost += self._first is not None
        else:
            self._needs_key = False
            self._first = self._first or packet
            self._waiting.append(packet)
            self._backlog_bytes += size
        self._changed.notify()
        return True

    def _end(self, reason: EndReason) -> None:
        """End the reader. The lock is held."""
        if self._end_reason is None:
            self._end_reason = reason
        self._changed.notify_all()
