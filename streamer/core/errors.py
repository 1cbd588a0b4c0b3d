"""All errors of this package, as one tree.

* StreamerError
  x ConfigError          the configuration is wrong; the message names file, line and key
  x SourceError          a source cannot deliver frames; carries a `SourceFault`
    + SourceLost         may come back: reconnect
    + SourceRejected     does not come back by itself: wrong password, unknown codec
  x DecoderUnavailable   the requested hardware decoder cannot be used here
  x ForbiddenDestination a URL leads to an address that is not allowed
  x SinkError            an output cannot be written
  x StorageError         the event store or the evidence cannot be written
* Cancelled              not an error: the pipeline is stopping
  + ConsumerClosed         the receiver of this link takes no more items

`engines.errors.EngineError` is separate, because engines do not import this package.
"""

import enum
from collections.abc import Iterator


class StreamerError(Exception):
    """Base class of the errors that this package raises on purpose."""


class ConfigError(StreamerError):
    """The configuration cannot be used as written."""


class SourceFault(enum.Enum):
    """Why a source does not deliver, in the words that people search for."""

    WRONG_PASSWORD = "wrong password"  # noqa: S105  a description, not a password
    """The camera requires credentials, or refused those it received."""

    NO_ROUTE = "no route"
    """The host has no address, or no network leads to it."""

    REFUSED = "refused"
    """The host is there, but nothing serves this address."""

    NOT_FOUND = "not found"
    """There is no such file, device or path on the server."""

    NO_VIDEO = "no video"
    """It opened, but it contains no video."""

    UNKNOWN_CODEC = "unknown codec"
    """It contains video that no decoder here can decode."""

    STALLED = "stalled"
    """Connected, but no data came within the timeout."""

    ENDED = "ended"
    """The stream ended, which a live stream should not."""

    DAMAGED = "damaged"
    """The data cannot be decoded."""


class SourceError(StreamerError):
    """A source cannot deliver frames."""

    def __init__(self, message: str, *, fault: SourceFault) -> None:
        super().__init__(message)
        self.fault = fault


class SourceLost(SourceError):  # noqa: N818  states a fact; "Error" is in the base
    """The stream ended or failed, and another attempt may succeed."""


class SourceRejected(SourceError):  # noqa: N818  as above
    """The stream was refused, and another attempt would fail in the same way."""


class DecoderUnavailable(StreamerError):  # noqa: N818  as above
    """The requested hardware decoder is not on this machine, or does not support the video."""


class ForbiddenDestination(StreamerError):  # noqa: N818  as above
    """A URL leads to a link-local address or to the metadata service of a cloud."""


class SinkError(StreamerError):
    """An output cannot be written."""


class StorageError(StreamerError):
    """The event store or the evidence folder cannot be written: full, read-only or damaged."""


class Cancelled(BaseException):
    """Raised by everything that waits when the pipeline stops.

    A `BaseException`, so that no `except Exception` in a stage swallows it.
    """


class ConsumerClosed(Cancelled):
    """Raised by `Link.put` when the receiver takes no more items."""


def is_expected(error: BaseException) -> bool:
    """Whether *error* says by itself what is wrong; else it may be a bug: show its traceback."""
    return all(
        # By name: the engines are no part of the core.
        isinstance(one, StreamerError | OSError) or type(one).__module__ == "engines.errors"
        for one in leaves(error)
    )


def as_exception(error: BaseException) -> Exception:
    """Return *error*; if it is no `Exception`, one that wraps it.

    Libraries raise others: a panic of one in Rust, or `asyncio.CancelledError`. A thread that such
    an error ends unnoticed would leave its part dead.
    """
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"{type(error).__name__}: {error}".removesuffix(": "))
    wrapped.__cause__ = error
    return wrapped


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, or all errors of a group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
