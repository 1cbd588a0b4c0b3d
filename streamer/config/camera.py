"""What one camera may be told: where it is, how it is watched, what comes out."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .values import (
    CameraAddress,
    LocalPath,
    Name,
    Password,
    Polygon,
    PublishUrl,
    Section,
    Share,
    User,
    in_order,
)

Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]


class SourceDefaults(Section):
    """How pictures are fetched."""

    kind: Literal["auto", "video", "snapshot", "images", "pattern"] = "auto"
    """What the address leads to: a video (file, device, RTSP, HTTP, HLS), a snapshot (one JPEG,
    asked for again and again), a folder of images, or a moving test pattern. `auto` tells by the
    address."""

    user: User = None
    """User name, if it is not in the address."""

    password: Password = None
    """Password, if it is not in the address. Better `${env:NAME}` or `${file:PATH}` than plain."""

    transport: Literal["auto", "tcp", "udp"] = "auto"
    """How RTSP carries video. `auto` tries TCP, then UDP."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """A camera that sends nothing for this long is taken as gone."""

    live: Literal["auto", "always", "never"] = "auto"
    """Whether the end of the stream means a broken connection. `auto`: of files it does not."""

    pace: bool = True
    """Whether `watch` plays a file at its own speed rather than as fast as it can."""

    loop: bool = False
    """Whether a file begins again at its end."""

    frame_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frames per second of a file whose time stamps are nonsense; null believes the file."""

    poll_s: Annotated[float, Field(ge=0.1, le=3600)] = 1
    """Time between two requests for a snapshot."""

    tls_verify: bool = True
    """Whether the certificate of an https or rtsps address must be valid."""

    ca_file: LocalPath | None = None
    """Certificates to trust instead of this machine's, e.g. the camera's own."""

    hwaccel: str | None = None
    """What decodes videos, FFmpeg's name such as cuda, or cuda:1 for the second GPU; null is the
    processor, which also stands in, with a warning, where the hardware cannot."""


class SourceSettings(SourceDefaults):
    """Where pictures come from, and how they are fetched."""

    address: Annotated[CameraAddress, Field(examples=["rtsp://192.0.2.10:554/stream1"])]
    """URL, device or path. A relative path begins at the folder of this file."""


