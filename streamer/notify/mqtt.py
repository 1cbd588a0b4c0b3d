"""MQTT: events to a broker, acknowledged (QoS 1), with a last will and retained state.

What is delivered, an event and the state of the alarm, goes by QoS 1 and is waited for. What only
describes the present (availability, discovery, status) is told again at each connection, as the
broker may have forgotten it.
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
from types import TracebackType
from typing import Any, Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamer.alarm.event import EventKind

from .channel import DeliveryFailed, Notification
from .homeassistant import OFF, OFFLINE, ON, ONLINE, Topics, discovery
from .network_errors import network_reason

_KEEPALIVE_S: Final = 20
"""A broker that says nothing for one and a half times this is gone; then the will is sent too."""

_RECONNECT_S: Final = (1, 15)
"""First and longest pause between attempts to connect."""

_WITH_WILL: Final = 0x04
"""Reason code of MQTT 5: this disconnect is none that people should not notice."""

_CONNECT_TROUBLE: Final = {
    0x84: "it does not speak MQTT 5, which is needed",
    0x86: "it refuses this user and password",
    0x87: "it refuses this user and password",
}

_FAREWELL_S: Final = 2.0
"""Longest wait for the broker when this program goes offline in good order."""


class MqttChannel:
    """Publishes notices; between them it stays connected, so that its absence is seen.

    Entering connects in the background; leaving says `offline`.

    Args:
        name: As in the configuration.
        host: The broker.
        port: The broker's port; by default 1883, with TLS 8883.
        user: User name at the broker.
        password: Password at the broker; never shown.
        tls: Encrypts and says whom to trust, e.g. `ssl.create_default_context()`.
        base_topic: First part of all topics.
        cameras: Their names, for discovery.
        in_alarm: The cameras whose alarm is on; `None` where that is not known, as in a program
            that only sends a test beside the one that watches: then nothing is said of it.
        discover: Whether Home Assistant is told of the cameras.
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
        # Guarded by _guard: what each new connection tells, by topic. Told under the guard too, so
        # that nothing old is told after something new.
        self._present: dict[str, str] = {self._topics.availability: ONLINE}
        for camera in cameras:
            if in_alarm is not None:
                self._present[self._topics.alarm(camera)] = ON if camera in in_alarm else OFF
            if discover:
                self._present |= discovery(self._topics, camera)
        self._connection: _Connection | None = None  # Replaced by the delivering thread only.

    def deliver(self, notice: Notification) -> None:
        """Publish the event and the alarm's state, and wait until the broker has both.

        Raises:
            DeliveryFailed: There is no connection, or no acknowledgement in time.
        """
        event = notice.event
        payload = json.dumps(event.as_json(), ensure_ascii=False)
        messages = [_Message(self._topics.event(event.camera), payload)]
        state = OFF if event.kind is EventKind.CLEARED else ON
        topic = self._topics.alarm(event.camera)
        if not notice.superseded:
            messages.append(_Message(topic, state, retain=True))
        connection = self._connection or self._connect()
        try:
            connection.publish(messages, timeout_s=self._timeout_s)
        except DeliveryFailed:
            # A new connection forgets what the old one would still send, long after the outbox
            # has decided anew; and it is tried at once, not after a pause.
            self._connect()
            raise
        if not notice.superseded:
            with self._guard:
                self._present[topic] = state

    def show_status(self, camera: str, status: Mapping[str, Any]) -> None:
        """Publish a camera's status entry, retained; an unchanged entry is not repeated.

        From any thread; never waits. Without a connection it is published on the next connect.
        """
        payload = json.dumps(status, ensure_ascii=False)
        topic = self._topics.status(camera)
        with self._guard:
            if self._present.get(topic) == payload:
                return
            self._present[topic] = payload
            if self._connection is not None:
                _tell(self._connection.client, topic, payload)

    def _greet(self, client: mqtt.Client) -> None:
        """Tell the present to a broker that may know nothing of it."""
        with self._guard:
            for topic, payload in self._present.items():
                _tell(client, topic, payload)

    def _connect(self) -> "_Connection":
        """Connect in the background, in place of the connection there may be."""
        if self._connection is not None:
            self._connection.end()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        client.username_pw_set(self._user, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.connect_timeout = self._timeout_s
        self._connection = _Connection(
            client,
            host=self._host,
            port=self._port,
            availability=self._topics.availability,
            greet=self._greet,
        )
        return self._connection

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.farewell()


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: str
    retain: bool = False


class _Connection:
    """One client of paho's, with its thread, until `end` or `farewell`.

    It connects again by itself when the connection breaks.
    """

    def __init__(
        self,
        client: mqtt.Client,
        *,
        host: str,
        port: int,
        availability: str,
        greet: Callable[[mqtt.Client], None],
    ) -> None:
        self.client = client
        self._broker = f"broker {host}:{port}"
        self._availability = availability
        self._greet = greet
        self._changed = threading.Condition()
        # All below are guarded by _changed.
        self._online = False
        self._trouble: str | None = None
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
        with self._changed:
            self._changed.wait_for(lambda: self._online or self._trouble, timeout_s)
            if not self._online:
                raise self._failure(self._trouble or f"no answer within {timeout_s:g} s")
        infos = [
            self.client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            for message in messages
        ]
        for info in infos:
            try:
                info.wait_for_publish(max(0.0, end - time.monotonic()))
                acknowledged = info.is_published()
            except (RuntimeError, ValueError):  # Paho's words for "not even sent".
                raise self._failure("the connection broke off") from None
            if not acknowledged:
                raise self._failure(f"no acknowledgement within {timeout_s:g} s")
            with self._changed:
                refused = self._refused.pop(info.mid, None)
            if refused is not None:
                raise self._failure(f"did not take the message: {refused}")

    def _failure(self, reason: str) -> DeliveryFailed:
        return DeliveryFailed(f"{self._broker}: {reason}")

    def farewell(self) -> None:
        """Say `offline`, and end."""
        with self._changed:
            online = self._online
            self._ended = True
        if online:
            with contextlib.suppress(RuntimeError, ValueError):  # The will says the same.
                info = self.client.publish(self._availability, OFFLINE, qos=1, retain=True)
                info.wait_for_publish(_FAREWELL_S)
        self.end()

    def end(self) -> None:
        """Break the connection off and wait for its thread; what was not sent is forgotten."""
        with self._changed:
            self._ended = True
        # The will is wanted unless `offline` was said; where it was, it says the same again.
        self.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=_WITH_WILL))
        # Paho's thread would wait for a broker that has fallen silent, so its socket is cut.
        _cut(self.client.socket())
        self.client.loop_stop()
        # The client has sockets of its own and closes them when it is no longer referred to, so
        # the circle between it and this object is broken.
        self.client.on_pre_connect = self.client.on_socket_open = None
        self.client.on_connect = self.client.on_connect_fail = self.client.on_disconnect = None
        self.client.on_publish = self.client.on_message = None

    # Called by paho's thread.

    def _on_pre_connect(self, _client: mqtt.Client, _data: Any) -> None:
        with self._changed:
            if self._ended:
                raise ConnectionAbortedError("ended")  # Paho takes it for a failure to connect.
            self._trouble = None

    def _on_socket_open(self, _client: mqtt.Client, _data: Any, opened: Any) -> None:
        with self._changed:
            if self._ended:
                _cut(opened)

    def _on_connect(
        self,
        client: mqtt.Client,
        _data: Any,
        _flags: mqtt.ConnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._now(online=False, trouble=_CONNECT_TROUBLE.get(code.value, str(code).lower()))
            return
        self._greet(client)
        # Another client's last will may call us offline, e.g. that of our own predecessor, which
        # a broker sends late when the machine lost its power. It is corrected.
        client.subscribe(self._availability, options=SubscribeOptions(qos=1, noLocal=True))
        self._now(online=True, trouble=None)

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        # Paho calls this while it handles the error, and does not hand it over.
        reason = network_reason(sys.exc_info()[1])
        self._now(online=False, trouble=reason or "cannot be reached")

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: Any,
        _flags: mqtt.DisconnectFlags,
        _code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._now(online=False, trouble="the connection broke off")

    def _on_publish(
        self,
        _client: mqtt.Client,
        _data: Any,
        number: int,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if code.is_failure:
            with self._changed:
                self._refused[number] = str(code).lower()

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            wrong = message.payload == OFFLINE.encode() and not self._ended
        if wrong:
            _tell(client, self._availability, ONLINE)

    def _now(self, *, online: bool, trouble: str | None) -> None:
        with self._changed:
            self._online = online
            # Being cut off follows a refusal and says less.
            self._trouble = self._trouble or trouble
            self._changed.notify_all()


def _tell(client: mqtt.Client, topic: str, payload: str) -> None:
    """Publish, retained, without waiting: what gets lost is told again at the next connection."""
    client.publish(topic, payload, qos=0, retain=True)


def _cut(opened: Any) -> None:
    """Break a connection off; its thread reads the end of it at once."""
    if opened is not None:
        with contextlib.suppress(OSError):  # It may have ended by itself.
            opened.shutdown(socket.SHUT_RDWR)
