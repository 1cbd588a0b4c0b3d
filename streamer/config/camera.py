"""Settings of one camera: where it is, how it is watched, what comes out."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .alarm import AlarmSettings
from .values import (
    CameraAddress,
    LocalPath,
    Name,
    Password,
    Polygon,
    PublishUrl,
    Section,
    User,
    in_order,
)

Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]


class SourceDefaults(Section):
    """How the video is received."""

    kind: Literal["auto", "video", "snapshot", "images", "pattern"] = "auto"
    """Type of the source: video (file, device, RTSP, HTTP, HLS), snapshot (a JPEG that is requested
    repeatedly), images (a folder), or pattern (a moving test pattern). `auto` derives it from the
    address."""

    user: User = None
    """User name, unless the address contains it."""

    password: Password = None
    """Password, unless the address contains it. Prefer `${env:NAME}` or `${file:PATH}`."""

    transport: Literal["auto", "tcp", "udp"] = "auto"
    """RTSP transport. `auto` tries TCP, then UDP."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """Without data for this long, the camera counts as disconnected."""

    live: Literal["auto", "always", "never"] = "auto"
    """Whether the end of the stream is a lost connection. `auto`: yes, except for files."""

    realtime: bool = True
    """Whether `watch` reads a file in real time, as FFmpeg's `-re`, not as fast as possible."""

    loop: bool = False
    """Whether a file restarts at its end."""

    frame_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frames per second of a file with wrong timestamps; `null` uses the timestamps of the file."""

    poll_s: Annotated[float, Field(ge=0.1, le=3600)] = 1
    """Seconds between two snapshot requests."""

    tls_verify: bool = True
    """Whether to verify the certificate of an https or rtsps address."""

    ca_file: LocalPath | None = None
    """CA certificates (PEM) to trust instead of those of this machine."""

    hwaccel: str | None = None
    """Hardware decoder by its FFmpeg name, e.g. `cuda`, or `cuda:1` for the second GPU. `null`
    decodes on the CPU. If the hardware is not available the CPU decodes, and a warning is
    logged."""


class SourceSettings(SourceDefaults):
    """Address of the video, and how it is received."""

    address: Annotated[CameraAddress, Field(examples=["rtsp://192.0.2.10:554/stream1"])]
    """URL, device or path. A relative path is relative to the folder of this file."""


class ReconnectSettings(Section):
    """Delay before a lost camera is connected again: exponential, with a maximum."""

    initial_s: Annotated[float, Field(ge=0.05, le=60)] = 0.25
    """Delay after the first failure."""

    factor: Annotated[float, Field(ge=1, le=10)] = 2
    """Factor by which each further delay grows."""

    max_delay_s: Annotated[float, Field(ge=0.05, le=3600)] = 2
    """Maximum delay. Keep it short: it is added to the outage."""

    rejected_s: Annotated[float, Field(ge=1, le=3600)] = 30
    """Delay after the camera rejected the login; many cameras lock an account after a few
    attempts."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        return in_order(self, "initial_s", "max_delay_s")


class BackgroundSettings(Section):
    """Background model: earlier frames of the same view, with which each frame is compared."""

    enabled: bool = True
    """Whether to use it. Disable it for cameras that pan or zoom."""

    min_age_s: Annotated[float, Field(ge=1, le=86_400)] = 90
    """Minimum age of a frame in the background, so that a growing plume is not part of it."""

    step_s: Annotated[float, Field(ge=1, le=86_400)] = 45
    """Seconds between two frames of the background."""


class PriorSettings(Section):
    """Learned false-positive prior: smoke probability that is normal per cell and hour."""

    enabled: bool = True
    """Whether to suppress detections that match the prior. Requires `background`."""

    learn_minutes: Annotated[float, Field(ge=1, le=10_000)] = 25
    """Minutes after which a constant false positive is suppressed. The prior does not learn during
    an alarm."""


class DetectSettings(Section):
    """Smoke detection."""

    fps: Annotated[float, Field(ge=0.01, le=60)] = 1
    """Inferences per second. If the GOP is at most 1.1 intervals, only key frames are
    decoded."""

    min_fps: Annotated[float, Field(ge=0.001, le=60)] = 0.2
    """Inferences per second that are guaranteed when the machine is too slow for `fps`: they are
    made even if their results come later than `latency_budget_ms`. Never more than `fps`."""

    background: BackgroundSettings = BackgroundSettings()
    """Background model of a fixed view."""

    false_positive_prior: PriorSettings = PriorSettings()
    """Learned false-positive prior."""

    low_light: bool = True
    """Whether dark frames are enhanced before inference, which finds several times as many plumes
    at night. Evidence stays as the camera sent it."""

    zoom_verification: bool = True
    """Whether regions that look like smoke are inferred again on full-resolution crops before they
    count. Costs up to three quarters of an inference, and only while there are such regions."""


class EnhanceSettings(Section):
    """Low-light enhancement of what people see: live view, published streams and files."""

    enabled: bool = False
    """Whether dark frames are enhanced. Daylight frames stay unchanged, bit for bit."""

    strength: Annotated[float, Field(ge=0, le=1.5)] = 1
    """Strength; 1 is the result of the network."""

    denoise: bool = True
    """Whether noise is reduced before brightness is raised."""


