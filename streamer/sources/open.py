"""Opens a video once: translates address and options for FFmpeg, and finds the video stream."""

import errno
import ssl
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.stream import VideoStream

from streamer.core.clock import CancelToken
from streamer.core.errors import Cancelled, SourceError, SourceFault

from .address import SourceKind, kind_of, with_credentials
from .ffmpeg_errors import FaultContext, source_error, translate
from .http_inspection import inspect
from .interrupt import CallWatch
from .options import VideoOptions
from .permitted import check_permitted

_FAST_ANALYSIS_US: Final = 200_000
"""Opens a camera in 0.25 s; with FFmpeg's default of five seconds it takes 1.1 s and more."""

_SOCKET_BUFFER: Final = 1 << 20
"""A key frame arrives in one burst. With the kernel's default of 200 kB, UDP loses a part."""

_DISCONTINUOUS_GAP_NS: Final = 10_000_000_000
_CONTINUOUS_GAP_NS: Final = 30 * 3600 * 1_000_000_000
"""FFmpeg's limits (dts_delta_threshold and dts_error_threshold) for a plausible gap."""

_SEGMENTED: Final = ("hls", "dash")
"""FFmpeg's names of protocols that fetch one file after the other."""

_DEFAULT_FRAME_NS: Final = 40_000_000
_HTTP_KINDS: Final = (SourceKind.HTTP, SourceKind.SNAPSHOT)
_LOWEST_RATE, _HIGHEST_RATE = 1 / 60, 1000
"""A frame rate outside these limits is a wrong guess of FFmpeg's."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedStream:
    """An open video. The caller closes the container."""

    container: InputContainer
    stream: VideoStream
    time_base: Fraction
    frame_ns: int
    """Distance of two frames by the announced frame rate; 40 ms if none is announced."""

    max_gap_ns: int
    """Longest plausible gap between two timestamps of this container."""

    has_timestamps: bool
    """Whether the container stores timestamps; if not, FFmpeg invents some at 25 fps."""

    segmented: bool
    """Whether a live stream comes in pieces of many seconds."""


def open_video(
    address: str,
    options: VideoOptions,
    *,
    live: bool,
    cancel: CancelToken,
    hwaccel: HWAccel | None = None,
    container_format: str | None = None,
    redirected: bool = False,
) -> OpenedStream:
    """Open *address* and find its video stream, within `options.timeout_s`.

    A camera is opened with a short analysis, which does not always find the frame size; the first
    key frame has it. Only if the analysis finds no video, the camera is opened once more with a
    long analysis, and all its streams are requested.

    Args:
        address: Path, device or URL.
        options: How to fetch. `options.hwaccel` is ignored; *hwaccel* counts.
        live: Whether the end of the stream is a failure.
        cancel: Ends the attempt when it is set.
        hwaccel: Device that decodes the video if it supports it.
        container_format: FFmpeg's name of the format; `None` detects it.
        redirected: Whether a server gave *address*: then none that it gives now is followed, since
            some give another one each time.

    Raises:
        SourceError: With the fault and what to do about it.
        Cancelled: *cancel* was set.
    """
    kind = kind_of(address)
    began_s = time.monotonic()
    if kind.network:
        check_permitted(address, options, live=live, cancel=cancel)
    watch = CallWatch(cancel, began_s + options.timeout_s - time.monotonic())
    try:
        with watch:
            return _open_twice(
                address, options, hwaccel, kind=kind, live=live, container_format=container_format
            )
    except av.error.FFmpegError as error:
        if cancel.is_set():
            raise Cancelled from None
        if kind in _HTTP_KINDS and live and not watch.timed_out and _is_unclear(error):
            found = inspect(address, options, live=live, cancel=cancel)
            if found is not None and found.address != address and not redirected:
                return open_video(
                    found.address, found.options, live=live, cancel=cancel, hwaccel=hwaccel,
                    redirected=True,
                )  # fmt: skip
            if found is not None and found.is_jpeg and container_format is None:
                return open_video(
                    address, options, live=live, cancel=cancel, hwaccel=hwaccel,
                    container_format="mjpeg", redirected=redirected,
                )  # fmt: skip
        context = FaultContext(
            address=address,
            live=live,
            opening=True,
            timeout_s=options.timeout_s,
            silent=watch.timed_out,
        )
        raise translate(error, context) from error


def _open_twice(
    address: str,
    options: VideoOptions,
    hwaccel: HWAccel | None,
    *,
    kind: SourceKind,
    live: bool,
    container_format: str | None,
) -> OpenedStream:
    if container_format is None and kind is SourceKind.DEVICE:
        container_format = "v4l2"
    if live and kind.network:
        try:
            return _open(
                address, options, hwaccel, kind=kind, live=live, fast=True,
                container_format=container_format,
            )  # fmt: skip
        except SourceError as error:
            if error.fault not in (SourceFault.NO_VIDEO, SourceFault.UNKNOWN_CODEC):
                raise
        except av.error.HTTPOtherClientError:
            pass  # A camera without video refuses to play the video alone.
    return _open(
        address, options, hwaccel, kind=kind, live=live, fast=False,
        container_format=container_format,
    )  # fmt: skip


def _open(
    address: str,
    options: VideoOptions,
    hwaccel: HWAccel | None,
    *,
    kind: SourceKind,
    live: bool,
    fast: bool,
    container_format: str | None,
) -> OpenedStream:
    url = with_credentials(address, user=options.user, password=options.password)
    if kind is SourceKind.FILE and not url.startswith("file:"):
        url = "file:" + url  # A colon in a file's name is not a protocol.
    container = av.open(
        url,
        mode="r",
        format=container_format,
        options=_ffmpeg_options(options, kind=kind, url=url, fast=fast),
        # `CallWatch` ends the calls in time; this makes PyAV install the callback that it needs.
        timeout=options.timeout_s if kind.network else None,
        hwaccel=hwaccel,
    )
    try:
        stream = _video_of(container, address=address, live=live)
    except SourceError:
        container.close()
        raise
    flags = Flags(container.format.flags)
    return OpenedStream(
        container=container,
        stream=stream,
        time_base=stream.time_base or Fraction(1, 90_000),
        frame_ns=_frame_ns(stream),
        max_gap_ns=_DISCONTINUOUS_GAP_NS if flags & Flags.ts_discont else _CONTINUOUS_GAP_NS,
        has_timestamps=not flags & Flags.no_timestamps,
        segmented=container.format.name in _SEGMENTED,
    )


def _is_unclear(error: av.error.FFmpegError) -> bool:
    """Whether FFmpeg's error does not say what is wrong with an answer over HTTP."""
    return error.errno == errno.EIO or isinstance(error, av.error.InvalidDataError)


