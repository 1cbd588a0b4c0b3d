"""A real MQTT broker, mosquitto, in its own process, and a listener that records its messages."""

import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

LIMIT_S = 20


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MqttBroker:
    """Listens on 127.0.0.1 and keeps nothing on disk. A context manager; `start` after `kill`.

    Args:
        folder: For its configuration.
        password: If given, only user `fire` with this password gets in.
        tls: Folder with `certificate.pem` and `key.pem`: only encrypted connections.
        rules: Access rules, as in mosquitto's access file.
    """

    USER = "fire"

    def __init__(
        self,
        folder: Path,
        *,
        password: str | None = None,
        tls: Path | None = None,
        rules: str | None = None,
    ) -> None:
        self.port = free_port()
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", "user root"]
        if password is None:
            lines.append("allow_anonymous true")
        else:
            users = folder / "users"
            users.write_text(f"{self.USER}:{password}\n")
            subprocess.run(["mosquitto_passwd", "-U", users], check=True, timeout=LIMIT_S)
            lines += ["allow_anonymous false", f"password_file {users}"]
        if tls is not None:
            lines += [f"certfile {tls / 'certificate.pem'}", f"keyfile {tls / 'key.pem'}"]
        if rules is not None:
            (folder / "rules").write_text(rules)
            lines.append(f"acl_file {folder / 'rules'}")
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start; returns when it listens."""
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen(
            [program, "-v", "-c", str(self._configuration)], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            if "running" in line:
                break
        else:
            raise RuntimeError(f"the broker did not start: {''.join(lines)}")
        # What it says from now on is not wanted, but must not fill the pipe.
        self._drain = threading.Thread(target=self._process.stderr.read, name="broker log")
        self._drain.start()

    def pause(self) -> None:
        """Make it fall silent while its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; it forgets all."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait(timeout=LIMIT_S)
        self._drain.join()
        assert process.stderr is not None
        process.stderr.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class MqttListener:
    """Receives every message of a broker. A context manager."""

    def __init__(self, port: int, **access: str) -> None:
        self._changed = threading.Condition()
        self.heard: list[tuple[str, str, bool]] = []
        """Topic, payload, and whether it was retained from earlier."""

        self._ready = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        if access:
            self._client.username_pw_set(**access)
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("#", qos=1)

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, message.payload.decode(), message.retain))
            self._changed.notify_all()

    def _on_subscribe(self, *_: Any) -> None:
        with self._changed:
            self._ready = True
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, LIMIT_S), f"heard {self.heard}"

    def wait_for_message(self, topic: str, payload: str) -> None:
        self.wait_for(lambda: any(each[:2] == (topic, payload) for each in self.heard))

    def on(self, topic: str) -> list[str]:
        """Payloads of a topic in order."""
        with self._changed:
            return [payload for where, payload, _ in self.heard if where == topic]

    def json_on(self, topic: str) -> list[Any]:
        return [json.loads(payload) for payload in self.on(topic)]

    def publish(self, topic: str, payload: str) -> None:
        """Publish a retained message."""
        self._client.publish(topic, payload, qos=1, retain=True).wait_for_publish(LIMIT_S)

    def __enter__(self) -> Self:
        self._client.loop_start()
        self.wait_for(lambda: self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_message = self._client.on_subscribe = None  # Or a circle keeps its sockets.
