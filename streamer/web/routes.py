"""The routes: the page, live images, `/status` and `/metrics`. They change nothing."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.health import prometheus
from streamer.health.program_status import ProgramStatus
from streamer.sinks.mjpeg import MjpegSink

from .access import Access
from .live import MJPEG_TYPE, batch, mjpeg_parts

_log = structlog.get_logger(__name__)

_MAX_STREAMS: Final = 32
"""MJPEG streams at once. The page needs none."""

_STATUS_AGE_S: Final = 0.25
"""Requests within this time get the same snapshot."""

_STATUS_LIMIT_S: Final = 5.0
"""A snapshot that takes longer is given up: something that it reads, as a disk, hangs."""

_PAGE: Final = Path(__file__).parent / "page"
_ASSETS: Final = {"page.js": "text/javascript", "page.css": "text/css"}
"""Files of the page. They hold no secret and are served without a token."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # A token may be in the address of the page.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
}


class Routes:
    """The application: `app` is for the server.

    Args:
        access: Decides who may ask.
        status: Builds the program status of this moment.
        cameras: Returns the cameras that have live images, by name.
        in_worker: Runs a function in a thread beside the event loop.
    """

    def __init__(
        self,
        access: Access,
        *,
        status: Callable[[], ProgramStatus],
        cameras: Callable[[], Mapping[str, MjpegSink]],
        in_worker: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._cameras = cameras
        self._snapshots = _Snapshots(status, in_worker)
        self._in_worker = in_worker
        self._instance: str | None = None
        self._streams = 0
        self._encoder = asyncio.Semaphore(1)  # Viewers share one core at most.
        routes = [
            Route("/", self._file("page.html", "text/html")),
            *(Route(f"/{name}", self._file(name, kind)) for name, kind in _ASSETS.items()),
            Route("/status", self._status),
            Route("/metrics", self._metrics),
            Route("/frames", self._frames),
            Route("/cameras/{name:path}.jpg", self._still),
            Route("/cameras/{name:path}.mjpeg", self._stream),
        ]
        errors: dict[Any, Any] = {HTTPException: _in_one_line, Exception: _failed}
        self.app: ASGIApp = _Gate(Starlette(routes=routes, exception_handlers=errors), access)

    @staticmethod
    def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
        text = (_PAGE / name).read_text(encoding="utf-8")

        async def answer(_: Request) -> Response:
            return Response(text, media_type=kind)

        return answer

    async def _status(self, _: Request) -> Response:
        return JSONResponse((await self._snapshots.newest()).as_json())

    async def _metrics(self, _: Request) -> Response:
        body = prometheus.render(await self._snapshots.newest())
        return Response(body, headers={"Content-Type": prometheus.CONTENT_TYPE})

    async def _frames(self, request: Request) -> Response:
        """Answer with one batch of new frames; the page asks again when it has it."""
        try:
            known = json.loads(request.query_params.get("known", "{}"))
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "known is not a JSON object")
        if self._instance is None:  # Known from then on: images do not wait for the status.
            self._instance = (await self._snapshots.newest()).instance
        if request.method == "HEAD":
            return Response(media_type="application/octet-stream")
        parts = batch(self._cameras(), instance=self._instance, known=known, in_worker=self._encode)
        return StreamingResponse(parts, media_type="application/octet-stream")

    async def _still(self, request: Request) -> Response:
        image = await self._encode(self._camera(request).shown)
        return Response(image.jpeg, media_type="image/jpeg")

    async def _stream(self, request: Request) -> Response:
        camera = self._camera(request)
        if request.method == "HEAD":
            return Response(headers={"Content-Type": MJPEG_TYPE})
        if self._streams >= _MAX_STREAMS:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers")
        return _Counted(self, camera)

    def _camera(self, request: Request) -> MjpegSink:
        camera = self._cameras().get(request.path_params["name"])
        if camera is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no such camera")
        return camera

    async def _encode(self, image: Callable[[], Any]) -> Any:
        async with self._encoder:
            return await self._in_worker(image)

    def enter(self, camera: MjpegSink) -> Response:
        """Return a stream that occupies a place until `leave`."""
        self._streams += 1
        return StreamingResponse(
            mjpeg_parts(camera, self._encode),
            headers={"Content-Type": MJPEG_TYPE, "Connection": "close"},
        )

    def leave(self) -> None:
        """Free the place of a stream."""
        self._streams -= 1


class _Counted(Response):
    """A stream that frees its place when it ends, however it ends."""

    def __init__(self, routes: Routes, camera: MjpegSink) -> None:
        self._routes, self._stream = routes, routes.enter(camera)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._stream(scope, receive, send)
        finally:
            self._routes.leave()


class _Snapshots:
    """The newest program status, built once for all who ask at the same time."""

    def __init__(
        self,
        build: Callable[[], ProgramStatus],
        in_worker: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._build, self._in_worker = build, in_worker
        self._task: asyncio.Future[ProgramStatus] | None = None
        self._begun = 0.0

    async def newest(self) -> ProgramStatus:
        now = time.monotonic()
        task = self._task
        if task is None or (task.done() and now - self._begun > _STATUS_AGE_S):
            self._begun = now
            task = self._task = asyncio.ensure_future(self._in_worker(self._build))
        try:
            return await asyncio.wait_for(asyncio.shield(task), _STATUS_LIMIT_S)
        except TimeoutError:
            since_s = time.monotonic() - self._begun
            text = f"the status cannot be read: no answer for {since_s:.0f} s"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, text) from None


class _Gate:
    """Refuses requests before they reach a route, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "the server speaks nothing else"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        app = self._refusal(scope) or self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if headers.get("transfer-encoding") or headers.get("content-length", "0") != "0":
            return _line(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request has no body here")
        public = scope["path"].removeprefix("/") in _ASSETS
        refusal = self._access.refusal(scope["query_string"], headers, public=public)
        return None if refusal is None else _line(refusal.status, refusal.reason)


def _line(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    closing = {} if status < HTTPStatus.BAD_REQUEST else {"Connection": "close"}
    return PlainTextResponse(f"{text}\n", status, {**(headers or {}), **closing})


async def _in_one_line(_: Request, error: HTTPException) -> Response:
    is_default = error.detail == HTTPStatus(error.status_code).phrase
    text = error.detail.lower() if is_default else error.detail
    return _line(error.status_code, text, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    # The query is left out: a token may be in it.
    _log.error("a request failed", path=request.url.path, exc_info=error)
    return _line(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: see the log of the program")
