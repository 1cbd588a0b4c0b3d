"""The newest packets of one camera, kept before decoding, for whoever wants them later.

A clip with a pre-roll is possible only because the packets are still here when the alarm is
raised. The ring copies nothing and waits for nobody: a packet is one object, shared by the
ring and its readers, and a reader that is too slow loses packets of its own and is told.
"""

import enum
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from streamer.core.clock import CancelToken
from streamer.core.packet import EncodedPacket

_OVERHEAD: Final = 300
"""Bytes counted for a packet besides its payload: the objects around it, 271 where measured."""


class EndReason(enum.Enum):
    """Why a feed gives no more packets."""

    REACHED = "reached"
    """The time that was asked for has come."""

    CLOSED = "closed"
    """The ring was closed, or the feed was told to finish."""

    SILENT = "silent"
    """Nothing came for as long as the reader was willing to wait."""

    LEFT = "left"
    """The reader wants no more."""


@dataclass(frozen=True, slots=True)
class RingStatistics:
    """Counts since the ring was made: received = packets + evicted + unkept."""

    packets: int
    bytes: int
    """Payloads and the objects around them."""

    span_ns: int
    """Media time from the first kept packet to the last."""

    received: int
    evicted: int
    """Made room for newer ones: the ordinary end of a packet."""

    discarded: int
    """Of no use to a clip: before the first key frame, or in a group too large for the ring."""

    feeds: int
    """Readers at this moment."""

    lost: int
    """Packets that readers missed because they were too slow."""


class _Group:
    """A key frame and what follows it, up to the next."""

    __slots__ = ("packets", "size", "start_ns")

    def __init__(self, key: EncodedPacket) -> None:
        self.packets: list[EncodedPacket] = []
        self.size = 0
        self.start_ns = key.pts_ns

    def add(self, packet: EncodedPacket, size: int) -> None:
        self.packets.append(packet)
        self.size += size


