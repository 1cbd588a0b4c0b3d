"""Hardware decoding through FFmpeg's hwaccel API: opening a device, and checking that it decodes.

The caller decides what an unavailable device means: a conversion ends, a camera is decoded on the
CPU and logs a warning. Frames are copied to memory as NV12 (P010 at 10 bits), the hardware's own
format.
"""

from collections.abc import Mapping
from typing import Any, Final

import av
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.format import VideoFormat

from .errors import DecoderUnavailable

_DEVICE_OPTIONS: Final[Mapping[str, tuple[dict[str, object], ...]]] = {
    # Share the primary context, in which engines compute: a separate context costs some hundred MB
    # of GPU memory per camera. FFmpeg refuses the primary context if it was created without
    # blocking synchronisation (libavutil/hwcontext_cuda.c); then each decoder needs its own.
    "cuda": ({"primary_ctx": "1"}, {}),
}
"""Options with which to open a device, best first."""


def open_hwaccel(device: str) -> HWAccel:
    """Return the hwaccel with which to open a container, so that *device* decodes its video.

    The device is opened once as a test. Streams that it does not support are still decoded on the
    CPU; `is_hardware_decoded` tells which of the two it was.

    Args:
        device: FFmpeg's name, such as "cuda"; "cuda:1" is the second device.

    Raises:
        DecoderUnavailable: FFmpeg does not know the device, or it cannot be opened here.
    """
    name, _, number = device.partition(":")
    if name not in hwdevices_available():
        known = ", ".join(hwdevices_available()) or "none"
        raise DecoderUnavailable(f"FFmpeg knows no hardware decoder {name!r}; known are {known}")
    reason = "it does not decode H.264"
    for options in _DEVICE_OPTIONS.get(name, ({},)):
        try:
            hwaccel = HWAccel(name, device=number or None, options=dict(options))
            if av.codec.CodecContext.create("h264", "r", hwaccel=hwaccel).is_hwaccel:
                return HWAccel(name, device=number or None, options=dict(options))
        except (ValueError, av.error.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    raise DecoderUnavailable(
        f"the hardware decoder {device} cannot be opened here; is its driver installed? "
        f"FFmpeg reports: {reason}"
    )


def is_hardware_decoded(context: Any) -> bool:
    """Whether *context*, a stream's decoder, decodes on hardware; reliable after the first frame.

    FFmpeg silently decodes on the CPU if the device does not support the codec or profile.
    """
    if not context.is_hwaccel:
        return False
    # A pixel format of frames on a device has no components.
    return context.pix_fmt is not None and not VideoFormat(context.pix_fmt, 16, 16).components
