"""Finds the program that runs on the same data folder or port, and asks it for its status."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streamer.core.listening import for_url
from streamer.core.process_lock import ProcessLock

if TYPE_CHECKING:
    from streamer.config import Config

_TIMEOUT_S: Final = 5.0
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not listened on


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """What is known of a program that runs beside this one."""

    holder: str = ""
    """Process that uses the data folder, in words; empty if there is none."""

    status: dict[str, Any] | None = None
    """The program status that it serves."""

    refusal: str = ""
    """Why it serves no status, on one line; empty if it does, or nothing answers as HTTP."""

    @property
    def found(self) -> bool:
        """Whether there is a program of this configuration."""
        return bool(self.holder) or self.status is not None


def find_running(config: "Config") -> RunningProgram:
    """Find a program that uses the data folder or the preview's address of *config*."""
    holder = ""
    if _is_locked(config.lock_file):
        holder = ProcessLock(config.lock_file).holder() or "unknown"
    if not config.preview.enabled:
        return RunningProgram(holder)
    status, refusal = _ask(config)
    return RunningProgram(holder, status, refusal)


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock file; trying to lock it could refuse one that starts."""
    try:
        inode = path.stat().st_ino
        locks = Path("/proc/locks").read_text()
    except OSError:
        return False
    return any("FLOCK" in line and f":{inode} " in line for line in locks.splitlines())


def _ask(config: "Config") -> tuple[dict[str, Any] | None, str]:
    """Return the status that is served at the preview's address, or why none is."""
    import httpx

    preview = config.preview
    host = _EVERY_ADDRESS.get(preview.host, preview.host)
    headers = {}
    if preview.token is not None:
        headers["Authorization"] = f"Bearer {preview.token.get_secret_value()}"
    url = f"http://{for_url(host)}:{preview.port}/status"
    try:
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            response = client.get(url, headers=headers)
    except httpx.TimeoutException:
        return None, f"a program listens there and does not answer within {_TIMEOUT_S:g} s"
    except (httpx.HTTPError, httpx.InvalidURL):
        return None, ""  # Nothing listens, or it does not speak HTTP.
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return None, "a program answers there and refuses the token"
    try:
        found = response.json()
    except ValueError:
        line = " ".join(response.text.split())[:200]
        return None, f"a program answers there: {response.status_code} {line}"
    if isinstance(found, dict) and {"version", "problems"} <= found.keys():
        return found, ""
    return None, "another program answers there"