class ReconnectSettings(Section):
    """How long to wait before trying a lost camera again: each time longer, up to a cap."""

    initial_s: Annotated[float, Field(ge=0.05, le=60)] = 0.25
    """Wait after the first failure."""

    factor: Annotated[float, Field(ge=1, le=10)] = 2
    """How much longer each further wait is."""

    max_delay_s: Annotated[float, Field(ge=0.05, le=3600)] = 2
    """Longest wait. Short, so that the picture is back soon after the camera is."""

    rejected_s: Annotated[float, Field(ge=1, le=3600)] = 30
    """Wait after a rejection. Many cameras lock an account after some wrong passwords."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        return in_order(self, "initial_s", "max_delay_s")


class BackgroundSettings(Section):
    """The slow background of a fixed view, which the network compares each picture with."""

    enabled: bool = True
    """Whether the camera stands still. Turn off for cameras that pan or zoom."""

    min_age_s: Annotated[float, Field(ge=1, le=86_400)] = 90
    """Age from which a picture counts as background: a growing plume must not be in it yet."""

    step_s: Annotated[float, Field(ge=1, le=86_400)] = 45
    """Time between two pictures that are kept for it."""


class PriorSettings(Section):
    """What is usually taken for smoke at a fixed camera, learnt place by place and hour by hour."""

    enabled: bool = True
    """Whether only what exceeds it counts. Needs `background`, by which a moved view is known."""

    learn_minutes: Annotated[float, Field(ge=1, le=10_000)] = 25
    """Minutes in which something that always looks much like smoke becomes usual. Nothing is learnt
    while an alarm is on."""


class DetectSettings(Section):
    """How often the network looks, and with what."""

    fps: Annotated[float, Field(ge=0.01, le=60)] = 1
    """Pictures looked at each second. If the key frames suffice, nothing else is decoded."""

    background: BackgroundSettings = BackgroundSettings()
    """The slow background of a fixed view."""

    false_positive_prior: PriorSettings = PriorSettings()
    """What is usual here, and therefore no news."""

    low_light: bool = True
    """Whether dark pictures are made lighter before the network looks: it then finds several times
    as many plumes at night. What is shown and kept as evidence stays as the camera sent it."""

    zoom_verification: bool = True
    """Whether what looks like smoke is looked at again in the camera's own pixels before it counts;
    costs up to three quarters of a look while something does."""


class EnhanceSettings(Section):
    """Makes dark pictures visible to people: what is shown, published and written to files."""

    enabled: bool = False
    """Whether dark pictures are enhanced. By day pictures stay as they are, bit for bit."""

    strength: Annotated[float, Field(ge=0, le=1.5)] = 1
    """How much of it; 1 is what the network suggests."""

    denoise: bool = True
    """Whether noise is held down, too; it would be lifted with the light."""


class AlarmSettings(Section):
    """When smoke becomes an alarm."""

    threshold: Share | None = None
    """Chance of smoke that a spot must reach to count; null takes what the model came with."""

    low_threshold: Share | None = None
    """Chance of smoke to which a spot that counts is drawn; null takes what the model came
    with."""

    hysteresis_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """While smoke is suspected or alarmed, the threshold is this share of itself: a plume that
    thins for a moment is still there."""

    min_area: Share = 0.0002
    """Smaller spots are specks; a share of the picture. 0.0002 is 20x20 pixels of 1080p."""

    confirm_window_s: Annotated[float, Field(ge=0, le=3600)] = 6
    """Smoke must have been seen for so long."""

    confirm_ratio: Annotated[float, Field(gt=0, le=1)] = 0.6
    """In at least this share of the looks of that time."""

    min_hits: Annotated[int, Field(ge=1, le=1000)] = 3
    """And in at least so many looks, however rare they are."""

    min_score: Annotated[float, Field(gt=0, le=1)] = 0.55
    """Least score that raises an alarm. It is made of probability, persistence, growth and an
    anchored base."""

    min_score_without_background: Annotated[float, Field(gt=0, le=1)] = 0.75
    """The same while there is no background to compare with: in the first minutes of a view, and
    for cameras that move."""

    max_drift: Annotated[float, Field(gt=0, le=1)] = 0.15
    """What moves on by this share of the picture within `confirm_window_s` is a cloud."""

    track_timeout_s: Annotated[float, Field(ge=0, le=3600)] = 10
    """A spot not seen for so long has ended."""

    clear_after_s: Annotated[float, Field(ge=0, le=86_400)] = 60
    """The alarm ends when nothing was seen for so long."""

    cooldown_s: Annotated[float, Field(ge=0, le=86_400)] = 600
    """After an alarm that somebody was told of, new smoke continues it for so long, rather than
    raising another one."""

    update_every_s: Annotated[float, Field(ge=0, le=86_400)] = 30
    """Shortest time between two updates."""

    update_growth: Annotated[float, Field(gt=0, le=100)] = 1
    """Growth since the last message that is worth an update: 1 for doubled."""


class ZoneSettings(Section):
    """Where smoke counts. Corners are [x, y] from 0 to 1, [0, 0] is the top left."""

    include: tuple[Polygon, ...] = ()
    """Areas that count, each a list of at least three corners; none means the whole picture."""

    exclude: tuple[Polygon, ...] = ()
    """Areas that never count: a chimney, a road with dust, the clock in the picture."""


class ClipSettings(Section):
    """The video that is kept with an alarm, cut from the camera's own stream."""

    pre_roll_s: Annotated[float, Field(ge=0, le=300)] = 15
    """Video from before the alarm; never less than this, if it had been received."""

    post_roll_s: Annotated[float, Field(ge=0, le=600)] = 15
    """Video from after the alarm."""

    pre_roll_buffer_mb: Annotated[float, Field(ge=1, le=4096)] = 16
    """Memory for the packets that wait to become a clip. 15 s at 4 Mbit/s are 7.5 MB."""


