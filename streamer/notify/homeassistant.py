"""MQTT topics and payloads, and the discovery messages for Home Assistant."""

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

UNKNOWN: Final = "None"
"""State of the alarm of a camera that is not watched: Home Assistant shows it as unknown."""


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
    def program(self) -> str:
        """Status of the program as JSON, with its problems; retained."""
        return f"{self.base}/status"

    @property
    def notification(self) -> str:
        """Messages about the program itself as JSON: tests, channels that are down."""
        return f"{self.base}/notification"

    def event(self, camera: str) -> str:
        """Each event as JSON; not retained."""
        return f"{self.base}/{_level(camera)}/event"

    def alarm(self, camera: str) -> str:
        """`ON`, `OFF`, or `None` while the camera is not watched; retained."""
        return f"{self.base}/{_level(camera)}/alarm"

    def camera_availability(self, camera: str) -> str:
        """`online` while the camera is watched or an alarm of it is open; retained."""
        return f"{self.base}/{_level(camera)}/availability"

    def status(self, camera: str) -> str:
        """The camera's health as JSON; retained."""
        return f"{self.base}/{_level(camera)}/status"


def discovery(topics: Topics, camera: str) -> dict[str, str]:
    """Return retained messages by topic that make *camera* a device with its alarm and status."""
    device = _identifier(f"{topics.base}/{camera}")
    common = _common(device, camera, "camera")
    alarm = {
        **common,
        # Without frames there is no alarm state: neither ON nor OFF would be true.
        "availability": [
            {"topic": topics.availability},
            {"topic": topics.camera_availability(camera)},
        ],
        "availability_mode": "all",
        "name": "Smoke",
        "unique_id": f"{device}_alarm",
        "device_class": "smoke",
        "state_topic": topics.alarm(camera),
        "payload_on": ON,
        "payload_off": OFF,
        "json_attributes_topic": topics.event(camera),
        "qos": 1,
    }
    return {f"homeassistant/binary_sensor/{device}/alarm/config": json.dumps(alarm)} | (
        status_discovery(topics, camera)
    )


def status_discovery(topics: Topics, camera: str) -> dict[str, str]:
    """Return the part of `discovery` that is about the status, for cameras without alarms here."""
    device = _identifier(f"{topics.base}/{camera}")
    status = {
        **_common(device, camera, "camera"),
        "availability_topic": topics.availability,
        "name": "Status",
        "unique_id": f"{device}_status",
        "entity_category": "diagnostic",
        "state_topic": topics.status(camera),
        "value_template": "{{ value_json.state }}",
        "json_attributes_topic": topics.status(camera),
        "qos": 1,
    }
    return {f"homeassistant/sensor/{device}/status/config": json.dumps(status)}


def program_discovery(topics: Topics) -> dict[str, str]:
    """Return retained messages by topic that make the program a device with its problems."""
    device = _identifier(topics.base)
    problem = {
        **_common(device, f"streamer ({topics.base})", "program"),
        "availability_topic": topics.availability,
        "name": "Problem",
        "unique_id": f"{device}_problem",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "state_topic": topics.program,
        "value_template": f"{{{{ '{ON}' if value_json.problems else '{OFF}' }}}}",
        "json_attributes_topic": topics.program,
        "qos": 1,
    }
    return {f"homeassistant/binary_sensor/{device}/problem/config": json.dumps(problem)}


def _common(device: str, name: str, model: str) -> dict[str, Any]:
    return {
        "device": {
            "identifiers": [device],
            "name": name,
            "manufacturer": "streamer",
            "model": model,
            "sw_version": __version__,
        },
        "origin": {"name": "streamer", "sw_version": __version__},
    }


def _level(name: str) -> str:
    """Return a name as one level of a topic, in which `/`, `+` and `#` are escaped."""
    return quote(name, safe="")


def _identifier(name: str) -> str:
    """Return a unique identifier of the characters that Home Assistant accepts."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) + "_" + digest
