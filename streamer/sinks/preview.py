"""The preview: live pictures of all cameras for a browser, as MJPEG over HTTP.

A viewer gets the newest picture when it is ready for one, so a slow viewer costs only itself. A
picture is encoded once for all viewers, and only while somebody looks. When no fresh picture
came, a card says NO SIGNAL: an old picture is never shown as live.
"""

import contextlib
import hmac
import html
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from streamer.core.clock import CancelToken, Clock
from streamer.core.drawing import no_signal
from streamer.core.errors import SinkError
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.jpeg import PREVIEW_QUALITY, encode_jpeg
from streamer.core.link import LatestValue

from .page import page

_BOUNDARY: Final = "frame"
_MOST_VIEWERS: Final = 32
"""Streams at once; each holds a thread."""

_POLL_S: Final = 0.2
_WRITE_TIMEOUT_S: Final = 10.0
_CARD_EVERY_S: Final = 1.0


@dataclass(slots=True)
class _Shown:
    """The newest encoded picture of a camera; guarded by its lock."""

    version: int = 0
    jpeg: bytes = b""


class PreviewSink:
    """One camera of the preview: a sink for its pipeline, a source of JPEGs for the viewers.

    Args:
        camera: Its name.
        clock: Tells ages.
        stale_after_s: A picture older than this is not shown.
        why: Says why there is no picture, for the card; empty when unknown.
    """

    def __init__(
        self, camera: str, *, clock: Clock, stale_after_s: float, why: Callable[[], str]
    ) -> None:
        self.camera = camera
        self._clock = clock
        self._stale_ns = round(stale_after_s * 1e9)
        self._why = why
        self._slot: LatestValue[Frame] = LatestValue()
        self._began_ns = clock.monotonic_ns()
        self._lock = threading.Lock()
        self._shown = _Shown()  # Guarded by _lock.

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Keep the newest frame. The slot outlives the camera's restarts."""
        for frame in frames:
            self._slot.set(frame)

    def jpeg(self, newer_than: int, *, timeout_s: float) -> tuple[int, bytes]:
        """The newest picture, waited for if need be, or a card that says that there is none.

        Args:
            newer_than: Version that the viewer has; 0 for none.
            timeout_s: How long to wait for a newer one.

        Returns:
            The version to wait for more than, and the JPEG.
        """
        found = self._slot.wait(newer_than, timeout_s)
        if found is None:
            found = self._slot.wait(0, 0)  # Nothing new: is what the viewer has still fresh?
        if found is None:
            return newer_than, _jpeg(self._card(None))
        version, frame = found
        if self._is_stale(frame):
            return version, _jpeg(self._card(frame))
        with self._lock:
            if self._shown.version != version:
                self._shown = _Shown(version, _jpeg(frame.image))
            return version, self._shown.jpeg

    def close(self) -> None:
        """Wake all viewers for the last time."""
        self._slot.close()

    def _is_stale(self, frame: Frame) -> bool:
        return self._clock.monotonic_ns() - frame.arrived_ns > self._stale_ns

    def _card(self, last: Frame | None) -> Image:
        since_ns = self._began_ns if last is None else last.arrived_ns
        gone_s = (self._clock.monotonic_ns() - since_ns) / 1e9
        utc = self._clock.utc_at(since_ns).astimezone(UTC)
        return no_signal(
            None if last is None else last.image.size,
            camera=self.camera,
            since=f"{utc:%Y-%m-%d %H:%M:%S} UTC, {gone_s:.0f} s",
            reason=self._why(),
        )


