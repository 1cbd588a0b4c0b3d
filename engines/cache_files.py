"""The user's cache folder for engines, and files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return `$STREAMER_CACHE`, else `streamer` in the user's cache folder."""
    if named := os.environ.get("STREAMER_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer"


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
