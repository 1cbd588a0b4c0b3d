"""Everything that can go wrong, as one tree.

* StreamerError
  x ConfigError          the user's file is wrong; the message names file, line and key
  x SourceError          carries a `SourceFault`, the class of failure as people know it
    + SourceLost         may come back: reconnect
    + SourceRejected     will not come back by itself: wrong password, unknown codec
  x SinkError            an output cannot be written
  x StorageError         the event store or the evidence cannot be written
* Cancelled              not an error: the pipeline is stopping
  + ConsumerClosed         the part behind this link wants no more

`engines.errors.EngineError` stands beside it: engines know nothing of this package.
"""

import enum


class StreamerError(Exception):
    """Base class of the errors that this package raises on purpose."""


class ConfigError(StreamerError):
    """The configuration cannot be used as written."""


class SourceFault(enum.Enum):
    """Why a source does not deliver, in the words that people search for."""

    WRONG_PASSWORD = "wrong password"  # noqa: S105  a word for people
    """The camera asked for credentials, or refused those it got."""

    NO_ROUTE = "no route"
    """The host has no address, or no network leads to it."""

    REFUSED = "refused"
    """The host is there, but nothing listens on that port."""

    NOT_FOUND = "not found"
    """No such file, device or path on the server."""

    NO_VIDEO = "no video"
    """It opened, but there is no video in it."""

    UNKNOWN_CODEC = "unknown codec"
    """There is video, but not in a form that can be decoded here."""

    STALLED = "stalled"
    """Connected, but nothing came within the timeout."""

    ENDED = "ended"
    """The stream ended, which a live stream should not."""

    DAMAGED = "damaged"
    """What came cannot be understood."""


class SourceError(StreamerError):
    """A source cannot deliver frames."""

    def __init__(self, message: str, *, trouble: SourceFault) -> None:
        super().__init__(message)
        self.trouble = trouble


class SourceLost(SourceError):  # noqa: N818  states a fact; "Error" is in the base
    """The stream broke off, and trying again later makes sense."""


class SourceRejected(SourceError):  # noqa: N818  as above
    """The stream was refused, and trying again at once would fail the same way."""


class SinkError(StreamerError):
    """An output cannot be written."""


class StorageError(StreamerError):
    """The event store or the evidence folder cannot be written: full, read-only or damaged."""


class Cancelled(BaseException):
    """Raised by whatever waits when the pipeline stops.

    A `BaseException`, so that no `except Exception` in a stage swallows it.
    """


class ConsumerClosed(Cancelled):
    """Raised by `Link.put` when nobody will take the item."""
