"""Builds the notification channels of the configuration.

The library of a channel is imported only if the configuration has a channel of its kind: importing
Apprise takes longer than the rest of the program's start.
"""

import ssl
from collections.abc import Collection
from typing import assert_never

from streamer.config import AppriseSettings, Config, MqttSettings, WebhookSettings
from streamer.core.errors import ConfigError
from streamer.notify import Channel

Settings = WebhookSettings | MqttSettings | AppriseSettings


def open_channels(config: Config, *, in_alarm: Collection[str] | None = None) -> list[Channel]:
    """Return the channels of the `notify` section, not entered yet.

    Args:
        config: The configuration, with the channels and the names of the cameras.
        in_alarm: Cameras whose alarm was active when the program ended; `None` where that is not
            known, as for a test message.

    Raises:
        ConfigError: A channel cannot be made of its settings.
    """
    watched = [name for name, camera in config.cameras.items() if camera.enabled]
    channels: list[Channel] = []
    for name, settings in config.notify.items():
        try:
            channels.append(_channel(name, settings, cameras=watched, in_alarm=in_alarm))
        except ValueError as error:
            raise ConfigError(f"notify.{name}: {error}") from error
    return channels


def _channel(
    name: str, settings: Settings, *, cameras: list[str], in_alarm: Collection[str] | None
) -> Channel:
    match settings:
        case WebhookSettings():
            from streamer.notify.webhook import WebhookChannel

            return WebhookChannel(
                name,
                url=settings.url.get_secret_value(),
                secret=settings.secret.get_secret_value() if settings.secret else None,
                headers={key: text.get_secret_value() for key, text in settings.headers.items()},
                include_image=settings.include_image,
                timeout_s=settings.timeout_s,
            )
        case MqttSettings():
            from streamer.notify.mqtt import MqttChannel

            return MqttChannel(
                name,
                host=settings.host,
                port=settings.port,
                user=settings.user,
                password=settings.password.get_secret_value() if settings.password else None,
                tls=ssl.create_default_context() if settings.tls else None,
                base_topic=settings.base_topic,
                cameras=cameras,
                in_alarm=in_alarm,
                discover=settings.discovery,
                timeout_s=settings.timeout_s,
            )
        case AppriseSettings():
            from streamer.notify.apprise import AppriseChannel

            return AppriseChannel(
                name, url=settings.url.get_secret_value(), timeout_s=settings.timeout_s
            )
    assert_never(settings)
