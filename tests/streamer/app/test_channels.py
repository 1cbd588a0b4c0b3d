"""Settings become channels."""

import pytest

from streamer.app.channels import open_channels
from streamer.config import Config
from streamer.core.errors import ConfigError
from streamer.notify.mqtt import MqttChannel
from streamer.notify.webhook import WebhookChannel

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
