"""MQTT against a real broker: acknowledged, in order, retained, and honest about trouble."""

import json
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from streamer.notify import DeliveryFailed, Notification
from streamer.notify.homeassistant import Topics, discovery
from streamer.notify.mqtt import MqttChannel
from tests.support.deliveries import event, notice
from tests.support.mqtt_broker import MqttBroker, MqttListener, free_port
from tests.support.rtsp_server import certificate

pytestmark = pytest.mark.system

AVAILABILITY = "streamer/availability"


@pytest.fixture
def broker(mosquitto, tmp_path):
    with MqttBroker(tmp_path) as started:
        yield started


def channel_for(broker, **more):
    more.setdefault("timeout_s", 10)
    return MqttChannel("home", host="127.0.0.1", port=broker.port, **more)


def refused(channel) -> str:
    with pytest.raises(DeliveryFailed) as caught:
        channel.deliver(notice())
    assert not caught.value.permanent
    return str(caught.value)


def test_an_event_and_the_state_of_its_alarm_arrive(broker):
    with MqttListener(broker.port) as listener, channel_for(broker) as channel:
        channel.deliver(notice(event("a", 0)))
        channel.deliver(notice(event("a", 1, kind="cleared")))
        listener.wait_for_message("streamer/north/alarm", "OFF")
        assert listener.json_on("streamer/north/event") == [
            notice(event("a", 0)).payload,
            notice(event("a", 1, kind="cleared")).payload,
        ]
        assert listener.on("streamer/north/alarm") == ["ON", "OFF"]


def test_the_state_is_retained_and_the_event_is_not(broker):
    with channel_for(broker) as channel:
        channel.deliver(notice())
        with MqttListener(broker.port) as late:
            late.wait_for_message("streamer/north/alarm", "ON")
            late.wait_for_message(AVAILABILITY, "online")
            assert late.on("streamer/north/event") == []


def test_a_superseded_event_does_not_change_the_state(broker):
    with MqttListener(broker.port) as listener, channel_for(broker) as channel:
        channel.deliver(notice(event("a", 1, kind="cleared")))
        channel.deliver(notice(event("a", 0), in_alarm=None))
        listener.wait_for(lambda: len(listener.on("streamer/north/event")) == 2)
        assert listener.on("streamer/north/alarm") == ["OFF"]


def test_leaving_says_offline(broker):
    with MqttListener(broker.port) as listener:
        with channel_for(broker):
            listener.wait_for_message(AVAILABILITY, "online")
        listener.wait_for_message(AVAILABILITY, "offline")
        assert listener.on(AVAILABILITY)[-1] == "offline"


KILLED = """
import sys
from streamer.notify.mqtt import MqttChannel
from tests.support.deliveries import notice
with MqttChannel("home", host="127.0.0.1", port=int(sys.argv[1])) as channel:
    channel.deliver(notice())
    print("delivered", flush=True)
    sys.stdin.read()
"""


