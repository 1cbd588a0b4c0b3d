"""What all channels share: `Notification`, the `Channel` protocol and `DeliveryFailed`.

A channel makes one attempt per call. It knows nothing of the store, of other channels or of
retrying.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, Self, runtime_checkable

import structlog

from streamer.alarm.event import Event
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls
from streamer.store import Delivery

_log = structlog.get_logger(__name__)

_IMAGE_S: Final = 2.0
"""Longest time for reading an image: the disk of the evidence may hang. Arbitrary."""

_READS: Final = UninterruptibleCalls("notification image", limit=4)


class NotificationKind(enum.Enum):
    """What a notification is about. The values are `kind` in its payload."""

    RAISED = "raised"
    UPDATED = "updated"
    CLEARED = "cleared"

    TEST = "test"
    """Sent by `streamer deliveries test`."""

    CHANNEL_DOWN = "channel_down"
    """Another channel does not deliver."""

    CHANNEL_UP = "channel_up"
    """That channel delivers again."""


_TITLES: Final = {
    NotificationKind.RAISED: "Alarm: {camera}",
    NotificationKind.UPDATED: "Alarm continues: {camera}",
    NotificationKind.CLEARED: "Alarm over: {camera}",
}

_NOT_STORED: Final = "Not stored: the disk of the program takes nothing."


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message for one receiver: an event of an alarm, or news of the program itself."""

    kind: NotificationKind

    id: str
    """Of the event, or of the message."""

    key: str
    """Idempotency key, the same for every attempt: receivers recognize a repetition by it."""

    title: str
    """One line of text."""

    text: str
    """A few lines of text."""

    payload: Mapping[str, Any]
    """The message for machines, ready for `json.dumps`; `kind` and `id` are always there."""

    attempt: int = 1
    """From 1."""

    camera: str | None = None
    """Camera of the event; `None` for a message about the program itself."""

    in_alarm: bool | None = None
    """Whether a receiver that shows the state of the camera shows an alarm from now on; `None`
    leaves the state as it is."""

    image: Path | None = None
    """Image that is sent with it."""

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """Return the notification of a delivery from the outbox."""
        recorded = delivery.recorded
        event = recorded.event
        kind = NotificationKind(event.kind.value)
        evidence = {"state": recorded.evidence_state.value, "reason": recorded.evidence_reason}
        return cls(
            kind=kind,
            id=event.id,
            key=delivery.key,
            title=_TITLES[kind].format(camera=event.camera),
            text=_text(event) if recorded.stored else f"{_text(event)}\n{_NOT_STORED}",
            payload={**event.as_json(), "stored": recorded.stored, "evidence": evidence},
            attempt=delivery.attempts,
            camera=event.camera,
            # Of this moment: another alarm of the camera may be open when this one is cleared.
            in_alarm=None if delivery.superseded else delivery.camera_in_alarm,
            image=recorded.image,
        )

    @classmethod
    def test(cls, channel: str, now: datetime) -> Self:
        """Return a test message: no camera, no alarm, and a flag that scripts can see."""
        message_id = f"test-{now:%Y%m%dT%H%M%SZ}"
        text = "This is a test of your alarm channel. No smoke was detected."
        return cls(
            kind=NotificationKind.TEST,
            id=message_id,
            key=f"{message_id}:{channel}",
            title="Test: no alarm",
            text=text,
            payload=_message(NotificationKind.TEST, message_id, now, text) | {"test": True},
        )

    @classmethod
    def of_channel(
        cls, channel: str, *, receiver: str, down: bool, since: datetime, now: datetime, reason: str
    ) -> Self:
        """Return the message for *receiver* that *channel* is down, or is up again.

        Args:
            channel: The channel that is reported.
            receiver: The channel that takes the message.
            down: Whether it is down.
            since: Since when it is down, or was; aware UTC.
            now: When the change was noticed, aware UTC.
            reason: Why it is or was down, on one line without secrets.
        """
        kind = NotificationKind.CHANNEL_DOWN if down else NotificationKind.CHANNEL_UP
        message_id = f"{kind.value}-{channel}-{now:%Y%m%dT%H%M%SZ}"
        began = since.astimezone().isoformat(sep=" ", timespec="seconds")
        text = (
            f"Channel {channel} has been down since {began}: {reason}. Alarms for it wait."
            if down
            else f"Channel {channel} is up again. It was down since {began}: {reason}."
        )
        details = {
            "channel": channel,
            "since_utc": since.isoformat(timespec="milliseconds"),
            "reason": reason,
        }
        return cls(
            kind=kind,
            id=message_id,
            key=f"{message_id}:{receiver}",
            title=f"Alarm channel down: {channel}" if down else f"Alarm channel up: {channel}",
            text=text,
            payload=_message(kind, message_id, now, text) | details,
        )

    def read_image(self) -> bytes | None:
        """Return the bytes of the image, or `None` if there is none or it cannot be read in time.

        An alarm without its image is better than none, so a failure is only logged.
        """
        if self.image is None:
            return None
        try:
            return _READS.call(self.image.read_bytes, timeout_s=_IMAGE_S)
        except (OSError, TooManyCalls) as error:  # A `TimeoutError` is an `OSError`.
            reason = str(error) or "its disk does not answer"
            _log.warning("notification without its image", id=self.id, error=reason)
            return None


def _message(kind: NotificationKind, message_id: str, now: datetime, text: str) -> dict[str, Any]:
    utc = now.isoformat(timespec="milliseconds")
    return {"kind": kind.value, "id": message_id, "utc": utc, "reason": text}


def _text(event: Event) -> str:
    # Local time with its offset: people act on it, and it is unambiguous.
    seen = event.utc.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{event.reason}\n{event.camera}, {seen}, score {event.score:.2f}\n{event.id}"


class DeliveryFailed(Exception):  # noqa: N818  states a fact
    """One attempt failed, as far as is known.

    Args:
        message: The reason in one line, without secrets.
        permanent: Whether the receiver refuses this notification for good.
        retry_after_s: Delay that the receiver requests.
    """

    def __init__(
        self, message: str, *, permanent: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """Sends notifications to one receiver. One thread at a time enters, delivers and leaves."""

    @property
    def name(self) -> str:
        """Name in the configuration."""
        ...

    def deliver(self, notification: Notification) -> None:
        """Make one attempt; it succeeded, acknowledged by the receiver, if this returns.

        Takes at most the timeout of the channel.

        Raises:
            DeliveryFailed: The attempt failed.
        """
        ...

    def check(self) -> bool:
        """Check whether the receiver can be reached, without sending anything to it.

        Takes at most the timeout of the channel.

        Returns:
            Whether it was reached; False where this kind of receiver cannot be checked.

        Raises:
            DeliveryFailed: It cannot be reached, and why.
        """
        ...

    def __enter__(self) -> Self:
        """Prepare for deliveries. Errors of the receiver are raised by `deliver`, not here."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close connections."""
        ...


@runtime_checkable
class ShowsStatus(Protocol):
    """A channel that publishes the status of cameras beside their alarms."""

    def show_cameras(self, cameras: Mapping[str, Mapping[str, Any]]) -> None:
        """Publish the entries of the program status by camera. From any thread; never waits.

        What was published of a camera that is missing is withdrawn.

        Args:
            cameras: JSON object of each present camera; its keys are documented in
                `streamer/health/README.md`.
        """
        ...

    def show_program(self, entry: Mapping[str, Any]) -> None:
        """Publish the status of the program. From any thread; never waits.

        Args:
            entry: JSON object with its `problems`, documented in `streamer/health/README.md`.
        """
        ...
