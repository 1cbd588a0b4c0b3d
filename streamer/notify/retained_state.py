"""What a broker should hold of the program and its cameras: retained messages by topic.

Pure: status and alarms in, changes of retained messages out. `mqtt.py` publishes them.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .homeassistant import (
    OFF,
    OFFLINE,
    ON,
    ONLINE,
    UNKNOWN,
    Topics,
    discovery,
    program_discovery,
    status_discovery,
)

_WATCHED: Final = frozenset({"live", "overloaded", "unstable"})
"""States of a camera whose frames arrive and are judged; `CameraState` of `health`."""

_ABSENT: Final = 3
"""Snapshots in a row without a camera after which it counts as removed: one that is replaced is
absent for a moment."""

_COUNTS: Final = frozenset({"restarts"})
"""Keys of a status that change without a change of meaning, beside times and numbers in texts."""


_NUMBER: Final = re.compile(r"(?<![\w.-])\d+(\.\d+)?(?![\w-])")
"""A number that stands alone, such as an age; not one within a name."""


@dataclass(slots=True)
class _Camera:
    in_alarm: bool = False

    watched: bool | None = None
    """`None` before the first status."""

    meaning: Any = None
    absent: int = 0


class RetainedState:
    """The retained messages. Not thread-safe.

    Args:
        topics: Names of the topics.
        silent: Cameras whose alarms are not sent to this broker: only their status is published.
        discover: Whether to publish discovery messages for Home Assistant.
    """

    def __init__(self, topics: Topics, *, silent: Collection[str] = (), discover: bool) -> None:
        self._topics = topics
        self._silent = frozenset(silent)
        self._discover = discover
        self._cameras: dict[str, _Camera] = {}
        self._program_meaning: Any = None
        self.messages: dict[str, str] = {topics.availability: ONLINE}
        """Payloads by topic."""

        if discover:
            self.messages |= program_discovery(topics)

    def add(self, cameras: Iterable[str], *, in_alarm: Collection[str] = ()) -> set[str]:
        """Add cameras whose status is not known yet; return the topics that changed."""
        changed: set[str] = set()
        for name in cameras:
            self._cameras[name] = _Camera(in_alarm=name in in_alarm)
            if self._discover:
                known = status_discovery if name in self._silent else discovery
                for topic, payload in known(self._topics, name).items():
                    changed |= self._put(topic, payload)
            changed |= self._refresh(name)
        return changed

    def set_alarm(self, name: str, *, in_alarm: bool) -> set[str]:
        """Note that the broker has an event of a camera; return the topics that changed."""
        changed = set() if name in self._cameras else self.add([name])
        camera = self._cameras[name]
        camera.in_alarm = in_alarm
        if camera.watched is None:  # An event comes from frames.
            camera.watched = True
        return changed | self._refresh(name)

    def alarm_payload(self, name: str, *, in_alarm: bool) -> str:
        """Return what the alarm topic of a camera shows."""
        camera = self._cameras.get(name)
        if in_alarm:
            return ON
        return UNKNOWN if camera is not None and camera.watched is False else OFF

    def show_cameras(self, statuses: Mapping[str, Mapping[str, Any]]) -> tuple[set[str], set[str]]:
        """Take the status of every present camera; return the topics that changed, and those gone.

        A status is published anew when its meaning has changed, not with every change of a number.
        """
        gone: set[str] = set()
        for name in [name for name in self._cameras if name not in statuses]:
            self._cameras[name].absent += 1
            if self._cameras[name].absent >= _ABSENT:
                gone |= self._remove(name)
        changed = self.add([name for name in statuses if name not in self._cameras])
        for name, status in statuses.items():
            camera = self._cameras[name]
            camera.absent = 0
            camera.watched = status.get("state") in _WATCHED
            meaning = _meaning(status)
            if camera.meaning != meaning:
                camera.meaning = meaning
                payload = json.dumps(status, ensure_ascii=False)
                changed |= self._put(self._topics.status(name), payload)
            changed |= self._refresh(name)
        return changed, gone

    def show_program(self, entry: Mapping[str, Any]) -> set[str]:
        """Take the status of the program; return the topics that changed."""
        meaning = _meaning(entry)
        if self._program_meaning == meaning:
            return set()
        self._program_meaning = meaning
        return self._put(self._topics.program, json.dumps(entry, ensure_ascii=False))

    def _refresh(self, name: str) -> set[str]:
        """Bring alarm and availability of a camera up to date; return the topics that changed."""
        if name in self._silent:
            return set()
        camera = self._cameras[name]
        state = ON if camera.in_alarm else OFF if camera.watched else UNKNOWN
        # An open alarm stays visible: a fire may be why the camera is gone.
        available = ONLINE if camera.watched or camera.in_alarm else OFFLINE
        changed = self._put(self._topics.camera_availability(name), available)
        return changed | self._put(self._topics.alarm(name), state)

    def _remove(self, name: str) -> set[str]:
        del self._cameras[name]
        topics = self._topics
        gone = {topics.alarm(name), topics.status(name), topics.camera_availability(name)}
        gone |= discovery(topics, name).keys()
        gone &= self.messages.keys()
        for topic in gone:
            del self.messages[topic]
        return gone

    def _put(self, topic: str, payload: str) -> set[str]:
        if self.messages.get(topic) == payload:
            return set()
        self.messages[topic] = payload
        return {topic}


def _meaning(entry: Mapping[str, Any]) -> Any:
    """Return what of a status matters: without times, counts, and the numbers within texts."""
    return {
        key: _masked(value)
        for key, value in entry.items()
        if key not in _COUNTS and not key.endswith("_utc")
    }


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _NUMBER.sub("0", value)
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    return value
