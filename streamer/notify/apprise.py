"""Apprise: mail, chat and a hundred other services, one Apprise URL per channel.

These services know no idempotency key. Only this channel may therefore notify of an event twice: if
the program is killed between sending and recording the confirmation.
"""

import logging
import threading
import warnings
from typing import Any, Final, Self

import apprise

from streamer.alarm.event import EventKind
from streamer.core.redact import Redactor, all_parts

from .channel import DeliveryFailed, Notification

_KINDS: Final = {
    EventKind.RAISED: apprise.NotifyType.FAILURE,
    EventKind.UPDATED: apprise.NotifyType.WARNING,
    EventKind.CLEARED: apprise.NotifyType.SUCCESS,
}

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
        timeout_s: Longest wait for the connection, and for each response.

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
        self._apprise: Any = apprise.Apprise()
        self._apprise.add(service)

    def deliver(self, notification: Notification) -> None:
        """Send once. The warnings that Apprise logs are the reason of a failure.

        Raises:
            DeliveryFailed: The service did not accept it.
        """
        image = notification.image
        # Every second attempt is without the image, which may be what the service refuses.
        attached = notification.attempt % 2 and image is not None and image.is_file()
        with _Warnings() as warned:
            sent = self._apprise.notify(
                title=notification.title,
                body=notification.text,
                body_format=apprise.NotifyFormat.TEXT,
                notify_type=_KINDS[notification.event.kind],
                attach=str(image) if attached and image is not None else None,
            )
        if not sent:
            raise DeliveryFailed(self._redact(warned.text) or "the service did not accept it")

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
