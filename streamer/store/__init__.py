"""Events and their deliveries, stored before anyone is notified: protocols and value types.

`streamer.store.sqlite` implements them; only the assembly and the command line name it.
"""

from .protocols import DeliveryLock, EventRefused, EventStore, Outbox
from .records import Backlog, Delivery, DeliveryState, EvidenceState, RecordedEvent
from .retention import EventRetention, Expired, Hold, StoredAlarm

__all__ = [
    "Backlog",
    "Delivery",
    "DeliveryLock",
    "DeliveryState",
    "EventRefused",
    "EventRetention",
    "EventStore",
    "EvidenceState",
    "Expired",
    "Hold",
    "Outbox",
    "RecordedEvent",
    "StoredAlarm",
]
