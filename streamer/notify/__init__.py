"""Notification: channels (webhook, MQTT, Apprise), and the workers that deliver through them."""

from .channel import Channel, DeliveryFailed, Notification, NotificationKind, ShowsStatus
from .channel_status import ChannelState, ChannelStatus
from .dispatcher import ChannelOptions, Dispatcher
from .retry import RetryPolicy

__all__ = [
    "Channel",
    "ChannelOptions",
    "ChannelState",
    "ChannelStatus",
    "DeliveryFailed",
    "Dispatcher",
    "Notification",
    "NotificationKind",
    "RetryPolicy",
    "ShowsStatus",
]
