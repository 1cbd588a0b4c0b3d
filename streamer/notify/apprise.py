"""Apprise: mail, chat and a hundred other services, one Apprise URL a channel.

Such a service neither acknowledges by a key nor knows a repeated message: of all channels this one
may tell the same event twice when the program is killed between sending and noting it.
"""

import logging
import threading
import warnings
from types import TracebackType
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
# Apprise, and what it calls, log addresses with their tokens when the log is detailed. So nothing
# of it goes anywhere but the warnings, which `deliver` picks up and cleans.
_LOGGER.setLevel(logging.WARNING)
_LOGGER.propagate = False
logging.getLogger("urllib3").setLevel(logging.WARNING)


class AppriseChannel:
    """Sends notices through one service that Apprise knows.

    Args:
        name: As in the configuration.
        url: Apprise's URL of the service; all of it is kept secret.
        timeout_s: Longest wait for the service to connect, and for each answer of it.

    Raises:
        ValueError: Apprise does not understand the URL.
    """

    def __init__(self, name: str, *, url: str, timeout_s: float = 30.0) -> None:
        self.name = name
        # Any part of such a URL may be a secret: a token is often written as a host or a path.
        self._redact = Redactor(all_parts(url))
        with _Remarks() as remarks, warnings.catch_warnings():
            # Apprise loads its services here, and some try modules that Python is about to drop.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Without a time limit of its own, Apprise works in the calling thread. With one it uses
            # another thread and abandons it: that could still send after the next attempt.
            asset = apprise.AppriseAsset(app_id="streamer", service_timeout=0)
            service: Any = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            raise ValueError(
                f"channel {name!r}: Apprise does not understand its URL"
                f" ({self._redact(remarks.text) or 'unknown service'})"
            )
        service.socket_connect_timeout = service.socket_read_timeout = timeout_s
        self._apprise: Any = apprise.Apprise()
        self._apprise.add(service)

    def deliver(self, notice: Notification) -> None:
        """Send once. Apprise says only whether it worked; its remarks say why not.

        Raises:
            DeliveryFailed: The service did not take it.
        """
        with _Remarks() as remarks:
            sent = self._apprise.notify(
                title=notice.title,
                body=notice.text,
                body_format=apprise.NotifyFormat.TEXT,
                notify_type=_KINDS[notice.event.kind],
                attach=self._attachment(notice),
            )
        if not sent:
            raise DeliveryFailed(self._redact(remarks.text) or "the service did not take it")

    def _attachment(self, notice: Notification) -> str | None:
        # Every second attempt goes without the image: it may be what the service refuses.
        if notice.attempt % 2 and notice.image is not None and notice.image.is_file():
            return str(notice.image)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is kept between attempts."""


class _Remarks(logging.Handler):
    """What Apprise warns of in this thread, while the block runs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        """All remarks in one line."""
        return " ".join(self._lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a remark."""
        if record.thread == self._thread:
            self._lines.append(" ".join(record.getMessage().split()))

    def __enter__(self) -> Self:
        _LOGGER.addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _LOGGER.removeHandler(self)