class RecordSettings(Section):
    """Continuous recording of the camera's own stream, without decoding or encoding."""

    enabled: bool = False
    """Whether to record."""

    segment_s: Annotated[float, Field(ge=2, le=3600)] = 60
    """Length of one file."""

    max_age_days: Annotated[float, Field(gt=0, le=3650)] = 7
    """Older files are deleted."""

    max_gb: Annotated[float, Field(gt=0)] | None = None
    """Space for this camera's files, the oldest go first; null for no limit."""

    min_free_gb: Annotated[float, Field(ge=0)] = 2
    """Below this free space the oldest files go, whatever their age."""


class FileOutput(Section):
    """The watched pictures with the overlay, as a video file."""

    path: Annotated[LocalPath, Field(examples=["north.mp4"])]
    """Where to write. A relative path begins at the folder of this file."""

    preset: Preset = "veryfast"
    """How hard x264 works to make the file small."""


class PublishOutput(Section):
    """The watched pictures with the overlay, as a stream to a media server."""

    url: Annotated[PublishUrl, Field(examples=["rtsp://127.0.0.1:8554/north"])]
    """Where to publish: rtsp:// or rtmp://."""

    rate: Annotated[float, Field(ge=0.1, le=120)] = 5
    """Frames per second of the stream; between two pictures the last one is repeated."""

    preset: Preset = "ultrafast"
    """How hard x264 works to make the stream small."""


class OutputSettings(Section):
    """Where the pictures with the overlay go, beside the evidence."""

    file: FileOutput | None = None
    """A video file; null for none."""

    publish: PublishOutput | None = None
    """A stream to a media server; null for none."""

    preview: bool = True
    """Whether the camera is shown on the preview page."""

    every_frame: bool = False
    """Whether outputs show every frame of the camera rather than those that were looked at. Then
    all of them are decoded: 90 instead of 20 ms of CPU a second for a 1080p25 camera."""


class CameraDefaults(Section):
    """All settings of a camera but its address."""

    enabled: bool = True
    """Whether the camera is watched at all."""

    source: SourceDefaults = SourceDefaults()
    """Where pictures come from, and how they are fetched."""

    reconnect: ReconnectSettings = ReconnectSettings()
    """How long to wait before trying a lost camera again: each time longer, up to a cap."""

    latency_budget_ms: Annotated[int, Field(ge=50, le=60_000)] = 2000
    """Oldest age at which a picture may reach a stage or an output; older ones are dropped."""

    detect: DetectSettings = DetectSettings()
    """How often the network looks."""

    enhance: EnhanceSettings = EnhanceSettings()
    """Makes dark pictures visible to people: what is shown, published and written to files."""

    alarm: AlarmSettings = AlarmSettings()
    """When smoke becomes an alarm."""

    zones: ZoneSettings = ZoneSettings()
    """Where smoke counts. Corners are [x, y] from 0 to 1, [0, 0] is the top left."""

    clip: ClipSettings = ClipSettings()
    """The video that is kept with an alarm, cut from the camera's own stream."""

    record: RecordSettings = RecordSettings()
    """Continuous recording of the camera's own stream, without decoding or encoding."""

    outputs: OutputSettings = OutputSettings()
    """Where the pictures with the overlay go, beside the evidence."""

    notify: tuple[Name, ...] | None = None
    """Names of the channels that are told of alarms; null for all, [] for none."""


class CameraSettings(CameraDefaults):
    """One camera."""

    source: SourceSettings
    """Where pictures come from, and how they are fetched."""