def _forbids_redirects(options: VideoOptions, kind: SourceKind) -> bool:
    """Whether FFmpeg must not follow redirects: they may lead to where it is not permitted."""
    return kind in _HTTP_KINDS and not options.allow_link_local


def _ffmpeg_options(
    options: VideoOptions, *, kind: SourceKind, url: str, fast: bool
) -> dict[str, str]:
    result: dict[str, str] = {}
    if fast:
        result["analyzeduration"] = str(_FAST_ANALYSIS_US)
    if kind is SourceKind.RTSP:
        result["rtsp_transport"] = "tcp+udp" if options.transport == "auto" else options.transport
        if options.transport == "auto":
            result["rtsp_flags"] = "prefer_tcp"
        if options.transport != "tcp":
            result["buffer_size"] = str(_SOCKET_BUFFER)
        if fast:
            result["allowed_media_types"] = "video"
    if url.lower().startswith(("rtsps:", "https:")):
        result["tls_verify"] = "1" if options.tls_verify else "0"
        if options.tls_verify:
            result["ca_file"] = options.ca_file or _system_certificates()
    if _forbids_redirects(options, kind):
        result["max_redirects"] = "0"
    if kind in (SourceKind.HTTP, SourceKind.FILE, SourceKind.STREAM):
        # MPEG-TS may announce new streams in the middle; they continue the old ones.
        result["merge_pmt_versions"] = "1"
    return result


def _system_certificates() -> str:
    found = ssl.get_default_verify_paths().cafile
    if found and Path(found).is_file():
        return found
    import certifi  # Comes with httpx. This machine has no certificates.

    return certifi.where()


def _video_of(container: InputContainer, *, address: str, live: bool) -> VideoStream:
    """Return FFmpeg's best video stream that is not a cover image."""
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not videos:
        raise source_error(SourceFault.NO_VIDEO, address=address, live=live)
    best = container.streams.best("video")
    video = next((stream for stream in videos if stream is best), videos[0])
    if video.codec_context is None:
        raise source_error(SourceFault.UNKNOWN_CODEC, address=address, live=live)
    return video


def _frame_ns(stream: VideoStream) -> int:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and _LOWEST_RATE <= rate <= _HIGHEST_RATE:
            return int(1_000_000_000 / rate)
    return _DEFAULT_FRAME_NS
