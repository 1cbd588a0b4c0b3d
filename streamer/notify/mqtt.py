"""MQTT: events to a broker, acknowledged (QoS 1), with a last will and retained state.

An event and the state of its alarm are published with QoS 1, and the acknowledgement is awaited.
Availability, discovery and status describe the present only: they are published again at each
connection, because the broker may have lost them.
"""

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from .channel import DeliveryFailed, Notification
from .homeassistant import OFF, OFFLINE, ON, ONLINE, Topics, discovery
from .network_errors import network_reason

_KEEPALIVE_S: Final = 20
"""A silent broker counts as gone after one and a half times this; so does a silent client."""

_RECONNECT_S: Final = (1, 15)
"""First and longest delay between attempts to connect."""

_WITH_WILL: Final = 0x04
"""Reason code of MQTT 5: disconnect, and publish the last will."""

_CONNECT_ERRORS: Final = {
    0x84: "it does not speak MQTT 5, which is needed",
    0x86: "it refuses this user and password",
    0x87: "it refuses this user and password",
}

_GOODBYE_S: Final = 2.0
"""Longest wait for the acknowledgement of `offline` when the program ends."""


class MqttChannel:
    """Publishes notifications. It stays connected between them, so that the broker sees it end.

    Entering connects in the background; leaving publishes `offline`.

    Args:
        name: Name in the configuration.
        host: Host of the broker.
        port: Port of the broker; by default 1883, with TLS 8883.
        user: User name at the broker.
        password: Password at the broker; never shown.
        tls: TLS settings with the trusted authorities, e.g. `ssl.create_default_context()`.
        base_topic: First part of all topics.
        cameras: Names of the cameras, for discovery.
        in_alarm: Cameras whose alarm is on; `None` if that is unknown, as in a program that only
            sends a test: then the states of alarms are not published.
        discover: Whether to publish discovery messages for Home Assistant.
        timeout_s: Longest time for an attempt.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int | None = None,
        user: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        base_topic: str = "streamer",
        cameras: Sequence[str] = (),
        in_alarm: Collection[str] | None = None,
        discover: bool = True,
        timeout_s: float = 10.0,
    ) -> None:
        self.name = name
        self._host = host
        self._port = port or (1883 if tls is None else 8883)
        self._user = user
        self._password = password
        self._tls = tls
        self._timeout_s = timeout_s
        self._topics = Topics(base_topic)
        self._client_id = f"streamer-{uuid.uuid4().hex[:16]}"
        self._guard = threading.Lock()
        # Guarded by _guard: the retained messages, by topic. They are published under the guard
        # too, so that no old value is published after a new one.
        self._retained: dict[str, str] = {self._topics.availability: ONLINE}
        for camera in cameras:
            if in_alarm is not None:
                self._retained[self._topics.alarm(camera)] = ON if camera in in_alarm else OFF
            if discover:
                self._retained |= discovery(self._topics, camera)
        self._connection: _Connection | None = None  # Replaced by the delivering thread only.

    def deliver(self, notification: Notification) -> None:
        """Publish the event and the alarm's state, and wait until the broker has both.

        Raises:
            DeliveryFailed: There is no connection, or no acknowledgement in time.
        """
        payload = json.dumps(notification.payload, ensure_ascii=False)
        camera, in_alarm = notification.camera, notification.in_alarm
        if camera is None:
            messages = [_Message(self._topics.notification, payload)]
        else:
            messages = [_Message(self._topics.event(camera), payload)]
        topic = state = ""
        if camera is not None and in_alarm is not None:
            topic, state = self._topics.alarm(camera), ON if in_alarm else OFF
            messages.append(_Message(topic, state, retain=True))
        connection = self._connection or self._connect()
        try:
            connection.publish(messages, timeout_s=self._timeout_s)
        except DeliveryFailed:
            # A new connection drops what the old one would still send, long after the outbox has
            # rescheduled it; and it connects at once, not after a delay.
            self._connect()
            raise
        if topic:
            with self._guard:
                self._retained[topic] = state

    def check(self) -> bool:
        """Wait for the connection, which stays open between notifications.

        Raises:
            DeliveryFailed: There is none, and why.
        """
        (self._connection or self._connect()).wait_online(timeout_s=self._timeout_s)
        return True

    def show_cameras(self, cameras: Mapping[str, Mapping[str, Any]]) -> None:
        """Publish the status of every camera."""
        for camera, status in cameras.items():
            self.show_status(camera, status)

    def show_status(self, camera: str, status: Mapping[str, Any]) -> None:
        """Publish a camera's status entry, retained; an unchanged entry is not repeated.

        From any thread; never waits. Without a connection it is published on the next connect.
        """
        payload = json.dumps(status, ensure_ascii=False)
        topic = self._topics.status(camera)
        with self._guard:
            if self._retained.get(topic) == payload:
                return
            self._retained[topic] = payload
            if self._connection is not None:
                _publish_state(self._connection.client, topic, payload)

    def _publish_retained(self, client: mqtt.Client) -> None:
        with self._guard:
            for topic, payload in self._retained.items():
                _publish_state(client, topic, payload)

    def _connect(self) -> "_Connection":
        """Connect in the background, replacing the connection if there is one."""
        if self._connection is not None:
            self._connection.end()
        version, protocol = CallbackAPIVersion.VERSION2, MQTTProtocolVersion.MQTTv5
        client = mqtt.Client(version, client_id=self._client_id, protocol=protocol)
        client.username_pw_set(self._user, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.connect_timeout = self._timeout_s
        self._connection = _Connection(
            client,
            host=self._host,
            port=self._port,
            availability=self._topics.availability,
            on_online=self._publish_retained,
        )
        return self._connection

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.goodbye()


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: str
    retain: bool = False


class _Connection:
    """One paho client with its thread, until `end` or `goodbye`.

    It reconnects by itself when the connection breaks.
    """

    def __init__(
        self,
        client: mqtt.Client,
        *,
        host: str,
        port: int,
        availability: str,
        on_online: Callable[[mqtt.Client], None],
    ) -> None:
        self.client = client
        self._broker = f"broker {host}:{port}"
        self._availability = availability
        self._publish_retained = on_online
        self._changed = threading.Condition()
        # All below are guarded by _changed.
        self._online = False
        self._error: str | None = None
        self._ended = False
        self._refused: dict[int, str] = {}  # Reasons, by message number.

        client.on_pre_connect = self._on_pre_connect
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.will_set(availability, OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(*_RECONNECT_S)
        client.connect_async(host, port, keepalive=_KEEPALIVE_S)
        client.loop_start()

    def publish(self, messages: Sequence[_Message], *, timeout_s: float) -> None:
        """Publish in order and wait for every acknowledgement.

        Raises:
            DeliveryFailed: Not all were acknowledged.
        """
        end = time.monotonic() + timeout_s
        self.wait_online(timeout_s=timeout_s)
        infos = [
            self.client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            for message in messages
        ]
        for info in infos:
            try:
                info.wait_for_publish(max(0.0, end - time.monotonic()))
                acknowledged = info.is_published()
            except (RuntimeError, ValueError):  # Paho raises these if it was not even sent.
                raise self._failure("the connection was lost") from None
            if not acknowledged:
                raise self._failure(f"no acknowledgement within {timeout_s:g} s")
            with self._changed:
                refused = self._refused.pop(info.mid, None)
            if refused is not None:
                raise self._failure(f"did not take the message: {refused}")

    def wait_online(self, *, timeout_s: float) -> None:
        """Wait until the broker has accepted the connection.

        Raises:
            DeliveryFailed: It did not, or did not answer in time.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._online or self._error, timeout_s)
            if not self._online:
                raise self._failure(self._error or f"no answer within {timeout_s:g} s")

    def _failure(self, reason: str) -> DeliveryFailed:
        return DeliveryFailed(f"{self._broker}: {reason}")

    def goodbye(self) -> None:
        """Publish `offline`, and end."""
        with self._changed:
            online = self._online
            self._ended = True
        if online:
            with contextlib.suppress(RuntimeError, ValueError):  # The will publishes the same.
                info = self.client.publish(self._availability, OFFLINE, qos=1, retain=True)
                info.wait_for_publish(_GOODBYE_S)
        self.end()

    def end(self) -> None:
        """Close the connection and wait for its thread; unsent messages are dropped."""
        with self._changed:
            self._ended = True
        # The will is needed unless `offline` was published; then it publishes the same again.
        self.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=_WITH_WILL))
        # Paho's thread would wait for a silent broker, so its socket is shut down.
        _shut_down(self.client.socket())
        self.client.loop_stop()
        # The client closes its own sockets when it is no longer referred to, so the reference cycle
        # between it and this object is broken.
        self.client.on_pre_connect = self.client.on_socket_open = None
        self.client.on_connect = self.client.on_connect_fail = self.client.on_disconnect = None
        self.client.on_publish = self.client.on_message = None

    # Called by paho's thread.

    def _on_pre_connect(self, _client: mqtt.Client, _data: Any) -> None:
        with self._changed:
            if self._ended:
                raise ConnectionAbortedError("ended")  # Paho treats it as a failure to connect.
            self._error = None

    def _on_socket_open(self, _client: mqtt.Client, _data: Any, opened: Any) -> None:
        with self._changed:
            if self._ended:
                _shut_down(opened)

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, code: ReasonCode, *_more: Any
    ) -> None:
        if code.is_failure:
            self._set_state(online=False, error=_CONNECT_ERRORS.get(code.value, str(code).lower()))
            return
        self._publish_retained(client)
        # The last will of an earlier run may publish `offline` late, e.g. when the machine lost its
        # power. `online` is then published again.
        client.subscribe(self._availability, options=SubscribeOptions(qos=1, noLocal=True))
        self._set_state(online=True, error=None)

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        # Paho calls this while it handles the error, and does not pass it.
        reason = network_reason(sys.exc_info()[1])
        self._set_state(online=False, error=reason or "cannot be reached")

    def _on_disconnect(self, *_: object) -> None:
        self._set_state(online=False, error="the connection was lost")

    def _on_publish(self, _: Any, _data: Any, number: int, code: ReasonCode, *_more: Any) -> None:
        if code.is_failure:
            with self._changed:
                self._refused[number] = str(code).lower()

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            wrong = message.payload == OFFLINE.encode() and not self._ended
        if wrong:
            _publish_state(client, self._availability, ONLINE)

    def _set_state(self, *, online: bool, error: str | None) -> None:
        with self._changed:
            self._online = online
            # The end of the connection follows a refusal and is less specific.
            self._error = self._error or error
            self._changed.notify_all()


def _publish_state(client: mqtt.Client, topic: str, payload: str) -> None:
    """Publish, retained, without waiting: a lost message is published at the next connection."""
    client.publish(topic, payload, qos=0, retain=True)


def _shut_down(opened: Any) -> None:
    """Shut a socket down: the thread that reads from it sees its end at once."""
    if opened is not None:
        with contextlib.suppress(OSError):  # It may have ended by itself.
            opened.shutdown(socket.SHUT_RDWR)
