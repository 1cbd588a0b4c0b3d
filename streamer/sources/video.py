"""`VideoSource`: video from files, devices, RTSP, HTTP and HLS through FFmpeg.

One call is one attempt; `ReconnectingSource` repeats attempts. What must survive an attempt (media
time, frame numbers, counts) is held by the source, so the same object is called again.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

import structlog
from av.codec.hwaccel import HWAccel
from av.packet import Packet  # noqa: TC002  one place for imports
from av.video.stream import VideoStream  # noqa: TC002

from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import DecoderUnavailable, SourceError, SourceFault
from streamer.core.frame import Frame
from streamer.core.hwaccel import is_hardware_decoded, open_hwaccel
from streamer.core.image import Image
from streamer.core.latency import LatencyCounts, LatencyHistogram
from streamer.core.packet import PacketTap
from streamer.core.redact import redact_url

from .backlog import BacklogSkipper
from .decode import DecodedFrame, Decoder
from .demux import Demuxer
from .ffmpeg_errors import source_error
from .frame_sampler import DecodeMode, FrameSampler, SamplingPlan
from .open import OpenedStream, open_video
from .options import VideoOptions
from .packet_copy import PacketCopier
from .timestamps import (
    READ_AHEAD,
    NormalizedTimestamps,
    TimestampNormalizer,
    TimestampRepairs,
)

_log = structlog.get_logger(__name__)

_NO_FRAME_NS: Final = 30_000_000_000
"""After packets without a frame for this long, the decoder will not recover. Longer than the GOP of
any camera, because the first frame may have to wait for a key frame."""

_NO_KEY_FRAME: Final = "damaged: decoding fell behind, and no key frame came to go on with"

_FAILING_NS: Final = 5_000_000_000
"""The same if the decoder rejects every packet: the codec has changed."""

_MIN_PACKETS: Final = 10
"""Minimum number of packets without a frame; key frames may be rarer than the times above."""

_REPAIRS_LOGGED_NS: Final = 60_000_000_000
"""Timestamps may need repair at every packet; the log has their counts once in this time."""

_BEHIND_FOR_NS: Final = 60_000_000_000
"""A stream counts as behind for this long after packets were skipped, so that the state is steady
while they are skipped again and again."""

_BEHIND_NS: Final = 1_000_000_000
"""A file in real time that is this late continues from here, without catching up."""

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class VideoStatistics:
    """Counts since the source was made."""

    opened: int
    """Connections, or passes through a file."""

    packets: int
    bytes: int
    decoded: int
    """Frames that came out of the decoder intact."""

    frames: int
    """Yielded."""

    damaged: int
    """Packets and frames that could not be decoded."""

    stream_changes: int
    """Changes of the frame size."""

    skipped_behind: int
    """Packets of a live stream that were not decoded because decoding was behind."""

    lag_ns: int | None
    """Delay of the last packet of a live stream, on its way and before it was read here; `None`
    if its timestamps do not tell."""

    behind_since_ns: int | None
    """When a live stream fell behind; `None` once nothing was skipped for a minute. By
    `Clock.monotonic_ns`."""

    by_arrival_since_ns: int | None
    """Since when the timestamps of a live stream are not usable, so that the arrival counts."""

    decode_time: LatencyCounts
    """Of each decoded packet."""

    repairs: TimestampRepairs

    decoder: str
    """"cpu", or the name of the hardware; empty before the first frame with a hardware decoder."""


class VideoSource:
    """A source of one address. A further call continues media time and frame numbers.

    Any thread may read `statistics` and `plan`; everything else is used by the calling thread only.

    Args:
        address: Path, device or URL. Printed without its secrets.
        clock: Gives packets and frames their arrival times.
        live: Whether frames arrive in real time; then the end of the stream is a failure.
        options: How to fetch and decode, and which frames to yield.
        tap: Receives each packet before it is decoded.
    """

    def __init__(
        self,
        address: str,
        *,
        clock: Clock,
        live: bool,
        options: VideoOptions | None = None,
        tap: PacketTap | None = None,
    ) -> None:
        self._address = address
        self._clock = clock
        self._live = live
        self._options = options or VideoOptions()
        self._tap = tap
        self._normalizer = TimestampNormalizer(live=live)
        self._sampler = FrameSampler(
            self._options.inference_interval_ns, every_frame=self._options.every_frame
        )
        self._skipper = BacklogSkipper()
        self._paced = live or self._options.realtime
        self._log = _log.bind(address=redact_url(address))
        self._number = 0
        self._size: tuple[int, int] | None = None
        self._opened = self._packets = self._bytes = 0
        self._frames = self._decoded = self._damaged = self._stream_changes = 0
        self._decode_time = LatencyHistogram()
        self._behind: tuple[int, int] | None = None  # Arrival of the first and last skip.
        self._by_arrival_since_ns: int | None = None
        self._disturbances = 0  # Of the timestamps, at the last line in the log.
        self._logged_ns: int | None = None  # Time of that line.
        self._logged_mode: DecodeMode | None = None
        self._decoder = "" if self._options.hwaccel else "cpu"
        self._realtime_start_ns: int | None = None  # Monotonic time at which media time was 0.

    @property
    def plan(self) -> SamplingPlan:
        """What is decoded at present, and why."""
        return self._sampler.plan

    def statistics(self) -> VideoStatistics:
        """Return the counts so far."""
        return VideoStatistics(
            opened=self._opened,
            packets=self._packets,
            bytes=self._bytes,
            decoded=self._decoded,
            frames=self._frames,
            damaged=self._damaged,
            stream_changes=self._stream_changes,
            skipped_behind=self._skipper.skipped,
            lag_ns=self._normalizer.lag_ns,
            behind_since_ns=self._behind_since_ns(),
            by_arrival_since_ns=self._by_arrival_since_ns,
            decode_time=self._decode_time.counts(),
            repairs=self._normalizer.repairs,
            decoder=self._decoder,
        )

    def __repr__(self) -> str:
        return f"<VideoSource {redact_url(self._address)}>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Open the address and yield its frames until it ends or *cancel* is set.

        Raises:
            SourceLost: The stream ended, failed or is not there; another attempt may succeed.
            SourceRejected: The stream was refused; another attempt would fail in the same way.
            Cancelled: *cancel* was set while a file in real time waited.
        """
        while not cancel.is_set():
            before = self._packets
            yield from self._attempt(cancel)
            if cancel.is_set():
                return
            if not self._options.loop:
                if self._live:
                    raise self._error(SourceFault.ENDED)
                return
            if self._packets == before:  # An empty file must not be read for ever.
                raise self._error(SourceFault.NO_VIDEO)

    def _attempt(self, cancel: CancelToken) -> Iterator[Frame]:
        opened = open_video(
            self._address,
            self._options,
            live=self._live,
            cancel=cancel,
            hwaccel=self._hardware(),
        )
        try:
            yield from self._frames_of(opened, cancel)
        finally:
            opened.container.close()

    def _frames_of(self, opened: OpenedStream, cancel: CancelToken) -> Iterator[Frame]:
        self._opened += 1
        self._sampler.begin()
        self._skipper.begin()
        decoder = Decoder(
            opened.stream.codec_context,
            self._sampler,
            self._normalizer,
            every_frame=self._options.every_frame,
            realtime=self._paced,
            decode_time=self._decode_time,
        )
        demuxer = Demuxer(
            opened,
            address=self._address,
            live=self._live,
            timeout_s=self._options.timeout_s,
            clock=self._clock,
        )
        decoded_before, damaged_before = self._decoded, self._damaged
        frame_ns = self._clock.monotonic_ns()
        for packet, timestamps, arrived_ns in self._normalized(opened, demuxer, cancel):
            if self._live and self._skips(packet, timestamps, arrived_ns, demuxer, decoder):
                continue
            for decoded in decoder.decode(
                packet, timestamps, arrived_ns=arrived_ns - (self._normalizer.lag_ns or 0)
            ):
                self._note_decoder(opened)
                yield self._frame(decoded)
                del decoded  # The decoder may use its buffer again before the next one.
            self._damaged = damaged_before + decoder.damaged
            self._decoded = decoded_before + decoder.decoded
            self._log_plan()
            if not decoder.packets_without_frame:
                frame_ns = self._clock.monotonic_ns()
            elif self._live and decoder.packets_without_frame > _MIN_PACKETS:
                self._check_progress(frame_ns, failing=decoder.consecutive_errors > _MIN_PACKETS)
        for decoded in decoder.flush():
            yield self._frame(decoded)
        self._damaged = damaged_before + decoder.damaged
        self._decoded = decoded_before + decoder.decoded
        if not decoder.decoded and not cancel.is_set():
            if decoder.packets_without_frame:
                detail = "damaged: none of its frames can be decoded"
                raise self._error(SourceFault.DAMAGED, detail)
            raise self._error(SourceFault.NO_VIDEO)

    def _normalized(
        self, opened: OpenedStream, demuxer: Demuxer, cancel: CancelToken
    ) -> Iterator[tuple["Packet[VideoStream]", NormalizedTimestamps, int]]:
        """Yield each packet, its times, and when it arrived; and give it to the tap."""
        reader = _TimestampReader(self._options.frame_rate, opened, live=self._live)
        copier = PacketCopier(opened.stream) if self._tap else None
        self._normalizer.begin(
            time_base=reader.time_base,
            frame_ns=reader.frame_ns,
            max_gap_ns=opened.max_gap_ns,
            reorder_depth=opened.stream.codec_context.reorder_depth,
            segmented=opened.segmented,
        )
        read_ahead = 0 if self._live else READ_AHEAD
        for packet, raw, following in _with_following(demuxer.packets(cancel), reader, read_ahead):
            now_ns = self._clock.monotonic_ns()
            timestamps = self._normalizer.normalize(
                pts=raw.pts,
                dts=raw.dts,
                duration=raw.duration,
                arrived_ns=now_ns,
                following=following,
            )
            self._log_disturbances(now_ns)
            if self._options.realtime:
                self._wait_for(timestamps.dts_ns, cancel)
            self._packets += 1
            self._bytes += packet.size
            arrived_ns = self._clock.arrival_of(timestamps.pts_ns)
            if copier is not None and self._tap is not None:
                self._tap(copier.copy(packet, timestamps, arrived_ns=arrived_ns))
            yield packet, timestamps, arrived_ns

    def _skips(
        self,
        packet: "Packet[VideoStream]",
        timestamps: NormalizedTimestamps,
        arrived_ns: int,
        demuxer: Demuxer,
        decoder: Decoder,
    ) -> bool:
        """Whether this packet is not decoded, because the stream is behind the camera."""
        began = not self._skipper.skipping
        lag_ns = self._normalizer.lag_ns
        late = lag_ns is not None and lag_ns > self._options.max_lag_ns
        skips = self._skipper.skips(
            keyframe=packet.is_keyframe,
            # A late packet that the reader waited for was late on its way: skipping would lose it.
            behind=demuxer.saturated if lag_ns is None else late and demuxer.busy,
            caught_up=demuxer.waited if lag_ns is None else not late,
            arrived_ns=arrived_ns,
        )
        if skips and began:
            since_ns = self._behind_since_ns()
            self._behind = (arrived_ns if since_ns is None else since_ns, arrived_ns)
            decoder.skip()
            self._sampler.note_skip(timestamps.dts_ns)
            self._log.warning(
                "decoding is behind: continues at a later key frame",
                lag_s=None if lag_ns is None else round(lag_ns / _NS, 1),
                skipped=self._skipper.skipped,
            )  # fmt: skip
        elif skips and self._behind is not None and arrived_ns - self._behind[1] > _NO_FRAME_NS:
            # A connection begins with a key frame, even if the camera sends no others.
            raise self._error(SourceFault.DAMAGED, _NO_KEY_FRAME)
        return skips

    def _behind_since_ns(self) -> int | None:
        behind = self._behind
        if behind is None:
            return None
        is_over = self._clock.monotonic_ns() - behind[1] > _BEHIND_FOR_NS
        return None if is_over and not self._skipper.skipping else behind[0]

    def _log_disturbances(self, now_ns: int) -> None:
        """Log that the timestamps needed repair, at most once a minute."""
        if not self._normalizer.by_arrival:
            self._by_arrival_since_ns = None
        elif self._by_arrival_since_ns is None:
            self._by_arrival_since_ns = now_ns
        if self._normalizer.disturbances == self._disturbances:
            return
        if self._logged_ns is not None and now_ns - self._logged_ns < _REPAIRS_LOGGED_NS:
            return
        self._disturbances, self._logged_ns = self._normalizer.disturbances, now_ns
        repairs = self._normalizer.repairs
        self._log.warning(
            "timestamps repaired", jumps=repairs.jumps, outliers=repairs.outliers,
            deviations=repairs.deviations, by_arrival=self._normalizer.by_arrival,
        )  # fmt: skip

    def _hardware(self) -> HWAccel | None:
        """Return the hardware decoder, or `None` to decode on the CPU if it is unavailable."""
        if self._options.hwaccel is None:
            return None
        try:
            return open_hwaccel(self._options.hwaccel)
        except DecoderUnavailable as error:
            self._log_decoder("cpu", reason=str(error))
            return None

    def _note_decoder(self, opened: OpenedStream) -> None:
        hwaccel = self._options.hwaccel
        if hwaccel is None:
            return
        context = opened.stream.codec_context
        if is_hardware_decoded(context):
            self._log_decoder(hwaccel)
        else:
            self._log_decoder("cpu", reason=f"{hwaccel} does not decode this {context.name}")

    def _log_decoder(self, decoder: str, *, reason: str = "") -> None:
        if decoder == self._decoder:
            return
        self._decoder = decoder
        if reason:
            self._log.warning("decoded on the CPU", hwaccel=self._options.hwaccel, reason=reason)
        else:
            self._log.info("decoded on hardware", device=decoder)

    def _log_plan(self) -> None:
        """Log the plan once it is measured, and when what is decoded changes."""
        plan = self._sampler.plan
        if plan.decode is self._logged_mode or plan.gop_ns is None:
            return
        self._logged_mode = plan.decode
        self._log.info("decoding", plan=str(plan))

    def _check_progress(self, frame_ns: int, *, failing: bool) -> None:
        without_ns = self._clock.monotonic_ns() - frame_ns
        if without_ns > (_FAILING_NS if failing else _NO_FRAME_NS):
            detail = f"damaged: no frame could be decoded for {without_ns / _NS:.0f} s"
            raise self._error(SourceFault.DAMAGED, detail)

    def _error(self, fault: SourceFault, detail: str | None = None) -> SourceError:
        return source_error(fault, address=self._address, live=self._live, detail=detail)

    def _frame(self, decoded: DecodedFrame) -> Frame:
        image = Image(decoded.frame)
        if self._size is not None and image.size != self._size:
            self._stream_changes += 1
            height, width = image.size
            self._log.info("frame size changed", width=width, height=height)
        self._size = image.size
        self._clock.advance_to(decoded.pts_ns)
        arrived_ns = decoded.arrived_ns if self._paced else self._clock.arrival_of(decoded.pts_ns)
        frame = Frame(image, decoded.pts_ns, arrived_ns, self._number, sampled=decoded.sampled)
        self._number += 1
        self._frames += 1
        return frame

    def _wait_for(self, dts_ns: int, cancel: CancelToken) -> None:
        """Wait until the decoding time of a packet of a file."""
        now_ns = self._clock.monotonic_ns()
        if self._realtime_start_ns is None:
            self._realtime_start_ns = now_ns - dts_ns
        ahead_ns = self._realtime_start_ns + dts_ns - now_ns
        if ahead_ns > 0:
            cancel.sleep(ahead_ns / _NS)
        elif ahead_ns < -_BEHIND_NS:
            self._realtime_start_ns -= ahead_ns


