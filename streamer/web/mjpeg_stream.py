"""MJPEG over HTTP: the newest frames of one camera as parts of a `multipart/x-mixed-replace` body.

A viewer gets the newest frame when it is ready for one, so a slow viewer delays only itself.
"""

from collections.abc import Callable
from io import BufferedIOBase
from typing import Final

from streamer.sinks.mjpeg import MjpegSink

_BOUNDARY: Final = "frame"
CONTENT_TYPE: Final = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"

_REPEAT_S: Final = 1.0
"""Without a new frame the last image is sent again after this time, so that a NO SIGNAL card
counts its seconds."""


def write_stream(body: BufferedIOBase, camera: MjpegSink, *, ended: Callable[[], bool]) -> None:
    """Write parts until *ended* returns true or the camera is closed.

    Raises:
        OSError: The viewer has gone.
    """
    version = 0
    while not (ended() or camera.closed):
        version, jpeg = camera.jpeg(version, timeout_s=_REPEAT_S)
        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
        body.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")
