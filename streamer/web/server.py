"""The web server: the page, live streams and stills, `/status` and `/metrics`.

It shows what `ProgramStatus` and the MJPEG sinks hold, and changes nothing. Routes, sign-in and
limits are described in README.md of this folder.
"""

import contextlib
import html
import json
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from streamer.core.clock import CancelToken
from streamer.core.errors import SinkError
from streamer.health import prometheus
from streamer.health.program_status import ProgramStatus
from streamer.sinks.mjpeg import MjpegSink

from . import mjpeg_stream
from .page import page
from .sign_in import AccessToken

_MAX_STREAMS: Final = 32
"""Streams at once; each occupies a thread."""

_POLL_S: Final = 0.2
_WRITE_TIMEOUT_S: Final = 10.0


class WebServer:
    """Serves all cameras of the program. It listens as soon as it is made.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        token: Access token; `None` disables authentication.
        status: Returns the program status of this moment.
        cameras: Returns the cameras that are shown, by name.

    Raises:
        SinkError: The address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str | None,
        status: Callable[[], ProgramStatus],
        cameras: Callable[[], Mapping[str, MjpegSink]],
    ) -> None:
        self.access = AccessToken(token)
        self.status = status
        self.cameras = cameras
        self.streams = threading.BoundedSemaphore(_MAX_STREAMS)
        try:
            self._server = _Server((host, port), self)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SinkError(f"preview: cannot listen on {host}:{port}: {reason}") from error
        self._server.timeout = _POLL_S

    @property
    def url(self) -> str:
        """Address of the page, without the token."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def serve(self, cancel: CancelToken) -> None:
        """Answer requests until *cancel* is set, then end every connection."""
        while not cancel.is_set():
            self._server.handle_request()
        self.close()

    def close(self) -> None:
        """Stop listening and end every connection. A second call does nothing."""
        for camera in self.cameras().values():
            camera.close()
        self._server.end()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, address: tuple[str, int], web: WebServer) -> None:
        super().__init__(address, _Handler)
        self.web = web
        self.ending = CancelToken()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()  # Guarded by _lock.

    def end(self) -> None:
        """Stop listening and cut every connection, including those that have sent no request."""
        self.ending.set()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # The client closed it first.
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
    timeout = _WRITE_TIMEOUT_S  # Of the socket: a client that reads nothing is disconnected.
    server: _Server

    def do_GET(self) -> None:  # http.server calls it by this name
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Requests are not logged, because a token may be in them."""

    def _answer(self) -> None:
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._text(HTTPStatus.BAD_REQUEST, "invalid address")
            return
        query = parse_qs(url.query)
        web = self.server.web
        if not web.access.allows(query, self.headers.get("Authorization", "")):
            self._text(HTTPStatus.UNAUTHORIZED, "token missing or wrong")
        elif url.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self._page(query))
        elif url.path == "/status":
            body = json.dumps(web.status().as_json()).encode()
            self._send(HTTPStatus.OK, "application/json", body)
        elif url.path == "/metrics":
            self._send(HTTPStatus.OK, prometheus.CONTENT_TYPE, prometheus.render(web.status()))
        else:
            self._camera(url.path)

    def _page(self, query: Mapping[str, list[str]]) -> bytes:
        token = query.get("token")
        suffix = f"?{urlencode({'token': token[0]})}" if token else ""
        names = [(html.escape(name), quote(name, safe="")) for name in self.server.web.cameras()]
        return page(names, suffix).encode()

    def _camera(self, path: str) -> None:
        web = self.server.web
        name, _, kind = path.removeprefix("/cameras/").rpartition(".")
        camera = web.cameras().get(unquote(name))
        if camera is None or kind not in ("jpg", "mjpeg"):
            self._text(HTTPStatus.NOT_FOUND, "no such camera")
        elif kind == "jpg":
            _, jpeg = camera.jpeg(0, timeout_s=0)
            self._send(HTTPStatus.OK, "image/jpeg", jpeg)
        elif web.streams.acquire(blocking=False):
            try:
                self._stream(camera)
            finally:
                web.streams.release()
        else:
            self._text(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers")

    def _stream(self, camera: MjpegSink) -> None:
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", mjpeg_stream.CONTENT_TYPE)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        mjpeg_stream.write_stream(self.wfile, camera, ended=self.server.ending.is_set)

    def _text(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "text/plain", f"{text}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)
