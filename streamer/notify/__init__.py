"""Telling people and machines of events: one channel a file, one attempt a call."""

from .channel import Channel, DeliveryFailed, Notification, ShowsStatus
from .delivery_worker import ChannelStatus
from .dispatcher import Dispatcher
from .retry import RetryPolicy

__all__ = [
    "Channel",
    "ChannelStatus",
    "DeliveryFailed",
    "Dispatcher",
    "Notification",
    "RetryPolicy",
    "ShowsStatus",
]
