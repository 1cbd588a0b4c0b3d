"""Closing an alarm by hand: its camera is no longer watched, so nothing will ever clear it."""

from dataclasses import replace
from datetime import datetime

from streamer.alarm.event import Event, EventKind

from .protocols import EventStore


def close_alarm(store: EventStore, alarm_id: str, *, utc: datetime) -> Event | None:
    """Add the event that clears an open alarm, for the channels that have got its other events.

    The camera must not be watched: its program would go on with the alarm.

    Args:
        store: Holds the alarm.
        alarm_id: The alarm.
        utc: When it is closed, aware UTC.

    Returns:
        The event; `None` if there is no such open alarm.

    Raises:
        StorageError: It could not be stored.
    """
    opened = (one for one in store.open_alarms() if one.event.alarm_id == alarm_id)
    last = next(opened, None)
    if last is None:
        return None
    event = replace(
        last.event, sequence=last.event.sequence + 1, kind=EventKind.CLEARED, utc=utc,
        reason="closed by a person", score=0.0, regions=(),
    )  # fmt: skip
    channels = {
        delivery.channel
        for sequence in range(event.sequence)
        for delivery in store.outbox.of_event(f"{alarm_id}-{sequence}")
    }
    store.add(event, evidence=last.evidence, channels=sorted(channels))
    return event
