"""Builds the notification channels of the configuration.

The library of a channel is imported only if the configuration has a channel of its kind: importing
Apprise takes longer than the rest of the program's start.
"""

import ssl
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import assert_never

from streamer.config import AppriseSettings, Config, MqttSettings, WebhookSettings
from streamer.core.errors import ConfigError
from streamer.notify import Channel, ChannelOptions, DeliveryFailed
from streamer.notify.published_topics import PublishedTopics

Settings = WebhookSettings | MqttSettings | AppriseSettings


def open_channels(config: Config, *, in_alarm: Collection[str] = ()) -> list[Channel]:
    """Return the channels of the `notify` section for the running program, not entered yet.

    Args:
        config: The configuration, with the channels and the names of the cameras.
        in_alarm: Cameras of which an alarm is open, by the event store.

    Raises:
        ConfigError: A channel cannot be made of its settings.
    """
    published = PublishedTopics(config.data_dir / "mqtt-topics.json")
    running = _Running(frozenset(in_alarm), published)
    return [_open(config, name, running) for name in config.notify]


def open_channel(config: Config, name: str) -> Channel:
    """Return one channel of the `notify` section for a check or a test, not entered yet.

    It does not disturb a running program that uses the same channel.

    Raises:
        ConfigError: It cannot be made of its settings.
    """
    return _open(config, name, None)


@dataclass(frozen=True, slots=True)
class _Running:
    """What channels of the running program know, and those of a test do not."""

    in_alarm: frozenset[str]
    published: PublishedTopics


def _open(config: Config, name: str, running: _Running | None) -> Channel:
    try:
        return _channel(name, config, running)
    except ValueError as error:
        raise ConfigError(f"notify.{name}: {error}") from error


@dataclass(frozen=True, slots=True)
class ChannelCheck:
    """What a check of one channel found."""

    name: str

    reached: bool
    """Whether its receiver was reached."""

    error: str | None
    """Why not; `None` without an error: then this kind of receiver cannot be checked."""


def check_channels(config: Config) -> Iterator[ChannelCheck]:
    """Check whether the receiver of each channel can be reached; nothing is sent to any.

    Each takes at most the timeout of its channel.
    """
    for name in config.notify:
        try:
            with open_channel(config, name) as channel:
                yield ChannelCheck(name, reached=channel.check(), error=None)
        except (ConfigError, DeliveryFailed) as error:
            yield ChannelCheck(name, reached=False, error=str(error))


def channel_options(config: Config) -> dict[str, ChannelOptions]:
    """Return how the dispatcher treats each channel of the `notify` section, by name."""
    return {
        name: ChannelOptions(
            check_interval_s=settings.check_interval_s, channel_alerts=settings.channel_alerts
        )
        for name, settings in config.notify.items()
    }


def _tls(settings: WebhookSettings | MqttSettings) -> ssl.SSLContext:
    """Return the TLS settings of a channel.

    Raises:
        ValueError: A file cannot be read or holds no certificate; the message names its key.
    """
    key = "ca_file"
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            key = "cert_file"
            # Without a function OpenSSL asks for the passphrase on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except ssl.SSLError:
        message = f"{key}: {getattr(settings, key)} holds no usable certificate"
        if key == "cert_file":
            message += ", or its key does not fit or needs a passphrase"
        raise ValueError(message) from None
    except OSError as error:
        message = f"{key}: cannot read {error.filename or getattr(settings, key)}"
        raise ValueError(f"{message} ({(error.strerror or str(error)).lower()})") from None
    return context


def _channel(name: str, config: Config, running: _Running | None) -> Channel:
    settings: Settings = config.notify[name]
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
                tls=_tls(settings) if settings.ca_file or settings.cert_file else None,
                allow_link_local=config.network.allow_link_local,
            )
        case MqttSettings():
            from streamer.notify.mqtt import MqttChannel

            return MqttChannel(
                name,
                host=settings.host,
                port=settings.port,
                user=settings.user,
                password=settings.password.get_secret_value() if settings.password else None,
                tls=_tls(settings) if settings.tls else None,
                base_topic=settings.base_topic,
                cameras=[each for each, camera in config.cameras.items() if camera.enabled],
                silent=[
                    each
                    for each, camera in config.cameras.items()
                    if camera.notify is not None and name not in camera.notify
                ],
                in_alarm=running.in_alarm if running else (),
                published=running.published if running else None,
                announce=running is not None,
                discover=settings.discovery,
                allow_link_local=config.network.allow_link_local,
                timeout_s=settings.timeout_s,
            )
        case AppriseSettings():
            from streamer.notify.apprise import AppriseChannel

            return AppriseChannel(
                name, url=settings.url.get_secret_value(), timeout_s=settings.timeout_s
            )
    assert_never(settings)
