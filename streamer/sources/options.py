"""How a video is fetched and decoded, and how much of it is yielded."""

from dataclasses import dataclass, field
from typing import Literal

Transport = Literal["auto", "tcp", "udp"]


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """Options of a `VideoSource`. Its `repr` does not contain the password."""

    transport: Transport = "auto"
    """RTSP transport. `auto` tries TCP, then UDP."""

    user: str | None = None
    """User name, unless the address contains it."""

    password: str | None = field(default=None, repr=False)
    """Password, unless the address contains it; plain, not percent-encoded."""

    timeout_s: float = 10.0
    """A stream that sends nothing for this long is lost. Also bounds the whole of opening."""

    inference_interval_ns: int | None = None
    """Media time from one frame sampled for inference to the next; `None` samples every frame."""

    every_frame: bool = False
    """Yield every frame and mark the sampled ones; `False` yields only the sampled frames."""

    max_lag_ns: int = 1_000_000_000
    """A live stream whose packets wait here for longer than this is continued at a later key
    frame. At most 1 s is useful: above, the timestamps count as wrong."""

    realtime: bool = False
    """Read a file in real time, as FFmpeg's `-re`; `False` reads it as fast as possible."""

    loop: bool = False
    """Start a file again at its end; media time continues."""

    frame_rate: float | None = None
    """Frames per second of a file with wrong timestamps; `None` uses the timestamps of the file."""

    tls_verify: bool = True
    """Whether to verify the certificate of an https or rtsps address."""

    ca_file: str | None = None
    """CA certificates (PEM) to trust instead of those of this machine."""

    allow_link_local: bool = True
    """Whether the address may lead to link-local addresses and to metadata services of clouds."""

    hwaccel: str | None = None
    """Hardware decoder, as in `open_hwaccel`; `None` decodes on the CPU. The CPU also decodes what
    the hardware cannot."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s}")
        if self.inference_interval_ns is not None and self.inference_interval_ns <= 0:
            raise ValueError(
                f"inference_interval_ns must be above 0, got {self.inference_interval_ns}"
            )
        if self.max_lag_ns <= 0:
            raise ValueError(f"max_lag_ns must be above 0, got {self.max_lag_ns}")
        if self.frame_rate is not None and self.frame_rate <= 0:
            raise ValueError(f"frame_rate must be above 0, got {self.frame_rate}")
