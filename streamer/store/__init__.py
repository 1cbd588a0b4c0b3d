"""The event store and the outbox, in SQLite."""

from .events import RecordedEvent
from .outbox import Backlog, Delivery, DeliveryState, Outbox
from .store import Store

__all__ = ["Backlog", "Delivery", "DeliveryState", "Outbox", "RecordedEvent", "Store"]