class PacketRing:
    """A `PacketTap` that keeps the newest packets, from a key frame on.

    Two bounds hold at every moment. In *bytes*: never more than `max_bytes`, whatever the
    stream does. In *time*: no group of pictures is kept that is not needed to reach
    `max_ns` back, so a pre-roll of up to `max_ns` is whole, and the ring is longer than that
    by less than one group. Groups leave as a whole, the oldest first. A single group larger
    than `max_bytes` is given up and the ring waits for the next key frame.

    Each reader may hold up to `2 * max_bytes` more: what it took when it began, and what came
    since while it was busy.

    Args:
        max_ns: How far back a clip may reach, in media time.
        max_bytes: The hard limit of what is kept.
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
        self._feeds: list[PacketReader] = []
        self._closed = False
        self._sealed: _Group | None = None  # The last group of a source run that has ended.
        self._between_runs = False  # Whether no packet has come since a source run ended.
        self._received = self._evicted = self._unkept = 0
        self._lost_before = 0  # By readers that have left.

    def __call__(self, packet: EncodedPacket, /) -> None:
        """Keep *packet* and hand it to the readers. Ignored once the ring is closed."""
        size = len(packet.payload) + _OVERHEAD
        with self._lock:
            if self._closed:
                return
            self._received += 1
            self._between_runs = False
            self._newest_ns = packet.dts_ns
            self._keep(packet, size)
            for feed in tuple(self._feeds):
                if not feed._offer(packet, size):  # noqa: SLF001  two halves of one thing
                    self._forget(feed)

    def _keep(self, packet: EncodedPacket, size: int) -> None:
        if packet.keyframe:
            self._groups.append(_Group(packet))
        elif not self._groups or self._groups[-1] is self._sealed:
            self._unkept += 1
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
            self._unkept += self._drop_group()

    def _drop_group(self) -> int:
        group = self._groups.popleft()
        self._bytes -= group.size
        return len(group.packets)

    def clip(self, start_ns: int, end_ns: int, *, timeout_s: float) -> "PacketReader":
        """Packets from the last key frame at or before *start_ns* to *end_ns*.

        What is there already is taken now: what the ring evicts later does not matter. The
        rest is followed as it comes, until *end_ns*, the end of the ring, or silence.

        Args:
            start_ns: Media time from which pictures must be there.
            end_ns: Media time up to which they must be there.
            timeout_s: How long to wait when nothing comes.

        Returns:
            A feed that says afterwards what is missing (`PacketReader.missing_reason`).
        """
        if end_ns < start_ns:
            raise ValueError(f"a clip from {start_ns} ns cannot end before it, at {end_ns} ns")
        with self._lock:
            taken = [p for p in self._from(start_ns) if p.dts_ns <= end_ns]
            feed = PacketReader(self, taken, start_ns=start_ns, end_ns=end_ns, timeout_s=timeout_s)
            if self._newest_ns is not None and self._newest_ns > end_ns:
                feed._end(EndReason.REACHED)  # noqa: SLF001  as above
            elif self._between_runs:
                feed._end(EndReason.CLOSED)  # noqa: SLF001  as above
            self._register(feed)
            return feed

    def follow(self, cancel: CancelToken) -> "PacketReader":
        """Packets from the newest key frame on, until *cancel* or the end of the ring.

        Packets from before `end_readers` are not given again: an earlier reader had them.
        """
        with self._lock:
            newest = self._groups[-1] if self._groups else None
            taken = [] if newest is None or newest is self._sealed else newest.packets
            feed = PacketReader(self, taken, start_ns=None, end_ns=None, timeout_s=None)
            self._register(feed)
        cancel.on_cancel(feed.close)
        return feed

    def _from(self, start_ns: int) -> Iterator[EncodedPacket]:
        """What is kept, from the last key frame at or before *start_ns*, or else from the first."""
        first = 0
        for index, group in enumerate(self._groups):
            if group.start_ns <= start_ns:
                first = index
        for index, group in enumerate(self._groups):
            if index >= first:
                yield from group.packets

    def _register(self, feed: "PacketReader") -> None:
        if self._closed:
            feed._end(EndReason.CLOSED)  # noqa: SLF001  as above
        elif feed.ending is None:
            self._feeds.append(feed)

    def _forget(self, feed: "PacketReader") -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)
            self._lost_before += feed.lost

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
            for feed in tuple(self._feeds):
                feed._end(EndReason.CLOSED)  # noqa: SLF001  as above
                self._forget(feed)

    def close(self) -> None:
        """Say that nothing more comes. Readers get what they have not read yet, then the end."""
        with self._lock:
            self._closed = True
            for feed in tuple(self._feeds):
                feed._end(EndReason.CLOSED)  # noqa: SLF001  as above
                self._forget(feed)
            self._groups.clear()
            self._evicted = self._received - self._unkept
            self._bytes = 0

    def statistics(self) -> RingStatistics:
        """A consistent snapshot, from any thread."""
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
                discarded=self._unkept,
                feeds=len(self._feeds),
                lost=self._lost_before + sum(feed.lost for feed in self._feeds),
            )


class PacketReader(Iterator[EncodedPacket]):
    """Packets out of a ring, for one reader, in order of decoding; the first is a key frame.

    A reader that falls behind by more than `max_bytes` of its ring loses what comes until the
    next key frame for which there is room: what was there first, the onset, is worth more
    than what comes late, and what is written stays decodable.

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
        self._news = threading.Condition(self._lock)
        # All below are guarded by the lock.
        self._waiting = deque(taken)
        self._behind = 0  # Bytes that came since the start and wait.
        self._taken_left = len(taken)  # Packets taken at the start that still wait.
        self._needs_key = not taken
        self._first = taken[0] if taken else None
        self._heard = 0
        self._lost = 0
        self._ending: EndReason | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EncodedPacket:
        packet = self.get(self._timeout_s)
        if packet is not None:
            return packet
        with self._lock:
            self._end(EndReason.SILENT)
            self._ring._forget(self)  # noqa: SLF001  two halves of one thing
        raise StopIteration

    def get(self, timeout_s: float | None) -> EncodedPacket | None:
        """The next packet.

        Returns `None` at the end (`ending` says why), or when the camera gave nothing at all
        for *timeout_s*; then asking again is allowed.
        """
        with self._lock:
            while not self._waiting and self._ending is None:
                heard = self._heard
                if not self._news.wait(timeout_s) and heard == self._heard:
                    return None
            if not self._waiting:
                return None
            packet = self._waiting.popleft()
            if self._taken_left:
                self._taken_left -= 1
            else:
                self._behind -= len(packet.payload) + _OVERHEAD
            return packet

    def finish(self) -> None:
        """Want nothing newer; what waits is still given. From any thread, any number of times."""
        with self._lock:
            self._end(EndReason.CLOSED)
            self._ring._forget(self)  # noqa: SLF001  as above

    def close(self) -> None:
        """Want no more; what waits is given up. From any thread, any number of times."""
        with self._lock:
            self._waiting.clear()
            self._taken_left = self._behind = 0
            self._end(EndReason.LEFT)
            self._ring._forget(self)  # noqa: SLF001  as above

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def ending(self) -> EndReason | None:
        """Why no more comes after what waits; `None` while the feed runs."""
        return self._ending

    @property
    def exhausted(self) -> bool:
        """Whether the feed has ended and everything was read."""
        with self._lock:
            return self._ending is not None and not self._waiting

    @property
    def lost(self) -> int:
        """Packets missed because this reader was too slow."""
        return self._lost

    @property
    def pre_roll_shortfall_ns(self) -> int | None:
        """How much later than asked the first picture is; `None` when there is none."""
        if self._first is None:
            return None
        if self._start_ns is None:
            return 0
        return max(0, self._first.pts_ns - self._start_ns)

    def missing_reason(self) -> str:
        """What is missing from what was asked for, in words; empty when nothing is."""
        found = []
        if self.pre_roll_shortfall_ns is None:
            found.append("no key frame came")
        elif self.pre_roll_shortfall_ns:
            found.append(
                f"begins {self.pre_roll_shortfall_ns / 1e9:.1f} s late: nothing older was kept"
            )
        if self._lost:
            found.append(f"{self._lost} packets lost: the disk is too slow")
        if self._ending is EndReason.SILENT:
            found.append(f"ends early: nothing came for {self._timeout_s:g} s")
        elif self._ending is EndReason.CLOSED and self._end_ns is not None:
            found.append("ends early: the camera was stopped")
        elif self._ending is EndReason.LEFT and self._end_ns is not None:
            found.append("ends early: the reader left")
        return "; ".join(found)

    def _offer(self, packet: EncodedPacket, size: int) -> bool:
        """Take *packet* if it is wanted. Returns whether more is wanted. The lock is held."""
        self._heard += 1
        if self._end_ns is not None and packet.dts_ns > self._end_ns:
            self._end(EndReason.REACHED)
            return False
        if self._behind + size > self._ring.max_bytes or (self._needs_key and not packet.keyframe):
            self._needs_key = True
            self._lost += self._first is not None
        else:
            self._needs_key = False
            self._first = self._first or packet
            self._waiting.append(packet)
            self._behind += size
        self._news.notify()
        return True

    def _end(self, ending: EndReason) -> None:
        """No more comes. The lock is held."""
        if self._ending is None:
            self._ending = ending
        self._news.notify_all()
