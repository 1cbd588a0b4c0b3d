"""Decoders on hardware by FFmpeg's hwaccel: what opens one, and whether it was what decoded.

Who asks decides what a refusal means: a conversion ends, a camera is decoded by the processor and
says so. Pictures come down to memory as NV12 (P010 at 10 bits), the form the hardware writes.
"""

from collections.abc import Mapping
from typing import Any, Final

import av
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.format import VideoFormat

from engines.errors import DeviceUnavailable

_DEVICE_OPTIONS: Final[Mapping[str, tuple[dict[str, object], ...]]] = {
    # All decoders in the context that engines compute in: one of its own costs each camera some
    # hundred MB of the card's memory. FFmpeg refuses the shared one if somebody made it without
    # blocking synchronisation (libavutil/hwcontext_cuda.c); then each has to have its own.
    "cuda": ({"primary_ctx": "1"}, {}),
}
"""Options to open a device with, best first."""


def open_hwaccel(device: str) -> HWAccel:
    """What a container is opened with so that *device* decodes its pictures.

    The device has been opened once to try it. A stream that it cannot decode is decoded by the
    processor all the same: ask `is_hardware_decoded` of its decoder.

    Args:
        device: FFmpeg's name of it, such as "cuda"; "cuda:1" is the second one.

    Raises:
        DeviceUnavailable: FFmpeg knows no such device, or there is none here.
    """
    name, _, number = device.partition(":")
    if name not in hwdevices_available():
        known = ", ".join(hwdevices_available()) or "none"
        raise DeviceUnavailable(f"FFmpeg knows no hardware decoder {name!r}; known are {known}")
    why = "it has none for H.264"
    for options in _DEVICE_OPTIONS.get(name, ({},)):
        try:
            wanted = HWAccel(name, device=number or None, options=dict(options))
            if av.codec.CodecContext.create("h264", "r", hwaccel=wanted).is_hwaccel:
                return HWAccel(name, device=number or None, options=dict(options))
        except (ValueError, av.error.FFmpegError) as error:
            why = getattr(error, "strerror", None) or str(error)
    raise DeviceUnavailable(
        f"the hardware decoder {device} cannot be opened here; is its driver installed? "
        f"FFmpeg says: {why}"
    )


def is_hardware_decoded(context: Any) -> bool:
    """Whether *context*, the decoder of a stream, decodes on hardware; certain after a picture.

    Of a codec or profile that its device does not know FFmpeg decodes on the processor unasked.
    """
    if not context.is_hwaccel:
        return False
    # The format of pictures on a device says nothing about what they are made of.
    return context.pix_fmt is not None and not VideoFormat(context.pix_fmt, 16, 16).components