class PreviewServer:
    """Serves all cameras. Bound when made, so that a port in use is told at once.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        token: What a viewer has to know; `None` asks nobody.
        status: What `/status` says.

    Raises:
        SinkError: The address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str | None,
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.cameras: dict[str, PreviewSink] = {}
        self._token = token
        self.status = status
        self.viewers = threading.BoundedSemaphore(_MOST_VIEWERS)
        try:
            self._server = _Server((host, port), self)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SinkError(f"preview: cannot listen on {host}:{port}: {reason}") from error
        self._server.timeout = _POLL_S

    @property
    def url(self) -> str:
        """Where to look; without the token."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def sink(
        self, camera: str, *, clock: Clock, stale_after_s: float, why: Callable[[], str]
    ) -> PreviewSink:
        """The sink of a camera; the same one when asked again after a restart."""
        if camera not in self.cameras:
            self.cameras[camera] = PreviewSink(
                camera, clock=clock, stale_after_s=stale_after_s, why=why
            )
        return self.cameras[camera]

    def serve(self, cancel: CancelToken) -> None:
        """Answer until *cancel*; then end every viewer."""
        while not cancel.is_set():
            self._server.handle_request()
        self.close()

    def close(self) -> None:
        """Stop listening and end every viewer. A second call does nothing."""
        for camera in self.cameras.values():
            camera.close()
        self._server.end()

    def allows(self, query: Mapping[str, list[str]], authorization: str) -> bool:
        """Whether a request knows the token: `?token=` or `Authorization: Bearer`."""
        if self._token is None:
            return True
        told = query.get("token", [""])[0] or authorization.removeprefix("Bearer ")
        return hmac.compare_digest(told.encode(), self._token.encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, address: tuple[str, int], preview: PreviewServer) -> None:
        super().__init__(address, _Handler)
        self.preview = preview
        self.ending = CancelToken()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()  # Guarded by _lock.

    def end(self) -> None:
        """Stop listening and cut every connection, also one that has not asked for anything yet."""
        self.ending.set()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # The viewer was faster.
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        with self._lock:
            self._connections.add(request)
            if self.ending.is_set():
                request.shutdown(socket.SHUT_RDWR)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.discard(request)


class _Handler(BaseHTTPRequestHandler):
    timeout = _WRITE_TIMEOUT_S  # Of the socket: a viewer that takes nothing is let go.
    server: _Server

    def do_GET(self) -> None:  # the name that the library calls
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Requests are not logged: a token may be in them."""

    def _answer(self) -> None:
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"no such address\n")
            return
        if not self.server.preview.allows(
            parse_qs(url.query), self.headers.get("Authorization", "")
        ):
            self._send(HTTPStatus.UNAUTHORIZED, "text/plain", b"token missing or wrong\n")
            return
        if url.path == "/":
            token = parse_qs(url.query).get("token")
            query = f"?{urlencode({'token': token[0]})}" if token else ""
            names = [
                (html.escape(name), quote(name, safe="")) for name in self.server.preview.cameras
            ]
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", page(names, query).encode())
        elif url.path == "/status":
            body = json.dumps(self.server.preview.status()).encode()
            self._send(HTTPStatus.OK, "application/json", body)
        else:
            self._camera(url.path)

    def _camera(self, path: str) -> None:
        name, _, kind = path.removeprefix("/cameras/").rpartition(".")
        camera = self.server.preview.cameras.get(unquote(name))
        if camera is None or kind not in ("jpg", "mjpeg"):
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such camera\n")
        elif kind == "jpg":
            _, jpeg = camera.jpeg(0, timeout_s=0)
            self._send(HTTPStatus.OK, "image/jpeg", jpeg)
        elif self.server.preview.viewers.acquire(blocking=False):
            try:
                self._stream(camera)
            finally:
                self.server.preview.viewers.release()
        else:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"too many viewers\n")

    def _stream(self, camera: PreviewSink) -> None:
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        version = 0
        while not self.server.ending.is_set():
            version, jpeg = camera.jpeg(version, timeout_s=_CARD_EVERY_S)
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
            self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)


def _jpeg(image: Image) -> bytes:
    return encode_jpeg(image.rgb(), quality=PREVIEW_QUALITY)
