"""Settings become channels."""

from pathlib import Path

import pytest

from streamer.app.channels import check_channels, open_channels
from streamer.config import Config
from streamer.core.errors import ConfigError
from streamer.notify.mqtt import MqttChannel
from streamer.notify.webhook import WebhookChannel
from tests.support.mqtt_broker import MqttBroker
from tests.support.rtsp_server import certificate

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise imports it.


def config(**notify: dict[str, object]) -> Config:
    cameras = {
        "a": {"source": {"address": "x"}},
        "b": {"enabled": False, "source": {"address": "x"}},
    }
    return Config.model_validate({"notify": notify, "cameras": cameras})


def test_each_kind_becomes_its_channel_by_its_name() -> None:
    from streamer.notify.apprise import AppriseChannel

    channels = open_channels(
        config(
            hook={"kind": "webhook", "url": "https://h", "headers": {"A": "b"}, "secret": "s"},
            home={"kind": "mqtt", "host": "h", "password": "p", "tls": True},
            mail={"kind": "apprise", "url": "json://localhost"},
        )
    )
    assert [channel.name for channel in channels] == ["hook", "home", "mail"]
    assert [type(channel) for channel in channels] == [WebhookChannel, MqttChannel, AppriseChannel]


def test_a_broker_hears_of_the_cameras_that_are_watched_and_of_their_alarms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = {}
    monkeypatch.setattr(
        "streamer.notify.mqtt.MqttChannel", lambda name, **given: made.update(given)
    )
    open_channels(config(home={"kind": "mqtt", "host": "h"}), in_alarm=["a"])
    assert (made["cameras"], made["in_alarm"], made["tls"]) == (["a"], {"a"}, None)
    assert (made["base_topic"], made["discover"], made["timeout_s"]) == ("streamer", True, 10)


def test_settings_that_no_channel_takes_are_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"^notify\.mail: "):
        open_channels(config(mail={"kind": "apprise", "url": "nonsense://x"}))


# Paho leaves the socket of a failed handshake to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.system
def test_a_certificate_authority_of_ones_own_is_trusted(mosquitto: str, tmp_path: Path) -> None:
    certificate(tmp_path)
    with MqttBroker(tmp_path, tls=tmp_path) as broker:
        settings = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "tls": True}
        trusting = {**settings, "ca_file": str(tmp_path / "certificate.pem")}
        checks = list(check_channels(config(strict=settings, trusting=trusting)))
    assert [(each.name, each.reached) for each in checks] == [("strict", False), ("trusting", True)]
    assert "its certificate is not trusted" in (checks[0].error or "")


@pytest.mark.parametrize("kind", ["webhook", "mqtt"])
@pytest.mark.parametrize(
    ("key", "content", "expected"),
    [
        ("ca_file", None, "cannot read"),
        ("ca_file", "no certificate", "holds no usable certificate"),
        ("cert_file", "no certificate", "holds no usable certificate, or its key"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(
    tmp_path: Path, kind: str, key: str, content: str | None, expected: str
) -> None:
    file = tmp_path / "some.pem"
    if content is not None:
        file.write_text(content)
    settings = {"kind": kind, key: str(file)}
    settings |= {"url": "https://h"} if kind == "webhook" else {"host": "h", "tls": True}
    with pytest.raises(ConfigError, match=rf"^notify\.some: {key}: .*{expected}"):
        open_channels(config(some=settings))