class ZoneSettings(Section):
    """Zones in which detections count. Corners are [x, y] from 0 to 1; [0, 0] is the top left."""

    include: tuple[Polygon, ...] = ()
    """Polygons (at least three corners each) in which detections count; empty: the whole frame."""

    exclude: tuple[Polygon, ...] = ()
    """Polygons in which detections never count: a chimney, a dusty road, a burnt-in clock."""


class ClipSettings(Section):
    """Video clip stored with an alarm, cut from the camera's stream without re-encoding."""

    pre_roll_s: Annotated[float, Field(ge=0, le=300)] = 15
    """Minimum seconds of video before the alarm, as far as they were received."""

    post_roll_s: Annotated[float, Field(ge=0, le=600)] = 15
    """Seconds of video after the alarm."""

    pre_roll_buffer_mb: Annotated[float, Field(ge=1, le=4096)] = 16
    """Memory for the packets of the pre-roll; 15 s at 4 Mbit/s are 7.5 MB."""


class RecordSettings(Section):
    """Continuous recording of the camera's stream, without decoding or encoding."""

    enabled: bool = False
    """Whether to record."""

    segment_s: Annotated[float, Field(ge=2, le=3600)] = 60
    """Seconds per file."""

    max_age_days: Annotated[float, Field(gt=0, le=3650)] = 7
    """Files older than this are deleted."""

    max_gb: Annotated[float, Field(gt=0)] | None = None
    """Maximum size of this camera's files; the oldest are deleted first. `null`: no limit."""

    min_free_gb: Annotated[float, Field(ge=0)] = 2
    """If less disk space is free, the oldest recordings of all cameras are deleted whatever their
    age. The largest value of all cameras and `retention.min_free_gb` counts."""


class FileOutput(Section):
    """Numbered video files of the frames with the overlay; `retention.outputs` limits them."""

    path: Annotated[LocalPath, Field(examples=["north.mp4"])]
    """Name of the files: `north.mp4` gives `north-0001_2026-08-01T14-05-00Z.mp4` and so on. A file
    that is read once (not `source.loop`) gives `north.mp4` itself. Nothing is overwritten. A
    relative path is relative to the folder of this file."""

    segment_s: Annotated[float, Field(ge=2, le=86_400)] | None = 3600
    """Seconds of video after which a new file begins; `null`: no limit."""

    segment_mb: Annotated[float, Field(ge=1)] | None = 2000
    """Size after which a new file begins; `null`: no limit."""

    preset: Preset = "veryfast"
    """x264 preset: slower ones make smaller files."""


class PublishOutput(Section):
    """A stream of the frames with the overlay to a media server."""

    url: Annotated[PublishUrl, Field(examples=["rtsp://127.0.0.1:8554/north"])]
    """Address to publish to: rtsp(s)://, rtmp(s):// or srt://."""

    rate: Annotated[float, Field(ge=0.1, le=120)] = 5
    """Frames per second of the stream; the last frame is repeated as needed."""

    preset: Preset = "ultrafast"
    """x264 preset: slower ones need less bandwidth."""


class OutputSettings(Section):
    """Outputs of the frames with the overlay, besides the evidence."""

    file: FileOutput | None = None
    """A video file; `null`: none."""

    publish: PublishOutput | None = None
    """A stream to a media server; `null`: none."""

    preview: bool = True
    """Whether the live view shows the camera."""

    every_frame: bool = False
    """Whether outputs show every frame rather than the frames that were sampled for inference.
    Every frame is then decoded: 90 instead of 20 ms of CPU time per second of 1080p25 video."""


class CameraDefaults(Section):
    """All settings of a camera except its address."""

    enabled: bool = True
    """Whether the camera is watched."""

    source: SourceDefaults = SourceDefaults()
    """Address of the video, and how it is received."""

    reconnect: ReconnectSettings = ReconnectSettings()
    """Delay before a lost camera is connected again: exponential, with a maximum."""

    latency_budget_ms: Annotated[int, Field(ge=50, le=60_000)] = 2000
    """Maximum age of a frame at each stage and output; older frames are dropped and counted. An
    inference that cannot end within it is not started, except for `detect.min_fps`."""

    detect: DetectSettings = DetectSettings()
    """Smoke detection."""

    enhance: EnhanceSettings = EnhanceSettings()
    """Low-light enhancement of what people see: live view, published streams and files."""

    alarm: AlarmSettings = AlarmSettings()
    """Conditions under which detections become an alarm."""

    zones: ZoneSettings = ZoneSettings()
    """Zones in which detections count. Corners are [x, y] from 0 to 1; [0, 0] is the top left."""

    clip: ClipSettings = ClipSettings()
    """Video clip stored with an alarm, cut from the camera's stream without re-encoding."""

    record: RecordSettings = RecordSettings()
    """Continuous recording of the camera's stream, without decoding or encoding."""

    outputs: OutputSettings = OutputSettings()
    """Outputs of the frames with the overlay, besides the evidence."""

    notify: tuple[Name, ...] | None = None
    """Names of the channels that are notified of alarms; `null`: all, `[]`: none."""


class CameraSettings(CameraDefaults):
    """One camera."""

    source: SourceSettings
    """Address of the video, and how it is received."""
