"""Writing encoded packets to files, without decoding or encoding.

A file starts at time 0 with a key frame. It plays while it is written and after its writer was
killed, and has its name only when it is complete.
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
    """A clip that was written, or one of its files."""

    path: Path
    start_pts_ns: int
    """Media time of the first frame, which has time 0 in the file."""

    end_pts_ns: int
    """Media time at which the last frame ends."""

    start_utc: datetime
    """Wall time at which the first frame arrived."""

    frames: int
    bytes: int
    complete: bool
    """Whether all requested packets are in this file and those of `continued`."""

    reason: str
    """What is missing, as text; empty if the clip is complete."""

    retimed: int = 0
    """Frames whose timestamps were moved because they did not increase."""

    continued: tuple["ClipInfo", ...] = ()
    """Further files of the clip: the camera changed its codec or size."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the clip, oldest first."""
        return (self.path, *(path for part in self.continued for path in part.files))


class ClipFile:
    """Writes one file of one stream, from a key frame on. For one thread.

    Args:
        path: Name of the complete file; the suffix is replaced by that of the codec's container.
        key: The first packet; it is written too.
        clock: Returns the wall time of a packet.

    Raises:
        StorageError: From any method. What was written stays as `<name>.part`, and plays.
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
        self._interval = TICKS // 25  # Ticks; assumed until the second packet.
        self._undo = contextlib.ExitStack()
        with self._translated():
            self._file = AtomicFile(self.path)
            self._undo.callback(self._file.abandon)
            self._muxer, self._output = open_muxer(self._file, key)
            # The muxer writes it into the header, where media players show it.
            self._muxer.metadata["creation_time"] = self._start_utc.isoformat()
            self._undo.callback(_close_quietly, self._muxer)
            # Closing writes a trailer that may not fit the disk, so the file is abandoned first.
            self._undo.callback(self._file.abandon)
        self.add(key)

    def add(self, packet: EncodedPacket) -> None:
        """Write a packet of the same stream.

        Frames presented before the first key frame are skipped: they reference earlier packets.
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

        encoded = av.Packet(packet.payload)
        encoded.time_base = TIME_BASE
        encoded.pts, encoded.dts, encoded.duration = max(pts, earliest), earliest, duration
        encoded.is_keyframe = packet.keyframe
        encoded.stream = self._output
        with self._translated():
            self._muxer.mux_one(encoded)
        self._frames += 1
        self._end_pts_ns = max(self._end_pts_ns, packet.pts_ns + duration * _NS_PER_S // TICKS)

    def _ticks(self, time_ns: int) -> int:
        return ((time_ns - self.start_pts_ns) * TICKS + _NS_PER_S // 2) // _NS_PER_S

    def finish(self, *, missing_reason: str = "") -> ClipInfo:
        """Sync the file to the disk, rename it to its name, and return what it holds."""
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

    def abandon(self) -> None:
        """Stop writing and leave the part, as if the program had been killed here."""
        self._undo.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError, ValueError) as error:
            self.abandon()
            raise storage_error(self.path, error) from error


def write_clip(
    packets: Iterable[EncodedPacket], path: Path, *, clock: Clock | None = None
) -> ClipInfo:
    """Write *packets* to *path*, such as those of `PacketRing.clip`, until they end.

    If the camera changes its codec or size, the clip continues in a second file (`clip-2.mp4`) from
    the next key frame on.

    Args:
        packets: In decoding order; those before the first key frame are skipped.
        path: Replaced if it exists. The suffix becomes `.mkv` for codecs that MP4 cannot hold.
        clock: Returns the wall time of a packet.

    Raises:
        StorageError: The disk does not accept it, or no key frame came. What was written until
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
            file.abandon()
        raise
    finally:
        if isinstance(packets, PacketReader):
            packets.close()
    if not done:
        raise StorageError(f"no clip {path}: {missing_reason or 'no decodable key frame came'}")
    return replace(
        done[0], continued=tuple(done[1:]), complete=not missing_reason, reason=missing_reason
    )


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _close_quietly(muxer: OutputContainer) -> None:
    with contextlib.suppress(OSError, ValueError, av.FFmpegError):
        muxer.close()
