"""Builds the source of a camera from its spec."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from structlog.contextvars import bound_contextvars

from streamer.config.camera import SourceSettings
from streamer.core.backoff import Backoff
from streamer.core.clock import CancelToken, Clock
from streamer.core.frame import Frame
from streamer.core.packet import PacketTap
from streamer.core.pipeline import Source
from streamer.sources.address import SourceKind, says_kind
from streamer.sources.constant_rate import ConstantRate
from streamer.sources.http import HttpSource
from streamer.sources.images import ImageFolderSource
from streamer.sources.options import VideoOptions
from streamer.sources.pattern import PatternSource
from streamer.sources.reconnect import RECONNECT, REJECTED, ReconnectingSource, SourceState
from streamer.sources.snapshot import SnapshotSource
from streamer.sources.video import VideoSource

from .camera_spec import CameraSpec

_NS: Final = 1_000_000_000
Input = TypeVar("Input")


@dataclass(frozen=True, slots=True)
class CameraSource:
    """A camera's source, with access to what it counts."""

    source: Source
    """May be called again; media time, frame numbers and counts go on."""

    video: VideoSource | None
    """The part that counts packets and faults; `None` for sources that have none."""

    connection: Callable[[], SourceState | None]
    """Returns the state of the connection; `None` for sources that are never reopened."""


def build_source(
    spec: CameraSpec, *, clock: Clock, tap: PacketTap | None, every_frame: bool
) -> CameraSource:
    """Return the source that *spec* describes.

    Args:
        spec: The camera.
        clock: Gives the arrival times.
        tap: Receives each packet before it is decoded.
        every_frame: Whether all frames are decoded rather than those that are sampled.
    """
    attempt = _attempt(spec, clock, tap, every_frame=every_frame)
    part = attempt.video if isinstance(attempt, HttpSource) else attempt
    video = part if isinstance(part, VideoSource) else None
    if not spec.live:
        return CameraSource(_logging_as(spec.name, attempt), video, lambda: None)
    wait = spec.settings.reconnect
    reconnecting = ReconnectingSource(
        attempt,
        clock=clock,
        backoff=replace(RECONNECT, **wait.model_dump(exclude={"rejected_s"})),
        rejected=Backoff.constant(wait.rejected_s, jitter=REJECTED.jitter),
    )
    return CameraSource(_logging_as(spec.name, reconnecting), video, lambda: reconnecting.state)


def ending(
    part: Callable[[Input], Iterator[Frame]], at_end: Callable[[], None]
) -> Callable[[Input], Iterator[Frame]]:
    """Return a source or stage that runs *part* and calls *at_end* when the run ends."""

    def run(given: Input, /) -> Iterator[Frame]:
        try:
            yield from part(given)
        finally:
            at_end()

    return run


def _logging_as(camera: str, source: Source) -> Source:
    """Return *source* with the name of its camera in each line that it or a library logs."""

    def run(cancel: CancelToken) -> Iterator[Frame]:
        with bound_contextvars(camera=camera):  # Of the thread, which belongs to this source.
            yield from source(cancel)

    return run


def video_options(settings: SourceSettings, *, allow_link_local: bool) -> VideoOptions:
    """Return how *settings* fetch and decode a stream, at any speed and inference rate."""
    return VideoOptions(
        transport=settings.transport,
        user=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        timeout_s=settings.timeout_s,
        tls_verify=settings.tls_verify,
        ca_file=None if settings.ca_file is None else str(settings.ca_file),
        loop=settings.loop,
        frame_rate=settings.frame_rate,
        allow_link_local=allow_link_local,
        hwaccel=settings.hwaccel,
    )


def _attempt(spec: CameraSpec, clock: Clock, tap: PacketTap | None, *, every_frame: bool) -> Source:
    """A source whose call is one connection attempt, or one pass through a file."""
    settings, interval_ns = spec.settings.source, spec.inference_interval_ns
    # A live stream comes at its own speed; the pattern and a folder of images come as fast as read.
    unpaced = not spec.live or spec.kind in (SourceKind.PATTERN, SourceKind.FOLDER)
    realtime = settings.realtime and unpaced and not spec.replay
    options = replace(
        video_options(settings, allow_link_local=spec.allow_link_local),
        realtime=realtime,
        inference_interval_ns=interval_ns,
        every_frame=every_frame,
        # The other half is for what comes behind the source.
        max_lag_ns=min(spec.latency_budget_ns // 2, _NS),
    )
    match spec.kind:
        case SourceKind.PATTERN:
            return PatternSource(clock=clock, realtime=realtime, inference_interval_ns=interval_ns)
        case SourceKind.FOLDER:
            rate = settings.frame_rate or spec.settings.detect.fps
            frames = ConstantRate(
                clock, rate=rate, realtime=realtime, inference_interval_ns=interval_ns
            )
            return ImageFolderSource(Path(spec.address), frames, loop=settings.loop)
        case SourceKind.SNAPSHOT:
            return _snapshots(spec, clock, options)
    video = VideoSource(spec.address, clock=clock, live=spec.live, options=options, tap=tap)
    is_unsaid = spec.kind is SourceKind.HTTP and not says_kind(spec.address)
    if spec.live and settings.kind == "auto" and is_unsaid:
        return HttpSource(video=video, snapshot=_snapshots(spec, clock, options))
    return video


def _snapshots(spec: CameraSpec, clock: Clock, options: VideoOptions) -> SnapshotSource:
    poll_ns = round(spec.settings.source.poll_s * _NS)
    return SnapshotSource(spec.address, clock=clock, interval_ns=poll_ns, options=options)
