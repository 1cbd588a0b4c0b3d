"""Apprise: mail, chat and a hundred other services, one Apprise URL per channel.

These services know no idempotency key. Only this channel may therefore notify of an event twice: if
the program is killed between sending and recording the confirmation.
"""

import logging
import socket
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final, Self

import apprise

from streamer.core.redact import Redactor, all_parts
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

from .channel import DeliveryFailed, Notification, NotificationKind
from .network_errors import network_reason

if TYPE_CHECKING:
    from concurrent.futures import Future

_KINDS: Final = {
    NotificationKind.RAISED: apprise.NotifyType.FAILURE,
    NotificationKind.UPDATED: apprise.NotifyType.WARNING,
    NotificationKind.CLEARED: apprise.NotifyType.SUCCESS,
    NotificationKind.TEST: apprise.NotifyType.INFO,
    NotificationKind.CHANNEL_DOWN: apprise.NotifyType.WARNING,
    NotificationKind.CHANNEL_UP: apprise.NotifyType.SUCCESS,
}

_CHECKS: Final = UninterruptibleCalls("apprise check", limit=4)

_LOGGER: Final = logging.getLogger("apprise")
# At detailed levels, Apprise and urllib3 log URLs with their tokens. So nothing reaches the log:
# `deliver` collects the warnings and redacts them.
_LOGGER.setLevel(logging.WARNING)
_LOGGER.propagate = False
logging.getLogger("urllib3").setLevel(logging.WARNING)


class AppriseChannel:
    """Sends notifications through one service that Apprise supports.

    Args:
        name: Name in the configuration.
        url: Apprise URL of the service; all of it is secret.
        timeout_s: Longest time for an attempt; the service gets it for the connection and for
            each response as well.

    Raises:
        ValueError: Apprise does not accept the URL.
    """

    def __init__(self, name: str, *, url: str, timeout_s: float = 30.0) -> None:
        self.name = name
        # Any part of such a URL may be a secret: a token is often written as a host or a path.
        self._redact = Redactor(all_parts(url))
        with _Warnings() as warned, warnings.catch_warnings():
            # Apprise loads its services here, and some import deprecated modules.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Without a timeout of its own, Apprise works in the calling thread. With one it uses
            # another thread and abandons it, which could still send after the next attempt.
            asset = apprise.AppriseAsset(app_id="streamer", service_timeout=0)
            service: Any = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            raise ValueError(
                f"channel {name!r}: Apprise does not accept its URL"
                f" ({self._redact(warned.text) or 'unknown service'})"
            )
        service.socket_connect_timeout = service.socket_read_timeout = timeout_s
        self._timeout_s = timeout_s
        self._service = service
        self._apprise: Any = apprise.Apprise()
        self._apprise.add(service)
        self._calls = UninterruptibleCalls(f"apprise {name}", limit=1)
        # Attempts that did not end in time, by key. Used by the delivering thread only.
        self._late: dict[str, Future[str | None]] = {}

    def deliver(self, notification: Notification) -> None:
        """Send once. The warnings that Apprise logs are the reason of a failure.

        Raises:
            DeliveryFailed: The service did not accept it.
        """
        attempt = self._earlier_attempt(notification.key)
        if attempt is None:
            try:
                attempt = self._calls.submit(lambda: self._notify(notification))
            except TooManyCalls:
                raise DeliveryFailed("an earlier attempt has not ended") from None
        try:
            reason = attempt.result(self._timeout_s)
        except TimeoutError:
            self._late[notification.key] = attempt
            raise DeliveryFailed(f"no answer within {self._timeout_s:g} s") from None
        if reason is not None:
            raise DeliveryFailed(reason)

    def check(self) -> bool:
        """Connect to the server of the service where its URL names one, and send nothing.

        Returns:
            False where the server is not known: most services have theirs built in.

        Raises:
            DeliveryFailed: There is no connection, and why.
        """
        host = getattr(self._service, "smtp_host", None) or self._service.host
        port = self._service.port
        if not host or not isinstance(port, int):
            return False

        def connect() -> None:
            socket.create_connection((host, port), timeout=self._timeout_s).close()

        try:
            _CHECKS.call(connect, timeout_s=self._timeout_s)
        except TimeoutError:
            raise DeliveryFailed(f"no connection within {self._timeout_s:g} s") from None
        except TooManyCalls:
            raise DeliveryFailed("earlier checks have not ended") from None
        except OSError as error:
            raise DeliveryFailed(network_reason(error) or "no connection") from None
        return True

    def _earlier_attempt(self, key: str) -> "Future[str | None] | None":
        """Return the attempt at the same notification that was late, unless it failed since.

        It may still arrive, and these services know no keys: sending beside it would repeat it.
        """
        late = self._late.pop(key, None)
        if late is None or (late.done() and (late.exception() or late.result()) is not None):
            return None
        return late

    def _notify(self, notification: Notification) -> str | None:
        """Send once and return why it failed; `None` if it did not. In a thread of its own."""
        image = notification.image
        # Every second attempt is without the image, which may be what the service refuses.
        attached = notification.attempt % 2 and image is not None and image.is_file()
        with _Warnings() as warned:
            sent = self._apprise.notify(
                title=notification.title,
                body=notification.text,
                body_format=apprise.NotifyFormat.TEXT,
                notify_type=_KINDS[notification.kind],
                attach=str(image) if attached and image is not None else None,
            )
        return None if sent else self._redact(warned.text) or "the service did not accept it"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no connection between attempts."""


class _Warnings(logging.Handler):
    """Collects what Apprise logs as warnings in this thread, while the block runs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        """All warnings in one line."""
        return " ".join(self._lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a warning."""
        if record.thread == self._thread:
            self._lines.append(" ".join(record.getMessage().split()))

    def __enter__(self) -> Self:
        _LOGGER.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _LOGGER.removeHandler(self)
