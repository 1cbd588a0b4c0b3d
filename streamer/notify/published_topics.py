"""Remembers which retained topics this program has published, so that it can clear them later.

A broker keeps a retained message for ever. A camera that is renamed or removed while the program
does not run would stay in Home Assistant, in alarm and online, as long as the broker lives. Only
what this program itself has published is ever cleared: another program may use the same broker.
"""

import json
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from streamer.core.atomic_file import write_atomically
from streamer.core.uninterruptible import TooManyCalls, UninterruptibleCalls

_log = structlog.get_logger(__name__)

_DISK_S: Final = 1.0
"""Longest wait for the disk, which may hang: messages are published without it."""

_HANGS: Final = "the disk does not answer"

_DISK: Final = UninterruptibleCalls("published topics", limit=1)


class PublishedTopics:
    """The topics by broker. For any thread; a failure of the disk is only logged, once.

    Args:
        path: The file; `None` remembers nothing beyond this run.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._remembered: dict[str, set[str]] = {} if path is None else _load(path)
        self._in_use: dict[str, set[str]] = {}
        self._warned = False

    def use(self, broker: str, topics: Collection[str]) -> None:
        """Remember *topics*, which are published from now on; on disk when this returns."""
        with self._lock:
            self._in_use.setdefault(broker, set()).update(topics)
            remembered = self._remembered.setdefault(broker, set())
            changed = not remembered.issuperset(topics)
            remembered.update(topics)
        if changed:
            self._save()

    def release(self, broker: str, topics: Collection[str]) -> None:
        """Note that *topics* are not published any more: they are to be cleared."""
        with self._lock:
            self._in_use.setdefault(broker, set()).difference_update(topics)

    def stale(self, broker: str) -> list[str]:
        """Return what was published once and is not any more, and has not been cleared."""
        with self._lock:
            left = self._remembered.get(broker, set()) - self._in_use.get(broker, set())
            return sorted(left)

    def forget(self, broker: str, topics: Collection[str]) -> None:
        """Note that the broker has cleared *topics*."""
        with self._lock:
            in_use = self._in_use.get(broker, set())
            self._remembered.get(broker, set()).difference_update(set(topics) - in_use)
        self._save()

    def _save(self) -> None:
        path = self._path
        if path is None:
            return
        with self._lock:
            kept = {broker: sorted(topics) for broker, topics in self._remembered.items() if topics}
        content = json.dumps(kept, ensure_ascii=False, indent=1).encode()
        try:
            _DISK.call(lambda: write_atomically(path, content), timeout_s=_DISK_S)
        except (OSError, TooManyCalls) as error:  # A `TimeoutError` is an `OSError`.
            if not self._warned:
                reason = str(error) or _HANGS
                _log.warning("published topics not remembered", file=str(path), error=reason)
            self._warned = True


def _load(path: Path) -> dict[str, set[str]]:
    try:
        found = json.loads(_DISK.call(path.read_bytes, timeout_s=_DISK_S))
        return {str(broker): set(map(str, topics)) for broker, topics in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, TooManyCalls) as error:
        reason = str(error) or _HANGS
        _log.warning("published topics cannot be read", file=str(path), error=reason)
        return {}
