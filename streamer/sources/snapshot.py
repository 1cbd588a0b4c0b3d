"""`SnapshotSource`: requests a JPEG from a camera at a fixed interval."""

import logging
import ssl
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from streamer.core.clock import CancelToken, Clock
from streamer.core.errors import ForbiddenDestination, SourceError, SourceFault
from streamer.core.frame import Frame
from streamer.core.redact import redact, redact_url

from .address import SourceKind, resolve_credentials
from .ffmpeg_errors import FaultContext, source_error
from .frame_sampler import FrameSampler
from .http_fetch import Fetched, HttpFetcher, TooLarge, tls_context
from .http_login import CameraLogin, UnsupportedLogin
from .images import decode_image
from .jpeg_stream import begins_jpeg, first_jpeg
from .options import VideoOptions

_NS: Final = 1_000_000_000

_FAULTS_BY_STATUS: Final = {
    401: SourceFault.WRONG_PASSWORD, 403: SourceFault.WRONG_PASSWORD, 404: SourceFault.NOT_FOUND,
    410: SourceFault.NOT_FOUND,
}  # fmt: skip

# httpx logs the address of each request, which may contain a password.
logging.getLogger("httpx").setLevel(logging.WARNING)


class SnapshotSource:
    """Polls one address. Media time is the measured time since the first frame.

    An address that serves motion JPEG is read up to its first image, at each interval.

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
        self._login = CameraLogin(user or "", password or "") if user or password else None
        self._clock = clock
        self._interval_ns = interval_ns
        self._options = options
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
            Cancelled: *cancel* was set while the source waited.
        """
        with self._fetcher(cancel) as fetcher:
            due_ns = self._clock.monotonic_ns()
            while not cancel.is_set():
                frame = self._frame(self._image(self._request(fetcher, is_enough=_has_first_image)))
                yield frame
                now_ns = self._clock.monotonic_ns()
                due_ns = max(due_ns + self._interval_ns, now_ns)
                cancel.sleep((due_ns - now_ns) / _NS)

    def served(self, cancel: CancelToken) -> SourceKind:
        """Ask the server whether the address serves a snapshot or a video (`SourceKind.HTTP`).

        Raises:
            SourceError: It serves neither, or the request failed.
            Cancelled: *cancel* was set.
        """
        with self._fetcher(cancel) as fetcher:
            fetched = self._request(fetcher, is_enough=lambda _response, _body: True)
        if fetched.content_type == "text/html":
            raise self._no_image(fetched)
        is_image = fetched.content_type.startswith("image/")
        return SourceKind.SNAPSHOT if is_image else SourceKind.HTTP

    def _fetcher(self, cancel: CancelToken) -> HttpFetcher:
        return HttpFetcher(
            self._url,
            login=self._login,
            timeout_s=self._options.timeout_s,
            tls=self._tls(),
            allow_link_local=self._options.allow_link_local,
            cancel=cancel,
        )

    def _tls(self) -> ssl.SSLContext:
        try:
            return tls_context(verify=self._options.tls_verify, ca_file=self._options.ca_file)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise self._error(
                SourceFault.REFUSED, f"refused: ca_file {self._options.ca_file}: {reason}"
            ) from error

    def _request(
        self, fetcher: HttpFetcher, *, is_enough: Callable[[httpx.Response, bytes], bool]
    ) -> Fetched:
        try:
            fetched = fetcher.fetch(is_enough=is_enough)
        # Errors of httpx hold the request, whose address may contain a password.
        except (TimeoutError, httpx.TimeoutException):
            raise self._error(SourceFault.STALLED) from None
        except (ForbiddenDestination, UnsupportedLogin) as error:
            raise self._error(SourceFault.REFUSED, f"refused: {error}") from None
        except TooLarge:
            raise self._error(
                SourceFault.DAMAGED, "damaged: the response is larger than any image"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._translate(error) from None
        except OSError:
            raise self._error(
                SourceFault.NO_ROUTE, "no route: the host name is not known"
            ) from None
        if fetched.status != httpx.codes.OK:
            raise self._refused(fetched.status)
        return fetched

    def _image(self, fetched: Fetched) -> bytes:
        """Return the image in a response."""
        body = fetched.body
        image = first_jpeg(body)
        if image is not None:
            return image
        if begins_jpeg(body):
            raise self._error(
                SourceFault.DAMAGED, f"damaged: the image ends early, after {len(body)} bytes"
            )
        if fetched.content_type.startswith("text/") or body.lstrip()[:1] in (b"<", b"{", b""):
            raise self._no_image(fetched)
        return body  # PNG, WebP, ...

    def _no_image(self, fetched: Fetched) -> SourceError:
        kind = fetched.content_type or "a text"
        return self._error(
            SourceFault.DAMAGED,
            f"damaged: the camera answered with {kind} of {len(fetched.body)} bytes, no image;"
            " is the path right, and does the camera need a login?",
        )

    def _frame(self, body: bytes) -> Frame:
        context = FaultContext(
            address=self._address, live=True, opening=True, timeout_s=self._options.timeout_s
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

    def _translate(self, error: httpx.HTTPError | httpx.InvalidURL) -> SourceError:
        if isinstance(error, httpx.ConnectError):
            return self._connect_error(error)
        if isinstance(error, (httpx.RemoteProtocolError, httpx.NetworkError)):
            return self._error(SourceFault.ENDED)
        if isinstance(error, httpx.DecodingError):
            return self._error(SourceFault.DAMAGED)
        return self._error(SourceFault.REFUSED, f"refused: {redact(str(error))}")

    def _connect_error(self, error: BaseException) -> SourceError:
        """Distinguish connection errors by their causes: httpx has one class for all."""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLError):
                return self._error(
                    SourceFault.REFUSED, "refused: the certificate is not valid for this host"
                )
            if isinstance(cause, ConnectionRefusedError):
                return self._error(SourceFault.REFUSED)
        return self._error(SourceFault.NO_ROUTE)

    def _error(self, fault: SourceFault, detail: str | None = None) -> SourceError:
        return source_error(
            fault,
            address=self._address,
            live=True,
            detail=detail,
            timeout_s=self._options.timeout_s,
        )


def _has_first_image(response: httpx.Response, body: bytes) -> bool:
    """Whether a response that does not say how long it is may be left: it may be endless."""
    if "content-length" in response.headers and not body.startswith(b"--"):
        return False
    # The search begins at the start of the body, so it is made only when an image may have ended.
    return b"\xff\xd9" in body[-65_536 - 1 :] and first_jpeg(body) is not None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        yield error
        error = error.__cause__ or error.__context__