def test_the_last_will_says_offline_when_the_program_is_killed(broker):
    with MqttListener(broker.port) as listener:
        program = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(broker.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with program:
            assert program.stdout.readline() == "delivered\n"
            listener.wait_for_message(AVAILABILITY, "online")
            program.kill()
        listener.wait_for_message(AVAILABILITY, "offline")


def test_a_late_last_will_of_a_predecessor_is_corrected(broker):
    with MqttListener(broker.port) as listener, channel_for(broker) as channel:
        channel.deliver(notice())
        listener.publish(AVAILABILITY, "offline")
        listener.wait_for(lambda: listener.on(AVAILABILITY)[-2:] == ["offline", "online"])
        assert listener.on(AVAILABILITY).count("offline") == 1


def test_home_assistant_discovers_each_camera(broker):
    cameras = ("north", "süd / 2")
    with channel_for(broker, cameras=cameras, in_alarm=["north"]) as channel:
        channel.deliver(notice())
        with MqttListener(broker.port) as late:
            for camera in cameras:
                for topic in discovery(Topics("streamer"), camera):
                    late.wait_for(lambda: late.on(topic) != [])  # noqa: B023  waited for here
                    (found,) = late.json_on(topic)
                    assert found["availability_topic"] == AVAILABILITY
                    assert found["device"]["name"] == camera
            late.wait_for_message("streamer/north/alarm", "ON")
            late.wait_for_message("streamer/s%C3%BCd%20%2F%202/alarm", "OFF")


def test_a_test_beside_a_program_that_watches_does_not_disturb_it(broker):
    cameras = ("north", "south")
    with MqttListener(broker.port) as listener, channel_for(broker, cameras=cameras) as watching:
        watching.deliver(notice())
        with channel_for(broker, cameras=cameras) as testing:
            testing.deliver(Notification.test("home", datetime.now(UTC)))
        listener.wait_for(lambda: listener.on(AVAILABILITY)[-2:] == ["offline", "online"])
        assert listener.on(AVAILABILITY).count("offline") == 1
        assert listener.on("streamer/north/alarm") == ["ON"]
        assert listener.on("streamer/south/alarm") == []


def test_discovery_can_be_left_out(broker):
    with MqttListener(broker.port) as listener:
        with channel_for(broker, cameras=["north"], discover=False) as channel:
            channel.deliver(notice())
            listener.wait_for_message("streamer/north/alarm", "ON")
        assert not [topic for topic, *_ in listener.heard if topic.startswith("homeassistant")]


def test_the_status_of_a_camera_is_published_whenever_it_changes(broker):
    with MqttListener(broker.port) as listener:
        channel = channel_for(broker)
        channel.show_status("north", {"state": "reconnecting"})
        with channel:
            listener.wait_for(lambda: len(listener.on("streamer/north/status")) == 1)
            channel.show_status("north", {"state": "live", "frames": 25})
            channel.show_status("north", {"state": "live", "frames": 25})
            channel.show_status("north", {"state": "reconnecting", "why": "no route"})
            listener.wait_for(lambda: len(listener.on("streamer/north/status")) == 3)
    assert listener.json_on("streamer/north/status") == [
        {"state": "reconnecting"},
        {"state": "live", "frames": 25},
        {"state": "reconnecting", "why": "no route"},
    ]


def test_a_broker_that_is_not_there_is_a_failure_and_not_silence(mosquitto):
    port = free_port()
    with MqttChannel("home", host="127.0.0.1", port=port) as channel:
        assert refused(channel) == f"broker 127.0.0.1:{port}: connection refused"


def test_a_host_without_an_address_is_named():
    with MqttChannel("home", host="broker.invalid") as channel:
        assert refused(channel) == "broker broker.invalid:1883: its name cannot be resolved"


def test_a_broker_that_dies_and_comes_back_gets_the_alarm_once_and_the_present_state(broker):
    with channel_for(broker, cameras=["north"], timeout_s=5) as channel:
        channel.deliver(notice(event("a", 0)))
        broker.kill()
        assert "broker 127.0.0.1" in refused(channel)
        assert "broker 127.0.0.1" in refused(channel)
        broker.start()
        with MqttListener(broker.port) as listener:
            deliver_in_the_end(channel, event("a", 1, kind="cleared"))
            listener.wait_for_message("streamer/north/alarm", "OFF")
            # Only the last delivery: the failed attempts are dropped with their connections.
            assert [each["id"] for each in listener.json_on("streamer/north/event")] == ["a-1"]
            assert listener.on(AVAILABILITY)[-1] == "online"
            assert any(topic.startswith("homeassistant/") for topic, *_ in listener.heard)


def deliver_in_the_end(channel, what):
    for _ in range(100):
        try:
            channel.deliver(notice(what))
        except DeliveryFailed:
            continue
        return
    raise AssertionError("never delivered")


def test_a_broker_that_falls_silent_is_a_failure_within_the_limit(broker):
    with channel_for(broker, timeout_s=0.5) as channel:
        deliver_in_the_end(channel, event("a", 0))
        broker.pause()
        try:
            assert refused(channel).endswith("no acknowledgement within 0.5 s")
            assert refused(channel).endswith("no answer within 0.5 s")
        finally:
            broker.go_on()
        deliver_in_the_end(channel, event("a", 1, kind="cleared"))
        with MqttListener(broker.port) as late:
            late.wait_for_message("streamer/north/alarm", "OFF")
            late.wait_for_message(AVAILABILITY, "online")


def test_leaving_does_not_wait_for_a_broker_that_fell_silent(broker, monkeypatch):
    monkeypatch.setattr("streamer.notify.mqtt._GOODBYE_S", 0.1)
    with channel_for(broker) as channel:
        channel.deliver(notice())
        broker.pause()
        began = time.monotonic()
    took_s = time.monotonic() - began
    broker.go_on()
    assert took_s < 5, "the keep-alive of 20 s is not awaited"


def test_a_connection_that_comes_up_while_it_is_ended_is_cut():
    with MqttChannel("home", host="127.0.0.1", port=free_port()) as channel:
        connection = channel._connection
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection._on_socket_open(connection.client, None, ours)
        assert theirs.recv(1) == b""


@pytest.mark.parametrize("password", ["wrong t0psecret", None])
def test_a_wrong_password_is_the_reason(mosquitto, tmp_path, password):
    with MqttBroker(tmp_path, password="right") as broker:
        with channel_for(broker, user="fire", password=password) as channel:
            message = refused(channel)
        assert message == (f"broker 127.0.0.1:{broker.port}: it refuses this user and password")
        with channel_for(broker, user="fire", password="right") as channel:
            channel.deliver(notice())


def test_a_topic_that_may_not_be_written_is_a_failure_and_not_silence(mosquitto, tmp_path):
    rules = "topic write streamer/availability\n"
    with MqttBroker(tmp_path, rules=rules) as broker, channel_for(broker) as channel:
        assert refused(channel).endswith("did not take the message: not authorized")


# Paho leaves the socket of a failed handshake to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_an_encrypted_connection_checks_the_certificate(mosquitto, tmp_path):
    certificate(tmp_path)
    with MqttBroker(tmp_path, tls=tmp_path) as broker:
        trusting = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
        with channel_for(broker, tls=trusting) as channel:
            channel.deliver(notice())
        with channel_for(broker, tls=ssl.create_default_context()) as channel:
            assert "its certificate is not trusted (" in refused(channel)


def test_the_port_follows_from_the_encryption():
    assert MqttChannel("home", host="h")._port == 1883
    assert MqttChannel("home", host="h", tls=ssl.create_default_context())._port == 8883


@pytest.mark.parametrize("camera", ["north", "süd", "a/b", "a b", "a_b", "#", "+"])
def test_any_camera_has_topics_and_names_of_its_own(camera):
    others = {"north", "süd", "a/b", "a b", "a_b", "#", "+"} - {camera}
    topics = Topics("streamer")
    ours = {topics.event(camera), *discovery(topics, camera)}
    for other in others:
        assert ours.isdisjoint({topics.event(other), *discovery(topics, other)})
    for topic in ours:
        assert not set(topic) & set("#+ ")
    for message in map(json.loads, discovery(topics, camera).values()):
        assert message["unique_id"].isascii()
