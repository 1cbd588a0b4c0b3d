"""Events and their deliveries, stored in one SQLite file before anyone is notified."""

from .event_store import EventStore
from .outbox import Outbox
from .records import Backlog, Delivery, DeliveryState, RecordedEvent

__all__ = ["Backlog", "Delivery", "DeliveryState", "EventStore", "Outbox", "RecordedEvent"]
