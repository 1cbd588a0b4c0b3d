"""Notification: channels (webhook, MQTT, Apprise), and the workers that deliver through them."""

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
