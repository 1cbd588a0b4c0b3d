"""Who is told of alarms, and how often that is tried."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, SecretStr, model_validator

from .values import Host, Password, Port, Section, User, WebUrl, in_order


def _topic(topic: str) -> str:
    if not topic or topic != topic.strip("/ ") or set(topic) & set("#+\0"):
        raise ValueError("a topic holds no '#' or '+', and does not begin or end with '/'")
    return topic


class WebhookSettings(Section):
    """A JSON message by HTTP POST."""

    kind: Literal["webhook"]
    """A JSON message by HTTP POST."""

    url: Annotated[WebUrl, Field(examples=["https://example.org/alarm"])]
    """Who receives it."""

    secret: Password = None
    """Signs each message (HMAC-SHA-256), so that the receiver knows who sent it."""

    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further HTTP headers, e.g. `Authorization`."""

    picture: bool = True
    """Whether the picture is sent along."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """Longest wait for an answer."""


class MqttSettings(Section):
    """Messages to an MQTT broker, in a form that Home Assistant discovers."""

    kind: Literal["mqtt"]
    """Messages to an MQTT broker, in a form that Home Assistant discovers."""

    host: Annotated[Host, Field(examples=["broker.example.org"])]
    """The broker."""

    port: Port | None = None
    """The broker's port; null is 1883, with TLS 8883."""

    user: User = None
    """User name at the broker."""

    password: Password = None
    """Password at the broker."""

    tls: bool = False
    """Whether the connection is encrypted, and the broker's certificate checked."""

    base_topic: Annotated[str, AfterValidator(_topic)] = "streamer"
    """First part of all topics."""

    discovery: bool = True
    """Whether Home Assistant is told of the cameras."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """Longest wait for the broker's acknowledgement."""


class AppriseSettings(Section):
    """Mail, chat and a hundred other services through Apprise."""

    kind: Literal["apprise"]
    """Mail, chat and a hundred other services through Apprise."""

    url: Annotated[SecretStr, Field(min_length=1, examples=["mailtos://user:password@example.org"])]
    """Apprise's URL of the service; all of it is kept secret."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 30
    """Longest wait for the service."""


Channel: TypeAlias = Annotated[
    WebhookSettings | MqttSettings | AppriseSettings, Field(discriminator="kind")
]


class RetrySettings(Section):
    """How undelivered alarms are tried again."""

    initial_s: Annotated[float, Field(ge=0.1, le=600)] = 2
    """Wait after the first failure."""

    max_delay_s: Annotated[float, Field(ge=1, le=86_400)] = 300
    """Longest wait; each is about twice as long as the one before."""

    give_up_after_days: Annotated[float, Field(gt=0, le=365)] = 7
    """Days after which retrying ends; `streamer deliveries pending` shows what remains."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        return in_order(self, "initial_s", "max_delay_s")
