"""What all channels share: `Notification`, the `Channel` protocol and `DeliveryFailed`.

A channel makes one attempt per call. It knows nothing of the store, of other channels or of
retrying.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self, runtime_checkable

import structlog

from streamer.alarm.event import Event, EventKind
from streamer.store import Delivery, EvidenceState

_log = structlog.get_logger(__name__)

_TITLES: Final = {
    EventKind.RAISED: "Alarm: {camera}",
    EventKind.UPDATED: "Alarm continues: {camera}",
    EventKind.CLEARED: "Alarm over: {camera}",
}

_NOT_STORED: Final = "Not stored: the disk of the program takes nothing."


@dataclass(frozen=True, slots=True)
class Notification:
    """One event for one receiver."""

    event: Event

    key: str
    """Idempotency key, the same for every attempt: receivers recognize a repetition by it."""

    attempt: int
    """From 1."""

    title: str
    """One line of text."""

    text: str
    """A few lines of text."""

    image: Path | None = None
    """Image that is sent with it."""

    superseded: bool = False
    """Whether the receiver has confirmed a later event of this camera. Then this event must not
    change the state that the receiver shows."""

    camera_in_alarm: bool = True
    """Whether any alarm of the camera is open: another one may be when this one is cleared."""

    stored: bool = True
    """Whether the event is on disk; if not, only the memory of the program holds it so far."""

    evidence_state: EvidenceState = EvidenceState.NONE
    evidence_reason: str = ""

    def payload(self) -> dict[str, Any]:
        """Return the JSON object that receivers get: the event, and what is on disk of it."""
        return {
            **self.event.as_json(),
            "stored": self.stored,
            "evidence": {"state": self.evidence_state.value, "reason": self.evidence_reason},
        }

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """Return the notification of a delivery from the outbox."""
        recorded = delivery.recorded
        event = recorded.event
        return cls(
            event=event,
            key=delivery.key,
            attempt=delivery.attempts,
            title=_TITLES[event.kind].format(camera=event.camera),
            text=_text(event) if recorded.stored else f"{_text(event)}\n{_NOT_STORED}",
            image=recorded.image,
            superseded=delivery.superseded,
            camera_in_alarm=delivery.camera_in_alarm,
            stored=recorded.stored,
            evidence_state=recorded.evidence_state,
            evidence_reason=recorded.evidence_reason,
        )

    def read_image(self) -> bytes | None:
        """Return the bytes of the image, or `None` if there is none or it cannot be read.

        An alarm without its image is better than none, so an error of the file is only logged.
        """
        if self.image is None:
            return None
        try:
            return self.image.read_bytes()
        except OSError as error:
            _log.warning("notification without its image", event_id=self.event.id, error=str(error))
            return None


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

    def __enter__(self) -> Self:
        """Prepare for deliveries. Errors of the receiver are raised by `deliver`, not here."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close connections."""
        ...


@runtime_checkable
class ShowsStatus(Protocol):
    """A channel that publishes the status of cameras beside their alarms."""

    def show_status(self, camera: str, status: Mapping[str, Any]) -> None:
        """Publish a camera's entry of the program status. From any thread; never waits.

        Args:
            camera: Name of the camera.
            status: JSON object; its keys are documented in `streamer/health/README.md`.
        """
        ...
