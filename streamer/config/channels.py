"""Notification channels, and how delivery is retried."""

import base64
import binascii
import re
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, SecretStr, model_validator

from .values import Host, LocalPath, Password, Port, Section, User, WebUrl, in_order

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_HEADER_VALUE: Final = re.compile(r"([!-~]([ -~\t]*[!-~])?)?\Z")
"""RFC 9110, 5.1 and 5.5, without the bytes beyond ASCII, which receivers read differently."""

_TOPIC_BYTES: Final = 1024
"""Longest base topic. MQTT allows 65,535 bytes for a whole topic. Arbitrary."""


def _topic(topic: str) -> str:
    if not topic or topic != topic.strip("/ ") or set(topic) & set("#+"):
        raise ValueError("a topic holds no '#' or '+', and does not begin or end with '/'")
    if topic.startswith("$"):
        raise ValueError("a topic that begins with '$' belongs to the broker")
    if not topic.isprintable() or len(topic.encode()) > _TOPIC_BYTES:
        raise ValueError(f"a topic is at most {_TOPIC_BYTES} bytes of printable text")
    return topic


def _header_name(name: str) -> str:
    if not _HEADER_NAME.match(name):
        raise ValueError("the name of an HTTP header holds letters, digits and '-' only")
    return name


def _header_value(value: SecretStr) -> SecretStr:
    if not _HEADER_VALUE.match(value.get_secret_value()):
        raise ValueError(
            "the value of an HTTP header holds printable ASCII characters only, on one line,"
            " without spaces at either end"
        )
    return value


def _secret(value: SecretStr | None) -> SecretStr | None:
    text = "" if value is None else value.get_secret_value()
    if text.startswith("whsec_"):
        try:
            key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not key:
            raise ValueError("expected base64 behind 'whsec_'")
    return value


def _broker(host: str) -> str:
    if "/" in host or any(character.isspace() for character in host):
        raise ValueError("expected a host name or address alone; `port` and `tls` are other keys")
    return host


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]


class _ChannelSettings(Section):
    """What the settings of all kinds of channels have in common."""

    kind: str
    """Kind of the channel; here so that it is the first key everywhere."""

    check_interval_s: Annotated[float, Field(ge=5, le=86_400)] | None = 120
    """Seconds between two checks whether the receiver can be reached; `null`: no checks. A check
    connects and sends nothing."""

    channel_alerts: bool = True
    """Whether this channel is notified when another channel is down, and when it is up again."""


class _TlsSettings(_ChannelSettings):
    """Certificates for encrypted connections."""

    ca_file: LocalPath | None = None
    """PEM file of the certificate authorities to trust; `null`: those of the system."""

    cert_file: LocalPath | None = None
    """PEM file of the certificate that this program shows to the receiver, with its key unless
    `key_file` names it."""

    key_file: LocalPath | None = None
    """PEM file of the key of `cert_file`, without a passphrase."""

    @model_validator(mode="after")
    def _key_has_its_certificate(self) -> Self:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file as well")
        return self


class WebhookSettings(_TlsSettings):
    """JSON message by HTTP POST."""

    kind: Literal["webhook"]
    """JSON message by HTTP POST."""

    url: Annotated[WebUrl, Field(examples=["https://example.org/alarm"])]
    """URL to post to."""

    secret: Annotated[Password, AfterValidator(_secret)] = None
    """Key with which each message is signed by Standard Webhooks: `whsec_` and base64, or any text;
    `null`: messages are not signed."""

    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Further HTTP headers, e.g. `Authorization`."""

    include_image: bool = True
    """Whether the overlay image is sent with the message."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """Maximum seconds until the response, name resolution included."""

    channel_alerts: bool = False
    """Whether this receiver is notified (`kind` is `channel_down` or `channel_up`) when another
    channel is down, and when it is up again. Off: a receiver may take every message for an
    alarm."""


class MqttSettings(_TlsSettings):
    """Messages to an MQTT broker, with Home Assistant discovery."""

    kind: Literal["mqtt"]
    """Messages to an MQTT broker, with Home Assistant discovery."""

    host: Annotated[Host, AfterValidator(_broker), Field(examples=["broker.example.org"])]
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
    """Prefix of all topics; each running program needs its own at a broker."""

    discovery: bool = True
    """Whether to publish Home Assistant discovery messages."""

    timeout_s: Annotated[float, Field(ge=0.5, le=120)] = 10
    """Maximum seconds until the broker acknowledges a message."""

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> Self:
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file and cert_file need `tls: true`")
        return self


class AppriseSettings(_ChannelSettings):
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
