"""Live images over HTTP: batches for the page, endless MJPEG streams for other programs.

A viewer gets the newest frame when it is ready for one, so a slow viewer delays only itself.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any, Final, TypeVar

from streamer.sinks.mjpeg import MjpegSink

T = TypeVar("T")
InWorker = Callable[[Callable[[], T]], Awaitable[T]]
"""Runs a function that takes long in a thread beside the event loop."""

_BOUNDARY: Final = "frame"
MJPEG_TYPE: Final = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"

_REPEAT_S: Final = 1.0
"""Without a new frame the last image is sent again after this time, so that a NO SIGNAL card
counts its seconds."""

_WAIT_S: Final = 1.0
"""Longest time that a request for a batch waits for a new frame."""


class Changes:
    """Becomes set when one of *cameras* has a new frame or is closed."""

    def __init__(self, cameras: Collection[MjpegSink]) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._ends = [camera.listen(self._notify) for camera in cameras]

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended, and with it the viewer.
            self._loop.call_soon_threadsafe(self._changed.set)

    def forget(self) -> None:
        """Wait only for what changes from now on."""
        self._changed.clear()

    async def wait(self, timeout_s: float) -> None:
        """Return after a change, or after *timeout_s*."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    def close(self) -> None:
        """End the notifications."""
        for end in self._ends:
            end()


@contextlib.contextmanager
def _changes(cameras: Collection[MjpegSink]) -> Iterator[Changes]:
    changes = Changes(cameras)
    try:
        yield changes
    finally:
        changes.close()


async def mjpeg_parts(camera: MjpegSink, in_worker: InWorker[Any]) -> AsyncIterator[bytes]:
    """Yield the parts of a `multipart/x-mixed-replace` body until the camera is closed."""
    with _changes([camera]) as changes:
        while not camera.closed:
            changes.forget()
            image = await in_worker(camera.shown)
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image.jpeg)}"
            yield head.encode() + b"\r\n\r\n" + image.jpeg + b"\r\n"
            await changes.wait(_REPEAT_S)


async def batch(
    cameras: Mapping[str, MjpegSink],
    *,
    instance: str,
    known: Mapping[str, Any],
    in_worker: InWorker[Any],
) -> AsyncIterator[bytes]:
    """Yield the newest frame of each camera of which the viewer has another one.

    The first part is a header of the batch, each further one a header and a JPEG image. A header is
    its length, 4 bytes, big-endian, and a JSON object; `length` in it is that of the image. A frame
    is encoded when the viewer has taken those before it, so it is new on a slow connection, too.

    Args:
        cameras: The cameras, by name.
        instance: Of the running program.
        known: Version of the frame that the viewer has, by camera; those of another instance of
            the program count for nothing.
        in_worker: Encodes.
    """
    if known.get("instance") != instance:
        known = {}
    versions = known.get("versions")
    has = versions if isinstance(versions, dict) else {}

    def new() -> list[str]:
        return [name for name, one in cameras.items() if one.version not in (0, has.get(name))]

    with _changes(cameras.values()) as changes:
        if not new():
            await changes.wait(_WAIT_S)
    yield _header({"instance": instance})
    for name in new():
        camera = cameras[name]
        image = await in_worker(camera.newest)
        if image is not None:
            head = {
                "camera": name,
                "version": image.version,
                "age_s": round(camera.age_s(image.arrived_ns), 3),
                "stale_after_s": camera.stale_after_s,
                "length": len(image.jpeg),
            }
            yield _header(head) + image.jpeg


def _header(values: Mapping[str, Any]) -> bytes:
    text = json.dumps(values).encode()
    return len(text).to_bytes(4, "big") + text
