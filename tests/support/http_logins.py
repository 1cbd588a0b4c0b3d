"""A camera over HTTP that demands logins of any kind: RFC 7616 as the server of the digest."""

import base64
import hashlib
import os
import re
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Self

USER, PASSWORD, REALM = "fire", "wa:tch ä1", "camera"
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


class LoginCamera:
    """Serves *body* to those who answer the present challenges. A context manager."""

    def __init__(self, body: bytes, *, tls: Path | None = None) -> None:
        self.challenges: list[str] = []
        """Values of `WWW-Authenticate`, `{nonce}` filled in; empty demands nothing."""

        self.uses_per_nonce = 1000
        self.redirect_to: str | None = None
        self.logins: list[str | None] = []
        """The `Authorization` of each request."""

        self._nonce, self._uses = "", 0
        camera = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                header = self.headers.get("Authorization")
                camera.logins.append(header)
                if camera.redirect_to:
                    self.send_response(302)
                    self.send_header("Location", camera.redirect_to)
                    self.send_header("Content-Length", "0")
                elif camera.challenges and not camera._is_right(header or "", self.path):
                    camera._nonce, camera._uses = os.urandom(8).hex(), 0
                    self.send_response(401)
                    for challenge in camera.challenges:
                        value = challenge.replace("{nonce}", camera._nonce)
                        self.send_header("WWW-Authenticate", value)
                    self.send_header("Content-Length", "0")
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                self.end_headers()

            def log_message(self, *_) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self.port = self._server.server_address[1]
        if tls is not None:  # A file with a certificate and its key.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}/snap.jpg?channel=1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _is_right(self, header: str, path: str) -> bool:
        allowed = " ".join(self.challenges).lower()
        if header.startswith("Basic ") and "basic" in allowed:
            return header == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if not header.startswith("Digest ") or "digest" not in allowed:
            return False
        quoted = re.findall(r'(\w+)=(?:"([^"]*)"|([^", ]+))', header)
        fields = {name: one or other for name, one, other in quoted}
        self._uses += 1
        if fields.get("nonce") != self._nonce or self._uses > self.uses_per_nonce:
            return False
        algorithm = fields.get("algorithm", "MD5")

        def digest(*parts: str) -> str:
            name = HASHES[algorithm.removesuffix("-SESS")]
            return hashlib.new(name, ":".join(parts).encode()).hexdigest()

        first = digest(USER, REALM, PASSWORD)
        if algorithm.endswith("-SESS"):
            first = digest(first, fields["nonce"], fields["cnonce"])
        second = digest("GET", path)
        if "qop" in fields:
            middle = [fields[name] for name in ("nonce", "nc", "cnonce", "qop")]
        else:
            middle = [fields["nonce"]]
        return fields["uri"] == path and fields["response"] == digest(first, *middle, second)
