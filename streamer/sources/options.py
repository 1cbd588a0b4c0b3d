"""How a video is to be fetched, and how much of it is wanted."""

from dataclasses import dataclass, field
from typing import Literal

Transport = Literal["auto", "tcp", "udp"]


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """Settings of a `VideoSource`. Its `repr` names no password."""

    transport: Transport = "auto"
    """How RTSP carries video. `auto` tries TCP, then UDP."""

    user: str | None = None
    """Name to log in with, if it is not in the address."""

    password: str | None = field(default=None, repr=False)
    """Password, if it is not in the address; plain, not percent-encoded."""

    timeout_s: float = 10.0
    """A stream that is silent for this long is lost. Bounds opening and shutdown too."""

    inference_interval_ns: int | None = None
    """Media time from one frame sampled for inference to the next; `None` samples every frame."""

    every_frame: bool = False
    """Yield every frame and mark the sampled ones; `False` yields only the sampled frames."""

    realtime: bool = False
    """Play a file at its own speed rather than as fast as it can be read."""

    loop: bool = False
    """Begin a file again at its end; media time goes on."""

    frame_rate: float | None = None
    """Pictures per second of a file whose time stamps are nonsense; None believes the file."""

    tls_verify: bool = True
    """Whether the certificate of an https or rtsps address must be valid."""

    ca_file: str | None = None
    """Certificates to trust instead of this machine's, e.g. the camera's own."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s}")
        if self.inference_interval_ns is not None and self.inference_interval_ns <= 0:
            raise ValueError(
                f"inference_interval_ns must be above 0, got {self.inference_interval_ns}"
            )
        if self.frame_rate is not None and self.frame_rate <= 0:
            raise ValueError(f"frame_rate must be above 0, got {self.frame_rate}")

    hwaccel: str | None = None
    """What decodes, as in `hwaccel.hwaccel`; None for the processor, which also stands in where the
    hardware cannot."""
