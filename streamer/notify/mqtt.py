"""MQTT: events to a broker, acknowledged (QoS 1), with a last will and retained state.

An event and the state of its alarm are published with QoS 1, and the acknowledgement is awaited.
Availability, discovery and status describe the present only: they are published again at each
connection, because the broker may have lost them.
"""

import json
import ssl
import threading
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from .channel import DeliveryFailed, Notification
from .homeassistant import Topics
from .mqtt_connection import Connection, Message, publish_state
from .published_topics import PublishedTopics
from .retained_state import RetainedState


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
        cameras: Names of the cameras.
        silent: Those of them whose alarms this channel does not get.
        in_alarm: Cameras of which an alarm is open, by the event store.
        discover: Whether to publish discovery messages for Home Assistant.
        announce: Whether to publish availability, states and discovery; a program that only sends
            a test message beside a running one does not.
        published: Remembers the topics, so that those of cameras that are gone are cleared.
        timeout_s: Longest time for an attempt.
        allow_link_local: Whether link-local and metadata addresses may be reached.
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
        cameras: Collection[str] = (),
        silent: Collection[str] = (),
        in_alarm: Collection[str] = (),
        discover: bool = True,
        announce: bool = True,
        published: PublishedTopics | None = None,
        timeout_s: float = 10.0,
        allow_link_local: bool = False,
    ) -> None:
        self.name = name
        self._host = host
        self._port = port or (1883 if tls is None else 8883)
        self._user = user
        self._password = password
        self._tls = tls
        self._timeout_s = timeout_s
        self._allow_link_local = allow_link_local
        self._topics = Topics(base_topic)
        self._announce = announce
        self._published = published or PublishedTopics(None)
        self._broker = f"{host}:{self._port}"
        self._client_id = f"streamer-{uuid.uuid4().hex[:16]}"
        self._guard = threading.Lock()
        # Guarded by _guard. Its messages are published under the guard too, so that no old value is
        # published after a new one.
        self._state = RetainedState(self._topics, silent=silent, discover=discover)
        if announce:
            self._state.add(cameras, in_alarm=in_alarm)
            self._published.use(self._broker, self._state.messages)
        self._connection: Connection | None = None  # Replaced by the delivering thread only.

    def deliver(self, notification: Notification) -> None:
        """Publish the event and the alarm's state, and wait until the broker has both.

        Raises:
            DeliveryFailed: There is no connection, or no acknowledgement in time.
        """
        camera, in_alarm = notification.camera, notification.in_alarm
        topic = self._topics.notification if camera is None else self._topics.event(camera)
        messages = [Message(topic, json.dumps(notification.payload, ensure_ascii=False))]
        if camera is not None and in_alarm is not None:
            with self._guard:
                state = self._state.alarm_payload(camera, in_alarm=in_alarm)
            messages.append(Message(self._topics.alarm(camera), state, retain=True))
        connection = self._connection or self._connect()
        try:
            connection.publish(messages, timeout_s=self._timeout_s)
        except DeliveryFailed:
            # A new connection drops what the old one would still send, long after the outbox has
            # rescheduled it; and it connects at once, not after a delay. One that is still being
            # made has nothing to send.
            if not connection.is_connecting:
                self._connect()
            raise
        if camera is not None and in_alarm is not None and self._announce:
            with self._guard:
                changed = self._state.set_alarm(camera, in_alarm=in_alarm)
            self._publish(changed - {self._topics.alarm(camera)})

    def check(self) -> bool:
        """Wait for the connection, which stays open between notifications.

        Raises:
            DeliveryFailed: There is none, and why.
        """
        (self._connection or self._connect()).wait_online(timeout_s=self._timeout_s)
        return True

    def show_cameras(self, cameras: Mapping[str, Mapping[str, Any]]) -> None:
        """Publish the status of every camera where its meaning has changed; see `ShowsStatus`."""
        with self._guard:
            changed, gone = self._state.show_cameras(cameras)
        self._publish(changed)
        if gone:
            self._published.release(self._broker, gone)
            connection = self._connection
            if connection is not None:
                connection.clear(gone)

    def show_program(self, entry: Mapping[str, Any]) -> None:
        """Publish the status of the program where its meaning has changed; see `ShowsStatus`."""
        with self._guard:
            changed = self._state.show_program(entry)
        self._publish(changed)

    def _publish(self, topics: Collection[str]) -> None:
        """Publish retained messages that changed; without a connection the next one does."""
        if not topics or not self._announce:
            return
        self._published.use(self._broker, topics)
        with self._guard:
            connection = self._connection
            for topic in topics:
                payload = self._state.messages.get(topic)
                if connection is not None and payload is not None:
                    publish_state(connection.client, topic, payload)

    def _publish_all(self, connection: Connection) -> None:
        """Publish all retained messages, and clear what is gone, at each connection."""
        if not self._announce:
            return
        with self._guard:
            for topic, payload in self._state.messages.items():
                publish_state(connection.client, topic, payload)
        stale = self._published.stale(self._broker)
        if stale:
            connection.clear(stale)

    def _connect(self) -> Connection:
        """Connect in the background, replacing the connection if there is one."""
        if self._connection is not None:
            self._connection.end()
        version, protocol = CallbackAPIVersion.VERSION2, MQTTProtocolVersion.MQTTv5
        client = mqtt.Client(version, client_id=self._client_id, protocol=protocol)
        client.username_pw_set(self._user, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.connect_timeout = self._timeout_s
        self._connection = Connection(
            client,
            host=self._host,
            port=self._port,
            availability=self._topics.availability if self._announce else None,
            allow_link_local=self._allow_link_local,
            on_online=self._publish_all,
            on_cleared=lambda topics: self._published.forget(self._broker, topics),
        )
        return self._connection

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.goodbye()
