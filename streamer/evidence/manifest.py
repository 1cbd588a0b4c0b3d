"""The manifest of an evidence folder: size and SHA-256 of every complete file."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from streamer.core.atomic_file import PART, write_atomically

MANIFEST: Final = "manifest.json"


def seal(folder: Path, *, changed: Collection[str] | None = None) -> None:
    """Write the manifest of all complete files in *folder*, replacing an older one.

    Args:
        folder: The folder.
        changed: Names of the files that were written since the last time: the others keep the
            digest that the manifest has, and are not read again. `None` reads all.

    Raises:
        OSError: As the system gave it.
    """
    known = {} if changed is None else _sealed(folder)
    files = {
        path.name: known[path.name]
        if path.name in known and path.name not in (changed or ())
        else {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST and path.suffix != PART
    }
    text = json.dumps({"version": 1, "files": files}, indent=1, sort_keys=True)
    write_atomically(folder / MANIFEST, f"{text}\n".encode())


def _sealed(folder: Path) -> dict[str, Any]:
    """Return the entries of the present manifest; none if it cannot be read."""
    try:
        return dict(json.loads((folder / MANIFEST).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def verify(folder: Path) -> list[str]:
    """Return what differs from the manifest of *folder*, a line each; empty if nothing does."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        digests = {name: sealed["sha256"] for name, sealed in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST}: cannot be read ({error})"]
    wrong = []
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name}: missing")
        elif _digest(path) != digest:
            wrong.append(f"{name}: changed since it was sealed")
    return wrong


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
