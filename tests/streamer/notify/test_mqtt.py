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
from streamer.notify.published_topics import PublishedTopics
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


LIVE = {"state": "live", "reason": "", "alarm": "idle"}
LOST = {"state": "reconnecting", "reason": "refused", "alarm": "idle"}


def test_home_assistant_discovers_each_camera(broker):
    cameras = ("north", "süd / 2")
    with channel_for(broker, cameras=cameras, in_alarm=["north"]) as channel:
        channel.show_cameras(dict.fromkeys(cameras, LIVE))
        channel.deliver(notice())
        with MqttListener(broker.port) as late:
            for camera in cameras:
                for topic in discovery(Topics("streamer"), camera):
                    late.wait_for(lambda: late.on(topic) != [])  # noqa: B023  waited for here
                    (found,) = late.json_on(topic)
                    assert AVAILABILITY in str(found)
                    assert found["device"]["name"] == camera
            late.wait_for_message("streamer/north/alarm", "ON")
            late.wait_for_message("streamer/s%C3%BCd%20%2F%202/alarm", "OFF")


def test_the_alarm_follows_the_event_store_from_the_start(broker):
    with (
        MqttListener(broker.port) as listener,
        channel_for(broker, cameras=["north", "south"], in_alarm=["north"]),
    ):
        listener.wait_for_message("streamer/north/alarm", "ON")
        listener.wait_for_message("streamer/south/alarm", "None")
        listener.wait_for_message("streamer/south/availability", "offline")
        assert "OFF" not in listener.on("streamer/south/alarm"), "nobody has seen it yet"


def test_a_dead_camera_is_unavailable_and_never_off(broker):
    with MqttListener(broker.port) as listener, channel_for(broker, cameras=["north"]) as channel:
        channel.show_cameras({"north": LIVE})
        listener.wait_for_message("streamer/north/alarm", "OFF")
        channel.show_cameras({"north": LOST})
        listener.wait_for(lambda: listener.on("streamer/north/alarm")[-1] == "None")
        assert listener.on("streamer/north/availability")[-1] == "offline"
        channel.deliver(notice(event("a", 1, kind="cleared")))
        assert listener.on("streamer/north/alarm")[-1] == "None"
        channel.show_cameras({"north": LIVE})
        listener.wait_for(lambda: listener.on("streamer/north/availability")[-1] == "online")
        listener.wait_for(lambda: listener.on("streamer/north/alarm")[-1] == "OFF")


def test_an_open_alarm_stays_visible_when_the_camera_is_lost(broker):
    with MqttListener(broker.port) as listener, channel_for(broker, cameras=["north"]) as channel:
        channel.show_cameras({"north": LIVE})
        channel.deliver(notice())
        channel.show_cameras({"north": LOST})
        listener.wait_for(lambda: listener.json_on("streamer/north/status")[-1:] == [LOST])
        assert listener.on("streamer/north/alarm")[-1] == "ON"
        assert listener.on("streamer/north/availability")[-1] == "online"


def test_a_camera_whose_alarms_go_elsewhere_has_a_status_and_no_alarm(broker):
    with (
        MqttListener(broker.port) as listener,
        channel_for(broker, cameras=["north"], silent=["north"]) as channel,
    ):
        channel.show_cameras({"north": LIVE})
        listener.wait_for(lambda: listener.json_on("streamer/north/status") == [LIVE])
        assert not [
            topic for topic, *_ in listener.heard if topic.endswith(("alarm", "alarm/config"))
        ]


def test_a_camera_that_was_renamed_while_the_program_was_off_is_cleared(broker, tmp_path):
    file = tmp_path / "topics.json"
    with channel_for(broker, cameras=["tower"], published=PublishedTopics(file)) as first:
        first.show_cameras({"tower": LIVE})
        first.deliver(notice(event(camera="tower")))
    with (
        channel_for(broker, base_topic="other", cameras=["tower"]) as neighbour,
        channel_for(broker, cameras=["peak"], published=PublishedTopics(file)) as second,
    ):
        neighbour.check()
        second.check()
        until(lambda: "tower" not in file.read_text())
        with MqttListener(broker.port) as late:
            late.wait_for_message("streamer/peak/availability", "offline")
            late.wait_for_message("other/tower/availability", "offline")
            ours = [topic for topic, *_ in late.heard if not topic.startswith("other/")]
            of_neighbour = discovery(Topics("other"), "tower")
            ghosts = [topic for topic in ours if "tower" in topic and topic not in of_neighbour]
            assert ghosts == []


