"""Completes the evidence folders that a killed program left with parts in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from streamer.core.atomic_file import PART, write_atomically
from streamer.core.errors import StorageError
from streamer.recording.recovery import recover_part

from .manifest import seal
from .writer import as_json

_log = structlog.get_logger(__name__)

_CLIP: Final = "clip"
_FACTS: Final = "clip.json"


def recover_evidence(root: Path, *, stop: Callable[[], bool] = lambda: False) -> int:
    """Complete the clips among the parts below *root*, remove all other parts, and seal anew.

    Nothing may be writing there.

    Args:
        root: Holds the folders of the cameras.
        stop: Called before each folder: whether to leave the rest.

    Returns:
        How many folders were completed.
    """
    folders = sorted({part.parent for part in root.glob(f"*/*/*{PART}")})
    done = 0
    for folder in folders:
        if stop():
            break
        try:
            recover_folder(folder)
        except (OSError, StorageError) as error:  # The others may be better off.
            _log.warning("evidence not recovered", folder=str(folder), reason=str(error))
        else:
            done += 1
    return done


def recover_folder(folder: Path) -> None:
    """Complete the clip in *folder* and seal it anew, if there is anything in it.

    Raises:
        OSError: As the system gave it.
        StorageError: A part cannot be completed.
    """
    if not folder.is_dir():
        return
    for part in sorted(folder.glob(f"*{PART}")):
        # Stills and texts are written in one piece: a part of one is of no use.
        path = part.with_suffix("")
        is_clip = path.name.startswith(_CLIP) and path.name != _FACTS
        kept = is_clip and recover_part(part, path)
        if not kept:
            part.unlink(missing_ok=True)
        _log.info("evidence recovered" if kept else "part removed", path=str(part))
    clips = sorted(path.name for path in folder.glob(f"{_CLIP}*") if path.name != _FACTS)
    if clips and not (folder / _FACTS).exists():
        reason = "the program ended while it was written"
        facts = {"files": clips, "complete": False, "reason": reason}
        write_atomically(folder / _FACTS, as_json(facts))
    seal(folder)
