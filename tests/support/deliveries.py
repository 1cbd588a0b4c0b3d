"""Events, a clock and channels for tests of the store and of delivery."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Self

from streamer.alarm.event import Event, EventKind
from streamer.core.frame import Detection
from streamer.notify import DeliveryFailed, Notification, NotificationKind
from streamer.store import Delivery, DeliveryState, RecordedEvent

START = datetime(2026, 7, 1, 12, tzinfo=UTC)
REGION = Detection(
    box=(0.4, 0.4, 0.5, 0.6),
    centroid=(0.45, 0.5),
    ground_point=(0.41, 0.52),
    area=0.01,
    confidence=0.7,
    peak=0.9,
)


class HandClock:
    """A clock that a test moves, forwards or backwards."""

    def __init__(self) -> None:
        self.now = START

    def monotonic_ns(self) -> int:
        return 0

    def utc_at(self, monotonic_ns: int) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


def event(
    alarm: str = "north-1", sequence: int = 0, *, camera: str = "north", kind: str | None = None
) -> Event:
    """The event of an alarm; number 0 raises it."""
    return Event(
        alarm_id=alarm,
        sequence=sequence,
        kind=EventKind(kind or ("updated" if sequence else "raised")),
        camera=camera,
        pts_ns=1_500_000_000 + sequence,
        utc=START + timedelta(seconds=sequence),
        onset_ns=0,
        reason="grew 38 % in 20 s, anchored at 0.41, 0.52",
        score=0.87,
        regions=(REGION,),
    )


def notice(what: Event | None = None, *, channel: str = "siren", **more: object) -> Notification:
    """A notice as the outbox would give it."""
    what = what or event()
    values = {
        "kind": NotificationKind(what.kind.value),
        "id": what.id,
        "key": f"{what.id}:{channel}",
        "title": "Alarm: north",
        "text": "smoke",
        "payload": what.as_json(),
        "camera": what.camera,
        "in_alarm": what.kind is not EventKind.CLEARED,
    }
    return Notification(**{**values, **more})


def delivery(what: Event | None = None, *, channel: str = "siren") -> Delivery:
    """A delivery whose first attempt is under way."""
    recorded = RecordedEvent(1, what or event(), evidence=None, image=None, added=START)
    return Delivery(
        number=1,
        channel=channel,
        recorded=recorded,
        state=DeliveryState.SENDING,
        attempts=1,
        backoff_total=timedelta(0),
        due=START,
        changed=START,
        error=None,
        superseded=False,
    )


class ScriptedChannel:
    """Takes notices, or fails as its script says; when the script ends it takes all."""

    def __init__(self, name: str = "siren", script: Iterable[Exception | None] = ()) -> None:
        self.name = name
        self.script = deque(script)
        self.taken: list[str] = []
        self.tried: list[Notification] = []
        self.entered = 0
        self.checks = 0
        self.unreachable: DeliveryFailed | None = None
        """Raised by each check."""

        self._changed = threading.Condition()

    def deliver(self, what: Notification) -> None:
        outcome = self.script.popleft() if self.script else None
        with self._changed:
            self.tried.append(what)
            if outcome is None:
                self.taken.append(what.id)
            self._changed.notify_all()
        if outcome is not None:
            raise outcome

    def check(self) -> bool:
        with self._changed:
            self.checks += 1
            self._changed.notify_all()
        if self.unreachable is not None:
            raise self.unreachable
        return True

    def wait_for(self, condition: Callable[[], bool], *, timeout_s: float = 20) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), (
                f"{self.name}: tried {len(self.tried)}, taken {self.taken}"
            )

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.entered -= 1


def failed(message: str = "no answer", **more: object) -> DeliveryFailed:
    return DeliveryFailed(message, **more)