def test_a_broker_that_was_away_is_cleared_when_it_is_back(mosquitto, tmp_path):
    file = tmp_path / "topics.json"
    with MqttBroker(tmp_path) as broker:
        published = PublishedTopics(file)
        with channel_for(broker, cameras=["tower"], published=published) as first:
            first.check()
    PublishedTopics(file).use(f"127.0.0.1:{broker.port}", ["streamer/old/alarm"])
    with channel_for(broker, cameras=["tower"], published=PublishedTopics(file)) as second:
        refused(second)
        assert "streamer/old/alarm" in file.read_text()
        with broker:
            deliver_in_the_end(second, event("a", camera="tower"))
            until(lambda: "streamer/old/alarm" not in file.read_text())
            assert "streamer/tower/alarm" in file.read_text()


def test_cameras_that_come_and_go_while_it_runs_are_discovered_and_cleared(broker):
    tower = discovery(Topics("streamer"), "tower")
    with MqttListener(broker.port) as listener, channel_for(broker, cameras=["north"]) as channel:
        channel.check()
        channel.show_cameras({"north": LIVE, "tower": LIVE})
        for topic, payload in tower.items():
            listener.wait_for_message(topic, payload)
        listener.wait_for_message("streamer/tower/alarm", "OFF")
        for _ in range(3):
            channel.show_cameras({"north": LIVE})
        for topic in [*tower, "streamer/tower/alarm", "streamer/tower/availability"]:
            listener.wait_for(lambda: listener.on(topic)[-1:] == [""])  # noqa: B023  waited for here
        assert "" not in listener.on("streamer/north/alarm")


def test_problems_of_the_program_are_published(broker):
    with MqttListener(broker.port) as listener, channel_for(broker) as channel:
        channel.check()
        for count in (10, 11):
            channel.show_program({"version": "1", "problems": [f"disk: {count} MB are free"]})
        channel.show_program({"version": "1", "problems": []})
        listener.wait_for(lambda: len(listener.on("streamer/status")) == 2)
    assert [each["problems"] for each in listener.json_on("streamer/status")] == [
        ["disk: 10 MB are free"],
        [],
    ]


def test_a_test_beside_a_program_that_watches_does_not_disturb_it(broker):
    cameras = ("north", "south")
    with MqttListener(broker.port) as listener, channel_for(broker, cameras=cameras) as watching:
        watching.deliver(notice())
        before = len(listener.heard)
        with channel_for(broker, cameras=cameras, announce=False) as testing:
            testing.deliver(Notification.test("home", datetime.now(UTC)))
        listener.wait_for(lambda: listener.on("streamer/notification") != [])
        heard = {topic for topic, *_ in listener.heard[before:]}
        assert {"streamer/notification"} >= {each for each in heard if "notification" in each}
        assert listener.on(AVAILABILITY).count("offline") == 0
        assert listener.on("streamer/north/alarm")[-1] == "ON"
        (test,) = listener.json_on("streamer/notification")
        assert (test["kind"], test["test"]) == ("test", True)


def test_discovery_can_be_left_out(broker):
    with MqttListener(broker.port) as listener:
        with channel_for(broker, cameras=["north"], discover=False) as channel:
            channel.deliver(notice())
            listener.wait_for_message("streamer/north/alarm", "ON")
        assert not [topic for topic, *_ in listener.heard if topic.startswith("homeassistant")]


def test_the_status_of_a_camera_is_published_when_its_meaning_changes(broker):
    with MqttListener(broker.port) as listener:
        channel = channel_for(broker)
        channel.show_cameras({"north": LOST})
        with channel:
            listener.wait_for(lambda: len(listener.on("streamer/north/status")) == 1)
            for seconds in range(5):
                reason = f"no frame for {seconds} s"
                stale = {"state": "stale", "reason": reason, "restarts": seconds}
                channel.show_cameras({"north": {**stale, "since_utc": f"12:00:0{seconds}"}})
            channel.show_cameras({"north": LIVE})
            listener.wait_for(lambda: listener.json_on("streamer/north/status")[-1] == LIVE)
    assert [each["state"] for each in listener.json_on("streamer/north/status")] == [
        "reconnecting",
        "stale",
        "live",
    ]


def test_a_check_is_the_state_of_the_connection(broker):
    with channel_for(broker, timeout_s=2) as channel:
        assert channel.check()
        broker.kill()
        until(lambda: not reached(channel))
        broker.start()
        until(lambda: reached(channel))


def reached(channel) -> bool:
    try:
        return channel.check()
    except DeliveryFailed:
        return False


def until(condition) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends


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
    monkeypatch.setattr("streamer.notify.mqtt_connection._GOODBYE_S", 0.1)
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
