"""`SnapshotSource`: requests a JPEG from a camera at a fixed interval."""

import logging
from collections.abc import Generator, Iterator
from typing import Final

import httpx

from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import SourceError, SourceFault
from streamer.core.frame import Frame
from streamer.core.redact import redact_url

from .address import resolve_credentials
from .ffmpeg_errors import FaultContext, source_error
from .frame_sampler import FrameSampler
from .images import decode_image
from .options import VideoOptions

_NS: Final = 1_000_000_000
_LARGEST_BYTES: Final = 64 << 20
"""More than any camera's JPEG. A wrong address must not fill the memory."""

_FAULTS_BY_STATUS: Final = {
    401: SourceFault.WRONG_PASSWORD, 403: SourceFault.WRONG_PASSWORD, 404: SourceFault.NOT_FOUND,
    410: SourceFault.NOT_FOUND,
}  # fmt: skip

# httpx logs the address of each request, which may contain a password.
logging.getLogger("httpx").setLevel(logging.WARNING)


class SnapshotSource:
    """Polls one address. Media time is the measured time since the first frame.

    Args:
        address: http or https; may contain user and password.
        clock: Measures the arrival of each frame.
        interval_ns: Time from request to request. A slower response delays the next request.
        options: Credentials (Basic and Digest are supported), timeout, TLS and inference interval;
            other options are ignored. All frames are yielded.
    """

    def __init__(
        self,
        address: str,
        *,
        clock: Clock,
        interval_ns: int = _NS,
        options: VideoOptions,
    ) -> None:
        if interval_ns <= 0:
            raise ValueError(f"interval_ns must be above 0, got {interval_ns}")
        self._address = address
        self._url, user, password = resolve_credentials(
            address, user=options.user, password=options.password
        )
        self._auth = _Auth(user or "", password or "") if user or password else None
        self._clock = clock
        self._interval_ns = interval_ns
        self._timeout_s = options.timeout_s
        self._tls_verify = options.tls_verify
        self._sampler = FrameSampler(options.inference_interval_ns)
        self._number = 0
        self._last_ns = -1
        self._start_ns: int | None = None  # Arrival of the first frame.

    def __repr__(self) -> str:
        return f"<SnapshotSource {redact_url(self._address)}>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield one frame per interval until *cancel* is set.

        Raises:
            SourceLost: A request failed.
            SourceRejected: The camera refused the request, e.g. because of the password.
            Cancelled: *cancel* was set while the source waited for the next request.
        """
        with httpx.Client(
            auth=self._auth,
            timeout=self._timeout_s,
            verify=self._tls_verify,
            follow_redirects=True,
        ) as client:
            due_ns = self._clock.monotonic_ns()
            while not cancel.is_set():
                frame = self._frame(self._request(client))
                yield frame
                now_ns = self._clock.monotonic_ns()
                due_ns = max(due_ns + self._interval_ns, now_ns)
                cancel.sleep((due_ns - now_ns) / _NS)

    def _request(self, client: httpx.Client) -> bytes:
        """Return the body of one response.

        httpx limits the time of each read. The limit here also covers a camera that sends byte by
        byte.
        """
        began_ns = self._clock.monotonic_ns()
        body = bytearray()
        try:
            with client.stream("GET", self._url) as response:
                if not response.is_success:
                    raise self._refused(response.status_code)
                for part in response.iter_bytes():
                    body += part
                    if len(body) > _LARGEST_BYTES:
                        raise self._error(
                            SourceFault.DAMAGED, "damaged: the response is no snapshot"
                        )
                    if self._clock.monotonic_ns() - began_ns > self._timeout_s * _NS:
                        raise self._error(SourceFault.STALLED)
        except httpx.HTTPError as error:
            raise self._translate(error) from None  # Its request contains the address.
        return bytes(body)

    def _frame(self, body: bytes) -> Frame:
        context = FaultContext(
            address=self._address, live=True, opening=True, timeout_s=self._timeout_s
        )
        image = decode_image(body, context=context)
        arrived_ns = self._clock.monotonic_ns()
        if self._start_ns is None:
            self._start_ns = arrived_ns
        self._last_ns = max(arrived_ns - self._start_ns, self._last_ns + 1)
        sampled = self._sampler.selects(self._last_ns)
        frame = Frame(image, self._last_ns, arrived_ns, self._number, sampled=sampled)
        self._number += 1
        return frame

    def _refused(self, status: int) -> SourceError:
        fault = _FAULTS_BY_STATUS.get(status, SourceFault.REFUSED)
        detail = (
            f"refused: the camera responded with status {status}"
            if fault is SourceFault.REFUSED
            else None
        )
        return self._error(fault, detail)

    def _translate(self, error: httpx.HTTPError) -> SourceError:
        if isinstance(error, httpx.TimeoutException):
            return self._error(SourceFault.STALLED)
        if isinstance(error, httpx.ConnectError):
            return self._connect_error(str(error))
        if isinstance(error, (httpx.RemoteProtocolError, httpx.NetworkError)):
            return self._error(SourceFault.ENDED)
        return self._error(SourceFault.DAMAGED)

    def _connect_error(self, message: str) -> SourceError:
        """Distinguish connection errors by the system's message: httpx has one class for all."""
        if "CERTIFICATE" in message or "SSL" in message:
            return self._error(
                SourceFault.REFUSED, "refused: the certificate is not valid for this host"
            )
        if "refused" in message.lower():
            return self._error(SourceFault.REFUSED)
        return self._error(SourceFault.NO_ROUTE)

    def _error(self, fault: SourceFault, detail: str | None = None) -> SourceError:
        return source_error(
            fault, address=self._address, live=True, detail=detail, timeout_s=self._timeout_s
        )


class _Auth(httpx.Auth):
    """Basic or Digest, as the camera requires; the scheme of the first challenge is kept."""

    def __init__(self, user: str, password: str) -> None:
        self._basic = httpx.BasicAuth(user, password)
        self._digest = httpx.DigestAuth(user, password)
        self._scheme: httpx.Auth | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._scheme is None:
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
            challenge = response.headers.get("www-authenticate", "").lower()
            self._scheme = self._digest if "digest" in challenge else self._basic
        yield from self._scheme.auth_flow(request)
