"""GET requests to cameras that end in time, end when they are cancelled, and go nowhere else.

The requests run in an event loop of their own, because only there a time limit covers a whole
request, from the resolution of the name to the last byte, and because a request that waits can be
cancelled from another thread. Names are resolved here and the connection is made to the address
that was checked, so that a second resolution cannot lead elsewhere.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import httpx

from streamer.core.clock import CancelToken
from streamer.core.destinations import check_address, system_addresses
from streamer.core.errors import Cancelled
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

from .http_login import CameraLogin

_LARGEST_BYTES: Final = 64 << 20
"""More than any camera's JPEG. A wrong address must not fill the memory."""

_MOST_REDIRECTS: Final = 5
_RESOLVER: Final = UninterruptibleCalls("camera-names", limit=16)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A response."""

    url: str
    """Where it came from, after redirects; may hold secrets."""

    status: int
    content_type: str
    """Without parameters, in lower case; empty if the server sent none."""

    body: bytes
    """As far as it was read."""


class TooLarge(Exception):  # noqa: N818  states a fact
    """The response is larger than any image."""


class HttpFetcher:
    """Requests one URL again and again over one connection. A context manager, for one thread.

    Args:
        url: http or https, without user and password.
        login: Answers challenges of this host only; `None` sends no credentials.
        timeout_s: Maximum seconds of a whole request.
        tls: Which certificates are trusted.
        allow_link_local: Whether link-local and metadata addresses may be reached.
        cancel: Ends requests that wait.
    """

    def __init__(
        self,
        url: str,
        *,
        login: CameraLogin | None,
        timeout_s: float,
        tls: ssl.SSLContext,
        allow_link_local: bool,
        cancel: CancelToken,
    ) -> None:
        self._url = url
        self._login = login
        self._timeout_s = timeout_s
        self._tls = tls
        self._allow_link_local = allow_link_local
        self._cancel = cancel
        self._runner = asyncio.Runner()
        self._client: httpx.AsyncClient | None = None
        self._task: asyncio.Task[Fetched] | None = None
        self._forget_cancel: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._client = httpx.AsyncClient(verify=self._tls, timeout=self._timeout_s, trust_env=False)
        self._forget_cancel = self._cancel.on_cancel(self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._client is not None
        self._forget_cancel()
        try:
            self._runner.run(self._client.aclose())
        finally:
            self._runner.close()

    def fetch(self, *, is_enough: Callable[[httpx.Response, bytes], bool]) -> Fetched:
        """Request the URL once and follow redirects.

        Args:
            is_enough: Called with the response and the body so far; true ends the reading.

        Raises:
            Cancelled: The stop was requested.
            TimeoutError: The response was not complete in time.
            httpx.HTTPError: The request failed.
            ForbiddenDestination: It leads to an address that is not permitted.
            UnsupportedLogin: No challenge of the camera can be answered.
            TooLarge: The response is no image.
            OSError: The name cannot be resolved.
        """
        try:
            return self._runner.run(self._fetch_in_time(is_enough))
        except asyncio.CancelledError:
            raise Cancelled from None
        except TooManyCalls as error:
            raise OSError(str(error)) from error

    def _interrupt(self) -> None:
        """Cancel the request that waits, from another thread."""
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            self._runner.get_loop().call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _fetch_in_time(self, is_enough: Callable[[httpx.Response, bytes], bool]) -> Fetched:
        self._task = asyncio.current_task()
        try:
            if self._cancel.is_set():
                raise asyncio.CancelledError
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(is_enough)
        finally:
            self._task = None

    async def _follow(self, is_enough: Callable[[httpx.Response, bytes], bool]) -> Fetched:
        first = url = httpx.URL(self._url)
        for _ in range(_MOST_REDIRECTS + 1):
            # Credentials are for the host of the configuration, whoever it points to.
            login = self._login if same_host(first, url) else None
            response = await self._send(url, login)
            async with contextlib.aclosing(response):
                if response.has_redirect_location:
                    url = url.join(response.headers["location"]).copy_with(userinfo=b"")
                    continue
                return await _read(response, str(url), is_enough)
        raise httpx.TooManyRedirects("too many redirects")

    async def _send(self, url: httpx.URL, login: CameraLogin | None) -> httpx.Response:
        assert self._client is not None
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol("redirected to another protocol")
        addresses = await self._addresses(url)
        for number, address in enumerate(addresses):
            request = self._client.build_request(
                "GET",
                url.copy_with(host=address),
                headers={"Host": url.netloc.decode()},
                extensions={"sni_hostname": url.host},
            )
            try:
                return await self._client.send(request, auth=login, stream=True)
            except httpx.ConnectError:
                if number == len(addresses) - 1:
                    raise
        raise OSError("the host name is not known")

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """Return the addresses of the host, of IPv4 first: most cameras know no other."""
        host = url.host
        future = _RESOLVER.submit(lambda: system_addresses(host, url.port))
        addresses = await asyncio.wrap_future(future)
        if not self._allow_link_local:
            for address in addresses:
                check_address(address, host=host)
        return sorted(addresses, key=lambda address: ":" in address)


def tls_context(*, verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS settings of a camera.

    Args:
        verify: Whether its certificate is verified.
        ca_file: CA certificates (PEM) to trust instead of those of this machine.

    Raises:
        OSError: The file cannot be read, or it holds no certificate.
    """
    if not verify:
        return httpx.create_ssl_context(verify=False)
    if ca_file is None:
        return httpx.create_ssl_context()
    return ssl.create_default_context(cadata=Path(ca_file).read_text(errors="replace"))


async def _read(
    response: httpx.Response, url: str, is_enough: Callable[[httpx.Response, bytes], bool]
) -> Fetched:
    body = b""
    if response.is_success:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _LARGEST_BYTES:
                raise TooLarge
            if is_enough(response, body):
                break
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Fetched(url, response.status_code, content_type, body)


def same_host(first: httpx.URL, other: httpx.URL) -> bool:
    """Whether credentials for *first* may be sent to *other*: the same host, not less secure."""
    if first.host != other.host:
        return False
    if first.scheme == other.scheme:
        return first.port == other.port
    return other.scheme == "https" and first.port is None and other.port is None