class _RawTimestamps(NamedTuple):
    """Timestamps of a packet in ticks, each `None` if unknown."""

    pts: int | None
    dts: int | None
    duration: int | None


class _TimestampReader:
    """Reads the timestamps of packets, or counts them at the frame rate that the user gives.

    Ignores the invented timestamps of a live stream that has none, so that the arrival counts.
    """

    def __init__(self, rate: float | None, opened: OpenedStream, *, live: bool) -> None:
        self._count = 0
        self._counts = rate is not None
        self._invented = live and not opened.has_timestamps
        self.time_base = opened.time_base
        self.frame_ns = opened.frame_ns
        if rate is not None:
            self.time_base = 1 / Fraction(rate).limit_denominator(1001)
            self.frame_ns = int(self.time_base * _NS)

    def read(self, packet: "Packet[VideoStream]") -> _RawTimestamps:
        """Return the timestamps of the next packet in ticks of `time_base`."""
        if self._counts:
            self._count += 1
            return _RawTimestamps(None, self._count - 1, 1)
        if self._invented:
            return _RawTimestamps(None, None, None)
        return _RawTimestamps(packet.pts, packet.dts, packet.duration)


def _with_following(
    packets: "Iterator[Packet[VideoStream]]", reader: _TimestampReader, read_ahead: int
) -> Iterator[tuple["Packet[VideoStream]", _RawTimestamps, list[int]]]:
    """Yield each packet, its timestamps, and those of up to *read_ahead* packets after it."""
    waiting = deque[tuple["Packet[VideoStream]", _RawTimestamps]]()
    for packet in packets:
        waiting.append((packet, reader.read(packet)))
        if len(waiting) > read_ahead:
            yield *waiting.popleft(), _keys(waiting)
    while waiting:
        yield *waiting.popleft(), _keys(waiting)


def _keys(packets: Iterable[tuple["Packet[VideoStream]", _RawTimestamps]]) -> list[int]:
    keys = (raw.pts if raw.dts is None else raw.dts for _, raw in packets)
    return [key for key in keys if key is not None]
