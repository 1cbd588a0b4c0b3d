"""What all channels share: the notice they carry, and how they say that it did not arrive.

A channel makes one attempt a call. It knows nothing of the store, of other channels or of trying
again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

import structlog

from streamer.alarm.event import Event, EventKind
from streamer.store import Delivery

_log = structlog.get_logger(__name__)

_TITLES: Final = {
    EventKind.RAISED: "Alarm: {camera}",
    EventKind.UPDATED: "Alarm continues: {camera}",
    EventKind.CLEARED: "Alarm over: {camera}",
}


@dataclass(frozen=True, slots=True)
class Notification:
    """One event on its way to one receiver."""

    event: Event

    key: str
    """The same for every attempt, and for nothing else: receivers know a repetition by it."""

    attempt: int
    """From 1."""

    title: str
    """One line for people."""

    text: str
    """A few lines for people."""

    image: Path | None = None
    """An image to send along."""

    superseded: bool = False
    """Whether the receiver knows a later event of this camera: this one is history to it."""

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The notice of a delivery from the outbox."""
        event = delivery.recorded.event
        return cls(
            event=event,
            key=delivery.key,
            attempt=delivery.attempts,
            title=_TITLES[event.kind].format(camera=event.camera),
            text=_text(event),
            image=delivery.recorded.image,
            superseded=delivery.superseded,
        )

    def read_image(self) -> bytes | None:
        """The image's bytes, if there is one and it can be read.

        An alarm without its image is better than none, so trouble with the file is only logged.
        """
        if self.image is None:
            return None
        try:
            return self.image.read_bytes()
        except OSError as error:
            _log.warning("image left out", event_id=self.event.id, error=str(error))
            return None


def _text(event: Event) -> str:
    # The local time with its offset: people act by it, and it cannot be misread.
    seen = event.utc.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{event.reason}\n{event.camera}, {seen}, score {event.score:.2f}\n{event.id}"


class DeliveryFailed(Exception):  # noqa: N818  states a fact
    """The notice did not arrive, as far as is known.

    Args:
        message: One line for people, without a secret.
        permanent: Whether this notice can never arrive, however often it is tried.
        retry_after_s: The pause that the receiver asks for.
    """

    def __init__(
        self, message: str, *, permanent: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """A way to a receiver. One thread at a time enters it, delivers, and leaves it."""

    @property
    def name(self) -> str:
        """As in the configuration."""
        ...

    def deliver(self, notice: Notification) -> None:
        """Make one attempt; returning says that the receiver acknowledged it.

        Ends within the channel's own time limit.

        Raises:
            DeliveryFailed: It did not arrive.
        """
        ...

    def __enter__(self) -> Self:
        """Get ready; trouble with the receiver shows in `deliver`, not here."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Let go of connections."""
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
