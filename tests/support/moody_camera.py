"""A Motion JPEG camera over HTTP whose mood the test changes while it is watched."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import numpy as np

from streamer.core.jpeg import encode_jpeg

FPS = 10
LEVELS = {"live": 120, "smoke": 230}


def _jpeg(level: int) -> bytes:
    rng = np.random.default_rng(level)
    noise = rng.integers(-8, 8, (90, 160, 3))
    return encode_jpeg((noise + level).clip(0, 255).astype(np.uint8), quality=90)


_IMAGES = {mood: _jpeg(level) for mood, level in LEVELS.items()}
_GARBAGE = bytes(range(256)) * 20


class MoodyCamera:
    """Serves every path. A context manager; `stop` closes the port, `start` opens it again.

    The mood of a path is `live`, `smoke` (bright frames), `silent` (the connection stays open),
    `garbage` (parts that are no images), `html` (a page instead of a video), `locked` (wants a
    login), or `missing`.
    """

    def __init__(self) -> None:
        self.moods: dict[str, str] = {}
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    def mood(self, path: str) -> str:
        return self.moods.get(path, "live")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        camera, self._ending = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._answer(self)

            def log_message(self, *_) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = False
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        self._ending.set()
        server.shutdown()
        server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        mood = self.mood(request.path)
        if mood in ("locked", "missing"):
            request.send_response(401 if mood == "locked" else 404)
            if mood == "locked":
                request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(200)
        kind = "text/html" if mood == "html" else "multipart/x-mixed-replace; boundary=frame"
        request.send_header("Content-Type", kind)
        request.end_headers()
        try:
            if mood == "html":
                request.wfile.write(b"<html><body>please update your browser</body></html>" * 50)
            else:
                self._film(request)
        except OSError:
            pass  # The client has left.

    def _film(self, request: BaseHTTPRequestHandler) -> None:
        while not self._ending.is_set():
            mood = self.mood(request.path)
            if mood not in ("live", "smoke", "silent", "garbage"):
                return
            if mood != "silent":
                image = _IMAGES.get(mood, _GARBAGE)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n"
                request.wfile.write(f"{head}\r\n".encode() + image + b"\r\n")
                request.wfile.flush()
            time.sleep(1 / FPS)  # The pace of the camera.
