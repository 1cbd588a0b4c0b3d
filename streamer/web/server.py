"""The web server: sockets, event loop and their end. Routes and limits are beside it.

uvicorn serves in the thread that calls `serve`; a worker thread beside it encodes images and
builds the program status, so that neither delays other requests.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, cast

import uvicorn

from streamer.core.clock import CancelToken
from streamer.core.errors import SinkError
from streamer.core.listening import for_url, listen
from streamer.health.program_status import ProgramStatus
from streamer.sinks.mjpeg import MjpegSink

from .access import Access
from .connections import SEND_BUFFER_BYTES, ConnectionLimits, LimitedProtocol
from .routes import Routes

_WORKERS: Final = 2
"""One encodes. The other builds the status, which reads the store and may hang with its disk."""

_GOODBYE_S: Final = 0.1
"""How long answers may take to end by themselves when the server ends."""


class WebServer:
    """Serves all cameras of the program. It listens as soon as it is made.

    Args:
        host: Name or address to listen on.
        port: Port; 0 takes a free one.
        token: Access token; `None` disables authentication.
        allowed_hosts: Names under which clients reach it, besides its own.
        status: Returns the program status of this moment.
        cameras: Returns the cameras that are shown, by name.
        limits: Limits of connections.

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
        allowed_hosts: Collection[str] = (),
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._host = host
        self._access = Access(token, host=host, allowed_hosts=allowed_hosts)
        self._status = status
        self._cameras = cameras
        self._limits = limits
        self._sockets = self._listen(port)
        self._port: int = self._sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """Address of the page, without the token."""
        return f"http://{for_url(self._host)}:{self._port}/"

    def serve(self, cancel: CancelToken) -> None:
        """Answer requests until *cancel* is set, then end every connection.

        Raises:
            SinkError: Called again, it cannot listen any more.
        """
        sockets = self._sockets or self._listen(self._port)
        self._sockets = []
        try:
            asyncio.run(self._serve(cancel, sockets))
        finally:
            for each in sockets:
                each.close()

    def close(self) -> None:
        """Stop listening, if `serve` was not called. A second call does nothing."""
        for each in self._sockets:
            each.close()
        self._sockets = []

    def _listen(self, port: int) -> list[socket.socket]:
        try:
            return listen(self._host, port, send_buffer_bytes=SEND_BUFFER_BYTES)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            where = f"{for_url(self._host)}:{port}"
            raise SinkError(f"preview: cannot listen on {where}: {reason}") from error

    async def _serve(self, cancel: CancelToken, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="web/worker")
        in_worker = partial(loop.run_in_executor, workers)
        limits = self._limits or ConnectionLimits()
        routes = Routes(
            self._access, status=self._status, cameras=self._cameras, in_worker=in_worker
        )
        server = _Server(
            uvicorn.Config(
                routes.app,
                http=cast("Any", partial(LimitedProtocol, limits=limits)),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # What fails is logged by the routes, without tokens.
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=limits.idle_s,
            )
        )

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended already.
                loop.call_soon_threadsafe(server.end)

        forget = cancel.on_cancel(end)
        try:
            await server.serve(sockets)
        finally:
            forget()
            # A worker that hangs in a disk is not waited for: it would hang the program's end.
            workers.shutdown(wait=False, cancel_futures=True)


class _Server(uvicorn.Server):
    """Ends at once: it tells nobody to wait, and cuts what does not end by itself."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End the server; in its own thread."""
        self.should_exit = True
        self._ended.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield

    async def main_loop(self) -> None:
        """Tick once a second until the end, which is noticed at once."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 10
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every connection."""
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        connections = list(self.server_state.connections)
        for connection in connections:
            connection.shutdown()
        if connections:
            await asyncio.sleep(_GOODBYE_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
