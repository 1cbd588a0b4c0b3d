"""Packets into files, without decoding or encoding.

A file starts at time 0 with a key frame, plays while it is written and after its writer was
killed, and bears its name only when it is whole.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer

from streamer.core.atomic_file import AtomicFile, storage_error
from streamer.core.clock import Clock, SystemClock
from streamer.core.errors import StorageError
from streamer.core.packet import EncodedPacket, EncodedStream

from .containers import TICKS, TIME_BASE, can_begin, container_for, open_muxer
from .ring import PacketReader

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """A file that was written, or a part of one."""

    path: Path
    start_pts_ns: int
    """Media time of the first picture: time 0 of the file."""

    end_pts_ns: int
    """Media time at which the last picture ends."""

    start_utc: datetime
    """Wall time at which the first picture came."""

    frames: int
    bytes: int
    complete: bool
    """Whether everything that was asked for is there, in this file and those in `continued`."""

    reason: str
    """What is missing, in words; empty when complete."""

    retimed: int = 0
    """Pictures whose time had to be moved because times did not grow."""

    continued: tuple["ClipInfo", ...] = ()
    """The clip goes on in these files: the camera changed its codec or size."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the clip, in order of time."""
        return (self.path, *(path for part in self.continued for path in part.files))


class ClipFile:
    """One file of one stream, from a key frame on. For one thread.

    Args:
        path: Its name when it is whole; the suffix becomes that of the container that fits.
        key: The first packet; it is written too.
        clock: Tells the wall time.

    Raises:
        StorageError: From any method. What is written stays, as `<name>.part`, and plays.
    """

    def __init__(self, path: Path, key: EncodedPacket, *, clock: Clock) -> None:
        if not key.keyframe:
            raise ValueError("a file starts with a key frame")
        self.stream: EncodedStream = key.stream
        self.path = path.with_suffix(container_for(key.stream).suffix)
        self.start_pts_ns = key.pts_ns
        self._start_utc = clock.utc_at(key.arrived_ns)
        self._end_pts_ns = key.pts_ns
        self._frames = self._retimed = 0
        self._last_dts: int | None = None  # Ticks.
        self._interval = TICKS // 25  # Ticks; a guess until two packets are known.
        self._undo = contextlib.ExitStack()
        with self._translated():
            self._file = AtomicFile(self.path)
            self._undo.callback(self._file.abandon)
            self._muxer, self._output = open_muxer(self._file, key)
            # The muxer writes it into the header, where media players show it.
            self._muxer.metadata["creation_time"] = self._start_utc.isoformat()
            self._undo.callback(_close_quietly, self._muxer)
            # Closing writes an end that may not fit; so this comes before it, the last in first.
            self._undo.callback(self._file.abandon)
        self.add(key)

    def add(self, packet: EncodedPacket) -> None:
        """Write a packet of the same stream.

        Pictures shown before the first key frame are left out: they need what came before it.
        """
        if packet.pts_ns < self.start_pts_ns:
            return
        pts, dts = self._ticks(packet.pts_ns), self._ticks(packet.dts_ns)
        earliest = dts if self._last_dts is None else max(dts, self._last_dts + 1)
        self._retimed += earliest != dts or pts < earliest
        if self._last_dts is not None:
            self._interval = earliest - self._last_dts
        self._last_dts = earliest
        duration = packet.duration_ns * TICKS // _NS_PER_S or self._interval

        coded = av.Packet(packet.payload)
        coded.time_base = TIME_BASE
        coded.pts, coded.dts, coded.duration = max(pts, earliest), earliest, duration
        coded.is_keyframe = packet.keyframe
        coded.stream = self._output
        with self._translated():
            self._muxer.mux_one(coded)
        self._frames += 1
        self._end_pts_ns = max(self._end_pts_ns, packet.pts_ns + duration * _NS_PER_S // TICKS)

    def _ticks(self, time_ns: int) -> int:
        return ((time_ns - self.start_pts_ns) * TICKS + _NS_PER_S // 2) // _NS_PER_S

    def finish(self, *, missing_reason: str = "") -> ClipInfo:
        """Bring the file to the disk and give it its name."""
        with self._translated():
            self._muxer.close()
            self._file.publish()
        return ClipInfo(
            path=self.path,
            start_pts_ns=self.start_pts_ns,
            end_pts_ns=self._end_pts_ns,
            start_utc=self._start_utc,
            frames=self._frames,
            bytes=self._file.size,
            complete=not missing_reason,
            reason=missing_reason,
            retimed=self._retimed,
        )

    def give_up(self) -> None:
        """Write no more and keep the name of a part, as if the program had been killed here."""
        self._undo.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError, ValueError) as error:
            self.give_up()
            raise storage_error(self.path, error) from error


def write_clip(
    packets: Iterable[EncodedPacket], path: Path, *, clock: Clock | None = None
) -> ClipInfo:
    """Write *packets* to *path*, usually those of `PacketRing.clip`; returns when they end.

    When the camera changes its codec or size, the clip goes on in a second file (`clip-2.mp4`)
    from the next key frame on: who watches for fire wants to see what came next.

    Args:
        packets: In order of decoding; those before the first key frame are left out.
        path: Replaced if it exists. The suffix becomes `.mkv` for codecs that MP4 cannot hold.
        clock: Tells the wall time.

    Raises:
        StorageError: The disk does not take it, or no key frame came. What was written until
            then stays as `<path>.part` and plays.
    """
    clock = clock or SystemClock()
    done: list[ClipInfo] = []
    file: ClipFile | None = None
    try:
        for packet in packets:
            if file is None or packet.stream != file.stream:
                if not can_begin(packet):
                    continue  # Cannot be decoded without what came before.
                if file is not None:
                    done.append(file.finish())
                file = ClipFile(_numbered(path, len(done) + 1), packet, clock=clock)
            else:
                file.add(packet)
        missing_reason = packets.missing_reason() if isinstance(packets, PacketReader) else ""
        if file is not None:
            done.append(file.finish(missing_reason=missing_reason))
    except BaseException:
        if file is not None:
            file.give_up()
        raise
    finally:
        if isinstance(packets, PacketReader):
            packets.close()
    if not done:
        raise StorageError(
            f"no clip {path}: {missing_reason or 'no key frame came that can be decoded'}"
        )
    return replace(
        done[0], continued=tuple(done[1:]), complete=not missing_reason, reason=missing_reason
    )


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _close_quietly(muxer: OutputContainer) -> None:
    with contextlib.suppress(OSError, ValueError, av.FFmpegError):
        muxer.close()
