"""The user's cache folder for engines, and files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return `$STREAMER_CACHE`, else `streamer` in the user's cache folder.

    For a user without a home folder, or with one that cannot be written, it is a folder of this
    user below the system's folder of temporary files.
    """
    if named := os.environ.get("STREAMER_CACHE"):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "streamer"
    try:
        home = Path.home() / ".cache" / "streamer"
    except RuntimeError:  # Neither HOME nor an entry in the list of users.
        home = None
    if home is not None and _can_be_made(home):
        return home
    return _temporary() or home or Path("/nonexistent/streamer")


def _can_be_made(folder: Path) -> bool:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _temporary() -> Path | None:
    """Return the folder of this user for temporary files; `None` if there cannot be one.

    Its content is trusted, so it must not have been made by another user.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"streamer-cache-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return None
    is_private = facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
    return folder if is_private and stat.S_ISDIR(facts.st_mode) else None


def write_atomically(path: Path, *pieces: bytes) -> None:
    """Write a file under another name, sync it and rename it.

    Raises:
        OSError: The file cannot be written; nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
