"""Notification channels, and how delivery is retried."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, SecretStr, model_validator

from .values import Host, Password, Port, Section, User, WebUrl, in_order


def _topic(topic: str) -> str:
    if not topic or topic != topic.strip("/ ") or set(topic) & set("#+\0"):
        raise ValueError("a topic holds no '#' or '+', and does not begin or end with '/'")
    return topic


class WebhookSettings(Section):
    """JSON message by HTTP POST."""

    kind: Literal["webhook"]
    """JSON message by HTTP POST."""

    url: Annotated[WebUrl, Field(examples=["https://example.org/alarm"])]
    """URL to post to."""

    secret: Password = None
    """Key with which each message is signed (HMAC-SHA-256); `null`: messages are not signed."""

    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further HTTP headers, e.g. `Authorization`."""

    include_image: bool = True
    """Whether the overlay image is sent with the message."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """Maximum seconds until the response."""


class MqttSettings(Section):
    """Messages to an MQTT broker, with Home Assistant discovery."""

    kind: Literal["mqtt"]
    """Messages to an MQTT broker, with Home Assistant discovery."""

    host: Annotated[Host, Field(examples=["broker.example.org"])]
    """Host name or address of the broker."""

    port: Port | None = None
    """Port of the broker; `null`: 1883, with TLS 8883."""

    user: User = None
    """User name."""

    password: Password = None
    """Password."""

    tls: bool = False
    """Whether to use TLS and verify the certificate of the broker."""

    base_topic: Annotated[str, AfterValidator(_topic)] = "streamer"
    """Prefix of all topics."""

    discovery: bool = True
    """Whether to publish Home Assistant discovery messages."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """Maximum seconds until the broker acknowledges a message."""


class AppriseSettings(Section):
    """Mail, chat and other services through Apprise."""

    kind: Literal["apprise"]
    """Mail, chat and other services through Apprise."""

    url: Annotated[SecretStr, Field(min_length=1, examples=["mailtos://user:password@example.org"])]
    """Apprise URL of the service; treated as a secret."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 30
    """Maximum seconds for one delivery."""


Channel: TypeAlias = Annotated[
    WebhookSettings | MqttSettings | AppriseSettings, Field(discriminator="kind")
]


class RetrySettings(Section):
    """How undelivered alarms are retried."""

    initial_s: Annotated[float, Field(ge=0.1, le=600)] = 2
    """Delay after the first failure."""

    max_delay_s: Annotated[float, Field(ge=1, le=86_400)] = 300
    """Maximum delay; each delay is about twice as long as the one before."""

    give_up_after_days: Annotated[float, Field(gt=0, le=365)] = 7
    """Sum of the delays, in days, after which retrying ends; see `streamer deliveries pending`."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        return in_order(self, "initial_s", "max_delay_s")
