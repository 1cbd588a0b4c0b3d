"""The alarm of a camera, with what an earlier run of the program left active."""

import structlog

from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm
from streamer.core.errors import StorageError
from streamer.store import DeliveryState, EventStore

from .camera_spec import CameraSpec

_log = structlog.get_logger(__name__)


def restored_alarm(spec: CameraSpec, store: EventStore | None) -> Alarm:
    """Return the alarm of a camera; alarms that were never cleared are active again.

    They go on as the same alarms: smoke at their place updates them, and they are cleared after the
    configured time of observation without it.
    """
    alarm = Alarm(spec.name, spec.settings.alarm, inference_interval_ns=spec.inference_interval_ns)
    for recorded in [] if store is None else store.open_alarms():
        event = recorded.event
        if event.camera == spec.name:
            assert store is not None, "it had the event"
            alarm.resume(event, delivered=not spec.channels or _is_delivered(event, store))
    return alarm


def _is_delivered(event: Event, store: EventStore) -> bool:
    """Whether a delivery of the alarm was confirmed, as far as can be found out."""
    try:
        return any(
            delivery.state is DeliveryState.CONFIRMED
            for sequence in range(event.sequence + 1)
            for delivery in store.outbox.of_event(f"{event.alarm_id}-{sequence}")
        )
    except StorageError as error:
        # Then smoke after this alarm raises a new one rather than continuing it.
        _log.warning("deliveries not read", alarm=event.alarm_id, error=str(error))
        return False
