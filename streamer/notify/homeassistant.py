"""MQTT topics, and the discovery messages for Home Assistant."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from streamer import __version__

ONLINE: Final = "online"
OFFLINE: Final = "offline"
ON: Final = "ON"
OFF: Final = "OFF"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one instance of the program."""

    base: str
    """First part of all topics; unique for each instance of the program."""

    @property
    def availability(self) -> str:
        """`online`, or by the last will `offline`; retained."""
        return f"{self.base}/availability"

    @property
    def notification(self) -> str:
        """Messages about the program itself as JSON: tests, channels that are down."""
        return f"{self.base}/notification"

    def event(self, camera: str) -> str:
        """Each event as JSON; not retained."""
        return f"{self.base}/{_level(camera)}/event"

    def alarm(self, camera: str) -> str:
        """`ON` or `OFF`; retained."""
        return f"{self.base}/{_level(camera)}/alarm"

    def status(self, camera: str) -> str:
        """The camera's health as JSON; retained."""
        return f"{self.base}/{_level(camera)}/status"


def discovery(topics: Topics, camera: str) -> dict[str, str]:
    """Return retained messages by topic that make *camera* a device with its alarm and status."""
    device = _identifier(f"{topics.base}/{camera}")
    common: dict[str, Any] = {
        "availability_topic": topics.availability,
        "device": {
            "identifiers": [device],
            "name": camera,
            "manufacturer": "streamer",
            "model": "camera",
            "sw_version": __version__,
        },
        "origin": {"name": "streamer", "sw_version": __version__},
    }
    alarm = {
        **common,
        "name": "Smoke",
        "unique_id": f"{device}_alarm",
        "device_class": "smoke",
        "state_topic": topics.alarm(camera),
        "payload_on": ON,
        "payload_off": OFF,
        "json_attributes_topic": topics.event(camera),
        "qos": 1,
    }
    status = {
        **common,
        "name": "Status",
        "unique_id": f"{device}_status",
        "entity_category": "diagnostic",
        "state_topic": topics.status(camera),
        "value_template": "{{ value_json.state }}",
        "json_attributes_topic": topics.status(camera),
        "qos": 1,
    }
    return {
        f"homeassistant/binary_sensor/{device}/alarm/config": json.dumps(alarm),
        f"homeassistant/sensor/{device}/status/config": json.dumps(status),
    }


def _level(name: str) -> str:
    """Return a name as one level of a topic, in which `/`, `+` and `#` are escaped."""
    return quote(name, safe="")


def _identifier(name: str) -> str:
    """Return a unique identifier of the characters that Home Assistant accepts."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) + "_" + digest
