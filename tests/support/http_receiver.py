"""A real HTTP receiver that fails in all the ways of real ones, and can die and come back."""

import enum
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

STALL_LIMIT_S = 60


class Answer(enum.Enum):
    """What comes back for a request."""

    OK = "200"
    FAIL = "500"
    STALL = "nothing, for as long as the receiver lives"
    CUT = "the connection is closed before the answer"
    CUT_IN_HEADER = "the connection is closed within the answer's headers"
    CUT_IN_BODY = "a success, closed within its body"
    DRIP = "a header without end, one byte at a time"


@dataclass(frozen=True)
class Request:
    """What arrived."""

    key: str
    headers: dict[str, str]
    body: bytes


Reply = Answer | tuple[int, dict[str, str]]


class HttpReceiver:
    """Listens on 127.0.0.1. A context manager.

    Args:
        answers: One for each request; after the last one, all are OK.
    """

    def __init__(self, answers: Iterable[Reply] = ()) -> None:
        self._answers = itertools.chain(answers, itertools.repeat(Answer.OK))
        self._changed = threading.Condition()
        self.requests: list[Request] = []
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alarm?token=t0psecret"

    def counts(self) -> Counter[str]:
        """How often each key arrived."""
        with self._changed:
            return Counter(request.key for request in self.requests)

    def wait_for(self, condition: Callable[[], bool], *, timeout_s: float = 20) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), f"{len(self.requests)} requests"

    def note(self, request: Request) -> Reply:
        """Keep a request; returns what to answer."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            return next(self._answers)

    def revive(self) -> None:
        """Listen, again on the same port."""
        self._server = _Server(self, self.port)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="receiver"
        )
        self._thread.start()

    def die(self) -> None:
        """Close the port and every connection."""
        if self._server is None or self._thread is None:
            return
        self._server.dying.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.revive()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, receiver: HttpReceiver, port: int) -> None:
        self.receiver = receiver
        self.dying = threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed closes its connection: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_POST(self) -> None:  # noqa: C901  one branch an answer
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return  # The sender was killed within it.
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(headers.get("idempotency-key", ""), headers, body)
        match self.server.receiver.note(request):
            case Answer.OK:
                self._answer(200)
            case Answer.FAIL:
                self._answer(500)
            case Answer.STALL:
                self.server.dying.wait(STALL_LIMIT_S)
            case Answer.CUT:
                pass
            case Answer.CUT_IN_HEADER:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            case Answer.CUT_IN_BODY:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthank")
            case Answer.DRIP:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while not self.server.dying.wait(0.05):
                    self.wfile.write(b"x")
            case code, more:
                self._answer(code, more)

    def _answer(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""
