"""How old a picture can get and how much memory can be needed, computed from a configuration.

Pure arithmetic: nothing is opened. Ages follow from the links alone, because a link hands over no
picture older than the camera's `latency_budget_ms`, measured from its arrival. Memory is the sum
of everything that is bounded: links, packet ring, decoder, background, encoders. The formulae
stand beside each term; the figures that are no arithmetic are constants with their origin.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streamer.config import CameraSettings, Config

Size = tuple[int, int]
"""(height, width), the order of arrays."""

ASSUMED_SIZE: Final[Size] = (1080, 1920)
"""Taken where nobody has asked the camera."""

NETWORK_SIZE: Final[Size] = (384, 640)
"""What the shipped network looks at."""

LINK_CAPACITY: Final = 2
"""Of `streamer.core.pipeline.live_links`."""

_STAGES: Final = ("detect", "overlay")

_PADDED: Final = 1.04
"""Decoded planes are a little larger than their pixels: rows are padded for SIMD. 1080p: 3 %."""

_DPB_MACROBLOCKS: Final = 32_768
"""MaxDpbMbs of H.264 level 4.1, what cameras up to 1080p declare; above that level 5.1's."""

_DPB_MACROBLOCKS_5_1: Final = 184_320
_MOST_REFERENCES: Final = 16
_DECODER_BYTES: Final = 8_000_000
"""Tables and buffers of a decoder and its demuxer, without pictures. Measured at 1080p."""

_ENCODER_FRAMES: Final[Mapping[str, int]] = {
    "ultrafast": 24,
    "superfast": 50,
    "veryfast": 68,
    "faster": 94,
    "fast": 120,
    "medium": 147,
    "slow": 176,
    "slower": 216,
    "veryslow": 242,
}
"""Pictures that x264 keeps with each preset: peak memory measured at 1080p, plus a tenth."""

_ENHANCE_BYTES: Final = 54
"""A pixel of a dark picture that is made visible, with its past and the picture before it: 39
measured, the new picture, and a tenth."""

_PROCESS_BYTES: Final = 60_000_000
"""A Python process that can encode: measured, what the publishing process begins with."""

_PROGRAM_BYTES: Final = 120_000_000
"""The program with its libraries before it does anything: measured."""

_BACKGROUND_SLOTS: Final = 3
"""Pictures in the median of `streamer.detect.scene`."""

_MODEL_BYTES: Final = 150_000_000
"""A compiled smoke network that eight callers use at once, shared by all: 135 MB measured."""


@dataclass(frozen=True, slots=True)
class SinkAge:
    """How old pictures get at one sink."""

    sink: str
    delivered_ms: int
    """Oldest at which a picture is handed to it."""

    shown_ms: int
    """Oldest that its last picture gets before the next one replaces it, if the camera delivers."""


@dataclass(frozen=True, slots=True)
class CameraBudget:
    """What one camera can cost."""

    camera: str
    size: Size
    assumed: bool
    """Whether the size is `ASSUMED_SIZE` rather than the camera's own."""

    ages: tuple[SinkAge, ...]
    memory: Mapping[str, int]
    """Bytes by what needs them."""

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(self.memory.values())


