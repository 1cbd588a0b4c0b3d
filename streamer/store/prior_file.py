"""Keeps what is usual at a camera over a restart: one small file per camera.

A memory is worth keeping, not worth stopping for: a file that cannot be read or written is told of
once, and the camera goes on.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from streamer.core.atomic_file import write_atomically
from streamer.detect.false_positive_prior import FalsePositivePrior, checked

State = dict[str, NDArray[Any]]

_FORM = 1
"""Version of the file."""

_log = structlog.get_logger(__name__)


class PriorFile:
    """The file of one camera.

    Args:
        path: The file; its folder is made when it is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told = False
        self._known = False  # Whether the file is there, as far as this program knows.

    def load(self) -> State | None:
        """State as given by `FalsePositivePrior.state`; `None` without a usable file."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                state = {name: kept[name] for name in kept.files}
            if state.pop("form", np.array(0)).tolist() != _FORM:
                raise ValueError("written by another version")  # noqa: TRY301  told of below
            checked(state)
            self._known = True
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  damage shows in a dozen ways: zlib's, zipfile's, NumPy's
            self._useless(str(error) or type(error).__name__)
            return None
        return state

    def _useless(self, why: str) -> None:
        _log.warning("forgets what is usual", file=str(self.path), why=why)

    def load_into(self, usual: FalsePositivePrior) -> None:
        """Restore a prior; `FalsePositivePrior.see` tells whether it is of this scene."""
        state = self.load()
        if state is not None:
            usual.restore(state)

    def save(self, usual: FalsePositivePrior) -> None:
        """Replace the file in one move; a kill leaves the old one or the new one.

        A file that somebody deleted meanwhile is not brought back: then the memory forgets.
        """
        if self._known and self.path.parent.is_dir() and not self.path.exists():
            self._known = False
            usual.forget()
            _log.info("forgets what is usual: its file was deleted", file=str(self.path))
            return
        state = usual.state()
        if state is None:
            return
        # Packed in memory: a disk that fills up while a ZIP file is open fails in other ways too.
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, form=np.array(_FORM), **state)
        try:
            write_atomically(self.path, packed.getbuffer())
        except OSError as error:
            if not self._told:
                _log.warning("cannot keep what is usual", file=str(self.path), why=str(error))
            self._told = True
        else:
            self._told = False
            self._known = True

    def forget(self) -> bool:
        """Delete the file; whether there was one."""
        existed = self.path.exists()
        self.path.unlink(missing_ok=True)
        return existed
