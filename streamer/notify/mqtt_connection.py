"""One connection to an MQTT broker: online or not and why, acknowledged publishing, a clean end."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamer.core.destinations import check_address
from streamer.core.errors import ForbiddenDestination
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

from .channel import DeliveryFailed
from .homeassistant import OFFLINE, ONLINE
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

_GOODBYE_S: Final = 0.5
"""Longest wait for the acknowledgement of `offline` when the program ends."""

_ENDING_S: Final = 0.5
"""Longest wait for the thread of a client that ends; name resolution may hold it for longer."""

_ENDINGS: Final = UninterruptibleCalls("mqtt", limit=8)


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    topic: str
    payload: str
    retain: bool = False


class Connection:
    """One paho client with its thread, until `end` or `goodbye`.

    It reconnects by itself when the connection breaks.

    Args:
        client: Not connected yet.
        host: Host of the broker.
        port: Port of the broker.
        availability: Topic of the last will; `None` announces nothing, as for a test message.
        allow_link_local: Whether link-local and metadata addresses may be reached.
        on_online: Called in the thread of the client at each connection.
        on_cleared: Called with each topic that the broker has cleared.
    """

    def __init__(
        self,
        client: mqtt.Client,
        *,
        host: str,
        port: int,
        availability: str | None,
        allow_link_local: bool,
        on_online: "Callable[[Connection], None]",
        on_cleared: Callable[[Collection[str]], None],
    ) -> None:
        self.client = client
        self._broker = f"broker {host}:{port}"
        self._availability = availability
        self._allow_link_local = allow_link_local
        self._on_online = on_online
        self._on_cleared = on_cleared
        self._changed = threading.Condition()
        # All below are guarded by _changed.
        self._online = False
        self._error: str | None = None
        self._ended = False
        self._connecting = False
        self._refused: dict[int, str] = {}  # Reasons, by message number.
        self._clearing: dict[int, str] = {}  # Topics, by message number.
        self._cleared: list[str] = []
        self._early: set[int] | None = None  # Acknowledged while `clear` publishes.

        client.on_pre_connect = self._on_pre_connect
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        if availability is not None:
            client.will_set(availability, OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(*_RECONNECT_S)
        client.connect_async(host, port, keepalive=_KEEPALIVE_S)
        client.loop_start()

    def publish(self, messages: Sequence[Message], *, timeout_s: float) -> None:
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

    @property
    def is_connecting(self) -> bool:
        """Whether an attempt to connect is under way, name resolution included."""
        with self._changed:
            return self._connecting

    def clear(self, topics: Collection[str]) -> None:
        """Clear retained messages without waiting; `on_cleared` gets what the broker confirms."""
        with self._changed:
            if not self._online and not self._connecting:
                return  # The next connection clears them.
            self._early = set()
        # Not under the lock: the client holds a lock of its own when it calls `_on_publish`.
        sent = [(self.client.publish(each, b"", qos=1, retain=True).mid, each) for each in topics]
        with self._changed:
            self._clearing |= {number: each for number, each in sent if number not in self._early}
            self._cleared += [each for number, each in sent if number in self._early]
            self._early = None
        self._report_cleared()

    def _report_cleared(self) -> None:
        with self._changed:
            cleared = [] if self._clearing else self._cleared
            if cleared:
                self._cleared = []
        if cleared:
            self._on_cleared(cleared)

    def goodbye(self) -> None:
        """Publish `offline`, and end."""
        with self._changed:
            online = self._online
            self._ended = True
        if online and self._availability is not None:
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
        with contextlib.suppress(TimeoutError, TooManyCalls):
            _ENDINGS.call(self.client.loop_stop, timeout_s=_ENDING_S)
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
            self._connecting = True

    def _on_socket_open(self, _client: mqtt.Client, _data: Any, opened: Any) -> None:
        with self._changed:
            if self._ended:
                _shut_down(opened)
        if not self._allow_link_local:
            try:
                check_address(_remote_address(opened))
            except ForbiddenDestination as error:
                self._set_state(online=False, error=str(error))
                _shut_down(opened)

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, code: ReasonCode, *_more: Any
    ) -> None:
        if code.is_failure:
            self._set_state(online=False, error=_CONNECT_ERRORS.get(code.value, str(code).lower()))
            return
        self._on_online(self)
        # The last will of an earlier run may publish `offline` late, e.g. when the machine lost its
        # power. `online` is then published again.
        if self._availability is not None:
            options = SubscribeOptions(qos=1, noLocal=True)
            client.subscribe(self._availability, options=options)
        self._set_state(online=True, error=None)

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        # Paho calls this while it handles the error, and does not pass it.
        reason = network_reason(sys.exc_info()[1])
        self._set_state(online=False, error=reason or "cannot be reached")

    def _on_disconnect(self, *_: object) -> None:
        self._set_state(online=False, error="the connection was lost")

    def _on_publish(self, _: Any, _data: Any, number: int, code: ReasonCode, *_more: Any) -> None:
        with self._changed:
            topic = self._clearing.pop(number, None)
            if code.is_failure and topic is None:
                self._refused[number] = str(code).lower()
            elif not code.is_failure and topic is not None:
                self._cleared.append(topic)
            elif not code.is_failure and self._early is not None:
                self._early.add(number)
        if topic is not None:
            self._report_cleared()

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            wrong = message.payload == OFFLINE.encode() and not self._ended
        if wrong and self._availability is not None:
            publish_state(client, self._availability, ONLINE)

    def _set_state(self, *, online: bool, error: str | None) -> None:
        with self._changed:
            self._online = online
            self._connecting = False
            # The end of the connection follows a refusal and is less specific.
            self._error = self._error or error
            self._changed.notify_all()


def publish_state(client: mqtt.Client, topic: str, payload: str) -> None:
    """Publish a retained message without waiting; a lost one is sent with the next connection."""
    client.publish(topic, payload, qos=0, retain=True)


def _remote_address(opened: Any) -> str:
    """Return the address of the other end; empty if it is closed already, or is no Internet one."""
    try:
        address = opened.getpeername()
    except OSError:
        return ""
    return str(address[0]) if address else ""


def _shut_down(opened: Any) -> None:
    """Shut a socket down: the thread that reads from it sees its end at once."""
    if opened is not None:
        with contextlib.suppress(OSError):  # It may have ended by itself.
            opened.shutdown(socket.SHUT_RDWR)
