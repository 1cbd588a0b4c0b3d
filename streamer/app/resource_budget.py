"""The maximum latency and memory that a configuration allows, computed without opening anything.

Latency follows from the links: a link delivers no frame older than the camera's
`latency_budget_ms`, measured from its arrival, unless the engine is too slow for any result in
time. Memory is the sum of everything that is bounded: links, packet ring, decoder, background,
encoders. Measured figures are constants with their origin.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streamer.config import CameraSettings, Config

Size = tuple[int, int]
"""(height, width), the order of arrays."""

ASSUMED_SIZE: Final[Size] = (1080, 1920)
"""Assumed where the size of the camera's frames is not known."""

NETWORK_SIZE: Final[Size] = (384, 640)
"""Input size of the shipped network."""

LINK_CAPACITY: Final = 2
"""Default capacity of `streamer.core.pipeline.live_links`."""

_STAGES: Final = ("detect", "overlay")

_PADDED: Final = 1.04
"""Decoded planes are larger than their pixels: rows are padded for SIMD, 3 % at 1080p."""

_DPB_MACROBLOCKS: Final = 32_768
"""MaxDpbMbs of H.264 level 4.1, which cameras up to 1080p declare; level 5.1 above that."""

_DPB_MACROBLOCKS_5_1: Final = 184_320
_MAX_REFERENCES: Final = 16
_DECODER_BYTES: Final = 8_000_000
"""Tables and buffers of a decoder and its demuxer, without frames. Measured at 1080p."""

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
"""Frames that x264 holds with each preset: peak memory measured at 1080p, plus 10 %."""

_ENHANCE_BYTES: Final = 54
"""Bytes per pixel of the low-light filter, with its state over time: 39 measured, plus the new
frame, plus 10 %."""

_PROCESS_BYTES: Final = 60_000_000
"""The publisher process before its first frame. Measured."""

_PROGRAM_BYTES: Final = 120_000_000
"""The program with its libraries before it does anything. Measured."""

_BACKGROUND_SLOTS: Final = 3
"""Frames in the median of `streamer.detect.scene`."""

_MODEL_BYTES: Final = 150_000_000
"""A compiled smoke network, shared by all cameras: 135 MB measured with eight callers at once."""


@dataclass(frozen=True, slots=True)
class SinkAge:
    """Maximum age of frames at one sink."""

    sink: str
    delivered_ms: int
    """Age at which a frame is delivered to it."""

    shown_ms: int
    """Age of its last frame when the next one replaces it, while the camera delivers."""


@dataclass(frozen=True, slots=True)
class CameraBudget:
    """Maximum latency and memory of one camera."""

    camera: str
    size: Size
    assumed: bool
    """Whether the size is `ASSUMED_SIZE` rather than the camera's own."""

    ages: tuple[SinkAge, ...]
    memory: Mapping[str, int]
    """Bytes by part."""

    @property
    def bytes(self) -> int:
        """Sum over all parts."""
        return sum(self.memory.values())


@dataclass(frozen=True, slots=True)
class Budget:
    """Maximum latency and memory of all cameras together."""

    cameras: tuple[CameraBudget, ...]
    shared: Mapping[str, int]
    """Bytes by part, once for all cameras."""

    @property
    def bytes(self) -> int:
        """Sum over all parts."""
        return sum(self.shared.values()) + sum(camera.bytes for camera in self.cameras)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the figures assume, in words."""
        assumed = [camera.camera for camera in self.cameras if camera.assumed]
        height, width = ASSUMED_SIZE
        return (
            "age counts from the arrival of a frame; the camera and the network add to it",
            "each camera writes one clip at a time",
            "live sources: a file drops no frame and has no age limit",
            "H.264 or HEVC at level 4.1 up to 1080p, at level 5.1 above",
            *([f"{', '.join(assumed)}: {width}x{height}, not measured"] if assumed else []),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the budget as a JSON object, in bytes and milliseconds."""
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
        "sinks": [asdict(age) for age in camera.ages],
        "bytes": camera.bytes,
        "memory": dict(camera.memory),
    }


def compute(config: "Config", *, sizes: Mapping[str, Size] | None = None) -> Budget:
    """Return the maximum ages and the maximum memory of *config*.

    Args:
        config: The configuration.
        sizes: Frame size (height, width) by camera, where it is known.
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
    # The last frame stays until the next sampled one has come: one interval later, and again as
    # late as the budget allows.
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
    sinks = ["status"]
    if preview and camera.outputs.preview:
        sinks.append("preview")
    if camera.outputs.file:
        sinks.append("file")
    if camera.outputs.publish:
        sinks.append("publish")
    return sinks


def _memory(camera: "CameraSettings", size: Size, sinks: list[str]) -> dict[str, int]:
    image = frame_bytes(size)
    network = NETWORK_SIZE[0] * NETWORK_SIZE[1] * 3
    # The network's input and its mask, at half the size in float32, stay with the frame.
    frame = image + network + network // 3
    enhanced = camera.enhance.enabled and len(sinks) > 1
    stages = len(_STAGES) + enhanced
    waiting = LINK_CAPACITY * (stages + len(sinks))
    # Each part processes one more; overlay and enhance hold two, the old and the new frame; the
    # source holds the one that it delivers.
    worked_on = 1 + stages + 1 + enhanced + len(sinks)
    ring = int(camera.clip.pre_roll_buffer_mb * 1e6)
    memory = {
        "frames": (waiting + worked_on) * frame,
        "decoder": decoder_frames(size) * image + _DECODER_BYTES,
        # A reader of the ring may hold twice as much again: what it took at its start, and what
        # has come while it was busy.
        "ring": ring,
        "clip": 2 * ring,
    }
    if camera.record.enabled:
        memory["record"] = 2 * ring
    if camera.detect.background.enabled:
        background = camera.detect.background
        waiting_for_age = math.ceil(background.min_age_s / background.step_s) + 1
        # Waiting frames, those in the median, the median, and as much again while it is computed.
        memory["background"] = network * (waiting_for_age + 2 * (_BACKGROUND_SLOTS + 1))
    if filters := enhanced + camera.detect.low_light:
        memory["enhance"] = filters * _ENHANCE_BYTES * size[0] * size[1]
    if camera.outputs.file:
        memory["file"] = _ENCODER_FRAMES[camera.outputs.file.preset] * image
    if camera.outputs.publish:
        frames = _ENCODER_FRAMES[camera.outputs.publish.preset]
        memory["publish"] = frames * image + _PROCESS_BYTES
    return memory


def frame_bytes(size: Size) -> int:
    """Return the size of decoded 8-bit 4:2:0 planes."""
    height, width = size
    return int(height * width * 1.5 * _PADDED)


def decoder_frames(size: Size) -> int:
    """Return how many frames an H.264 decoder holds: its references and the one it decodes.

    ITU-T H.264, A.3.1: MaxDpbFrames = min(MaxDpbMbs / macroblocks, 16).
    """
    height, width = size
    macroblocks = math.ceil(height / 16) * math.ceil(width / 16)
    limit = _DPB_MACROBLOCKS if macroblocks <= 8192 else _DPB_MACROBLOCKS_5_1  # noqa: PLR2004  level 4.1's largest frame
    return min(max(limit // macroblocks, 1), _MAX_REFERENCES) + 1
