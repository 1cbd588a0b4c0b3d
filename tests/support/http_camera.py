"""A camera that speaks HTTP: snapshots, streams and files, with logins and bad manners."""

import base64
import hashlib
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

USER, PASSWORD = "fire", "wa:tch@1/%"


class HttpCamera:
    """Serves what it was given by path. A context manager.

    A value is a body, a file or folder to read from, or a function that writes to the client:
    it gets the connection's file and an event that is set when the server ends.
    """

    def __init__(self) -> None:
        self.bodies: dict[str, bytes | Path | Callable] = {}
        self.types: dict[str, str] = {}
        self.login: str | None = None
        """`basic` or `digest`: the required scheme."""

        self.requests: list[str] = []
        self._ending = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.requests.append(self.path)
                camera._answer(self)

            def log_message(self, *_) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if self.login and not _allowed(request.headers.get("Authorization", ""), path):
            digest = 'Digest realm="camera", nonce="5f2a", qop="auth", algorithm=MD5'
            request.send_response(401)
            request.send_header(
                "WWW-Authenticate", digest if self.login == "digest" else 'Basic realm="camera"'
            )
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self._body(path)
        if body is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Type", self.types.get(path, "application/octet-stream"))
        if isinstance(body, bytes):
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        try:
            if isinstance(body, bytes):
                request.wfile.write(body)
            else:
                body(request.wfile, self._ending)
        except OSError:
            pass  # The client has left.

    def _body(self, path: str) -> bytes | Callable | None:
        for prefix, body in self.bodies.items():
            if not isinstance(body, Path):
                if path == prefix:
                    return body
                continue
            file = body / path.removeprefix(prefix).lstrip("/") if path != prefix else body
            if path.startswith(prefix) and file.is_file():
                return file.read_bytes()
        return None


def _allowed(header: str, path: str) -> bool:
    if header == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
        return True
    if not header.startswith("Digest "):
        return False
    fields = dict(re.findall(r'(\w+)="?([^",]*)"?', header.replace(PASSWORD, "")))
    first = _md5(f"{USER}:camera:{PASSWORD}")
    second = _md5(f"GET:{fields['uri']}")
    middle = f"{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}"
    return fields["username"] == USER and fields["response"] == _md5(f"{first}:{middle}:{second}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def multipart(images: list[bytes], *, endless: bool = False) -> Callable:
    """Motion JPEG as cameras serve it: one part per image, boundary `frame`.

    With *endless*, the connection stays open and silent after the last one.
    """

    def write(out, ending: threading.Event) -> None:
        for image in images:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            out.write(head.encode() + image + b"\r\n")
            out.flush()
        if endless:
            ending.wait(30)

    return write


def pieces(data: bytes, *, silent_after: int | None = None) -> Callable:
    """A stream of unknown length; silent from some byte on, if given."""

    def write(out, ending: threading.Event) -> None:
        out.write(data[:silent_after])
        out.flush()
        if silent_after is not None:
            ending.wait(30)

    return write