@dataclass(frozen=True, slots=True)
class Budget:
    """What all cameras can cost together."""

    cameras: tuple[CameraBudget, ...]
    shared: Mapping[str, int]
    """Bytes by what needs them, once for all cameras."""

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(self.shared.values()) + sum(camera.bytes for camera in self.cameras)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the figures rest on, in words."""
        assumed = [camera.camera for camera in self.cameras if camera.assumed]
        height, width = ASSUMED_SIZE
        return (
            "ages count from when a picture was decoded here; camera and network come on top",
            "one clip of a camera is written at a time",
            "live sources: reading a file drops nothing and bounds no age",
            "H.264 or HEVC at level 4.1 up to 1080p, at level 5.1 above",
            *([f"{', '.join(assumed)}: {width}x{height}, not asked"] if assumed else []),
        )

    def as_json(self) -> dict[str, Any]:
        """For scripts. Bytes and milliseconds."""
        return {
            "bytes": self.bytes,
            "shared": dict(self.shared),
            "cameras": [_camera_json(camera) for camera in self.cameras],
            "assumptions": list(self.assumptions),
        }


def _camera_json(camera: CameraBudget) -> dict[str, Any]:
    return {
        "camera": camera.camera,
        "width": camera.size[1],
        "height": camera.size[0],
        "size_assumed": camera.assumed,
        "sinks": [
            {"sink": age.sink, "delivered_ms": age.delivered_ms, "shown_ms": age.shown_ms}
            for age in camera.ages
        ],
        "bytes": camera.bytes,
        "memory": dict(camera.memory),
    }


def compute(config: "Config", *, sizes: Mapping[str, Size] | None = None) -> Budget:
    """The worst ages and the worst memory of *config*.

    Args:
        config: What is to be watched.
        sizes: Picture size (height, width) by camera, where it is known.
    """
    known = sizes or {}
    cameras = tuple(
        _camera(name, camera, known.get(name), preview=config.preview.enabled)
        for name, camera in config.cameras.items()
        if camera.enabled
    )
    return Budget(cameras, {"program": _PROGRAM_BYTES, "network": _MODEL_BYTES})


def _camera(
    name: str, camera: "CameraSettings", known: Size | None, *, preview: bool
) -> CameraBudget:
    size = known or ASSUMED_SIZE
    sinks = _sinks(camera, preview=preview)
    budget_ms = camera.latency_budget_ms
    # The last picture stays until the next look's has come: one interval later, again as late
    # as the budget allows.
    shown_ms = budget_ms + math.ceil(1000 / camera.detect.fps)
    publish = camera.outputs.publish
    extra_ms = {"publish": math.ceil(1000 / publish.rate)} if publish else {}
    return CameraBudget(
        camera=name,
        size=size,
        assumed=known is None,
        ages=tuple(SinkAge(sink, budget_ms, shown_ms + extra_ms.get(sink, 0)) for sink in sinks),
        memory=_memory(camera, size, sinks),
    )


def _sinks(camera: "CameraSettings", *, preview: bool) -> list[str]:
    sinks = ["monitor"]
    if preview and camera.outputs.preview:
        sinks.append("preview")
    if camera.outputs.file:
        sinks.append("file")
    if camera.outputs.publish:
        sinks.append("publish")
    return sinks


def _memory(camera: "CameraSettings", size: Size, sinks: list[str]) -> dict[str, int]:
    picture = picture_bytes(size)
    network = NETWORK_SIZE[0] * NETWORK_SIZE[1] * 3
    # The network's picture and its map, at half the size in float32, stay with the frame.
    frame = picture + network + network // 3
    enhanced = camera.enhance.enabled and len(sinks) > 1
    stages = len(_STAGES) + enhanced
    waiting = LINK_CAPACITY * (stages + len(sinks))
    # Each part works on one more; those that draw and enhance on two, the old picture and the new
    # one; the source holds the one it hands over.
    worked_on = 1 + stages + 1 + enhanced + len(sinks)
    ring = int(camera.clip.pre_roll_buffer_mb * 1e6)
    memory = {
        "frames": (waiting + worked_on) * frame,
        "decoder": decoder_pictures(size) * picture + _DECODER_BYTES,
        # A reader of the ring may hold twice as much again: what it took when it began, and what
        # came while it was busy.
        "ring": ring,
        "clip": 2 * ring,
    }
    if camera.record.enabled:
        memory["record"] = 2 * ring
    if camera.detect.background.enabled:
        background = camera.detect.background
        waiting_for_age = math.ceil(background.min_age_s / background.step_s) + 1
        # Those that wait, those in the median, the median, and as much again while it is made.
        memory["background"] = network * (waiting_for_age + 2 * (_BACKGROUND_SLOTS + 1))
    if brighten := enhanced + camera.detect.low_light:
        memory["enhance"] = brighten * _ENHANCE_BYTES * size[0] * size[1]
    if camera.outputs.file:
        memory["file"] = _ENCODER_FRAMES[camera.outputs.file.preset] * picture
    if camera.outputs.publish:
        frames = _ENCODER_FRAMES[camera.outputs.publish.preset]
        memory["publish"] = frames * picture + _PROCESS_BYTES
    return memory


def picture_bytes(size: Size) -> int:
    """Decoded 4:2:0 planes of 8 bits."""
    height, width = size
    return int(height * width * 1.5 * _PADDED)


def decoder_pictures(size: Size) -> int:
    """Pictures that an H.264 decoder must be able to keep, and the one it works on.

    ITU-T H.264, A.3.1: MaxDpbFrames = min(MaxDpbMbs / macroblocks, 16).
    """
    height, width = size
    macroblocks = math.ceil(height / 16) * math.ceil(width / 16)
    most = _DPB_MACROBLOCKS if macroblocks <= 8192 else _DPB_MACROBLOCKS_5_1  # noqa: PLR2004  level 4.1's largest picture
    return min(max(most // macroblocks, 1), _MOST_REFERENCES) + 1
