"""Translates FFmpeg's errors to `SourceError`, in this one place.

FFmpeg's codes are ambiguous: a server that closes the connection, one that speaks another protocol
and one that is silent all give "invalid data". So the translation also uses the kind of the address
and the time that the call took. Messages say what to do and never contain a password.
"""

import errno
import socket
from dataclasses import dataclass
from typing import Final

import av.error

from streamer.core.errors import SourceError, SourceFault, SourceLost, SourceRejected
from streamer.core.redact import redact_url

from .address import host_of, kind_of

_ADVICE: Final = {
    SourceFault.WRONG_PASSWORD: "wrong password: user and password are required or were refused",
    SourceFault.NO_ROUTE: "no route: the host name is unknown or no network leads to it",
    SourceFault.REFUSED: "refused: the host is there, but nothing serves this address",
    SourceFault.NOT_FOUND: "not found: check the path",
    SourceFault.NO_VIDEO: "no video: it opened, but it contains no video",
    SourceFault.UNKNOWN_CODEC: "unknown codec: no decoder here can decode the video",
    SourceFault.STALLED: "stalled: nothing came within {timeout_s:g} s",
    SourceFault.ENDED: "ended: the stream ended",
    SourceFault.DAMAGED: "damaged: the data cannot be decoded",
}

_BY_CLASS: Final[tuple[tuple[type[Exception], SourceFault, str | None], ...]] = (
    (av.error.HTTPUnauthorizedError, SourceFault.WRONG_PASSWORD, None),
    (av.error.HTTPForbiddenError, SourceFault.WRONG_PASSWORD, None),
    (av.error.HTTPNotFoundError, SourceFault.NOT_FOUND, None),
    (av.error.HTTPClientError, SourceFault.REFUSED,
     "refused: the camera does not serve this request"),
    (av.error.HTTPServerError, SourceFault.REFUSED,
     "refused: the camera has an error of its own; too many viewers?"),
    (av.error.FileNotFoundError, SourceFault.NOT_FOUND, None),
    (av.error.NotADirectoryError, SourceFault.NOT_FOUND, None),
    (av.error.IsADirectoryError, SourceFault.NOT_FOUND, "not found: this is a folder, not a video"),
    (av.error.PermissionError, SourceFault.NOT_FOUND, "not found: no permission to read it"),
    (av.error.ProtocolNotFoundError, SourceFault.NOT_FOUND,
     "not found: no protocol is known for such an address"),
    (av.error.ConnectionRefusedError, SourceFault.REFUSED, None),
    (av.error.ConnectionResetError, SourceFault.ENDED, None),
    (av.error.ConnectionAbortedError, SourceFault.ENDED, None),
    (av.error.BrokenPipeError, SourceFault.ENDED, None),
    (av.error.EOFError, SourceFault.ENDED, None),
    (av.error.TimeoutError, SourceFault.STALLED, None),
    (av.error.ExitError, SourceFault.STALLED, None),
    (av.error.DecoderNotFoundError, SourceFault.UNKNOWN_CODEC, None),
    (av.error.PatchWelcomeError, SourceFault.UNKNOWN_CODEC, None),
)  # fmt: skip
"""Error class, fault, and a message in place of the default advice. The first match counts."""

_NO_DEVICE: Final = (SourceFault.NOT_FOUND, "not found: no camera answers at this device")

_BY_NUMBER: Final[dict[int, tuple[SourceFault, str | None]]] = {
    errno.ENETUNREACH: (SourceFault.NO_ROUTE, None),
    errno.EHOSTUNREACH: (SourceFault.NO_ROUTE, None),
    errno.EHOSTDOWN: (SourceFault.NO_ROUTE, None),
    errno.EADDRNOTAVAIL: (SourceFault.NO_ROUTE, None),
    errno.ENODEV: _NO_DEVICE,
    errno.ENXIO: _NO_DEVICE,
    errno.ENOTTY: _NO_DEVICE,
    errno.EPROTONOSUPPORT: (
        SourceFault.REFUSED,
        "refused: the camera does not offer this transport; try the other",
    ),
}
"""Errors that have no class of their own."""

_FINAL: Final = {SourceFault.WRONG_PASSWORD, SourceFault.NO_VIDEO, SourceFault.UNKNOWN_CODEC}
"""Faults of a live source that further attempts cannot resolve."""


@dataclass(frozen=True, slots=True)
class FaultContext:
    """What was attempted when the error occurred."""

    address: str
    """May contain a password; never printed."""

    live: bool
    opening: bool
    """Whether the error came before the first packet."""

    timeout_s: float
    """Timeout of a silent stream."""

    silent: bool = False
    """Whether the failing call took as long as its timeout."""


def source_error(
    fault: SourceFault,
    *,
    address: str,
    live: bool,
    detail: str | None = None,
    timeout_s: float = 0,
) -> SourceError:
    """Return the error for a fault.

    It is `SourceLost` if another attempt may succeed, else `SourceRejected`.

    Args:
        fault: The fault.
        address: Printed without its secrets.
        live: Whether the source is live; faults of files are permanent.
        detail: Message in place of the default advice.
        timeout_s: For the message of `SourceFault.STALLED`.
    """
    advice = detail or _ADVICE[fault].format(timeout_s=timeout_s)
    kind = SourceLost if live and fault not in _FINAL else SourceRejected
    return kind(f"{redact_url(address)}: {advice}", fault=fault)


def translate(error: av.error.FFmpegError, attempt: FaultContext) -> SourceError:
    """Return FFmpeg's error as a `SourceError`.

    The address is removed from FFmpeg's error, so it may be chained and printed.
    """
    fault, detail = _classify(error, attempt)
    error.args = error.args[:2]  # The third is the address with the password.
    return source_error(
        fault,
        address=attempt.address,
        live=attempt.live,
        detail=detail,
        timeout_s=attempt.timeout_s,
    )


def _classify(  # noqa: PLR0911  a list of cases is read from top to bottom
    error: av.error.FFmpegError, attempt: FaultContext
) -> tuple[SourceFault, str | None]:
    kind = kind_of(attempt.address)
    if attempt.silent:  # Which error FFmpeg gives then depends on where it was interrupted.
        return SourceFault.STALLED, None
    if isinstance(error, av.error.EOFError) and not attempt.live:
        return SourceFault.DAMAGED, None
    for of, fault, detail in _BY_CLASS:
        if isinstance(error, of):
            return fault, detail
    if error.errno in _BY_NUMBER:
        return _BY_NUMBER[error.errno]
    if error.errno == errno.EIO and kind.network:
        return _of_connection(attempt) if attempt.opening else (SourceFault.ENDED, None)
    if kind.network and attempt.opening:
        return SourceFault.DAMAGED, "damaged: the server hung up or speaks another protocol"
    return SourceFault.DAMAGED, None


def _of_connection(attempt: FaultContext) -> tuple[SourceFault, str | None]:
    """FFmpeg gives "input/output error" for an unknown host name and for failed TLS alike."""
    try:
        socket.getaddrinfo(host_of(attempt.address), None)
    except (OSError, UnicodeError):
        return SourceFault.NO_ROUTE, "no route: the host name is not known"
    if attempt.address.lower().startswith(("rtsps:", "https:")):
        return SourceFault.REFUSED, (
            "refused: no trusted connection; the certificate is not valid for this host, or the"
            " server does not speak TLS"
        )
    return SourceFault.DAMAGED, None
