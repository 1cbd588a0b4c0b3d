"""Stores the false-positive prior of a camera across restarts, in one small file per camera.

A prior is worth keeping, but not worth stopping a camera for: if its file cannot be read or
written, a warning is logged once and the camera continues.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from streamer.core.atomic_file import write_atomically
from streamer.detect.false_positive_prior import FalsePositivePrior, check_state

State = dict[str, NDArray[Any]]

_FORMAT: Final = 2
"""Version of the file, stored under the key `form`."""

_FORMAT_1_NAMES: Final = {"view": "signatures", "taught_s": "learned_s"}
"""Arrays that format 1 stored under another name."""

_log = structlog.get_logger(__name__)


def adopt_old_folder(folder: Path) -> None:
    """Rename the folder `usual` of version 0.1 to *folder*, unless *folder* exists already."""
    old = folder.with_name("usual")
    if folder.exists() or not old.is_dir():
        return
    try:
        old.rename(folder)
    except FileNotFoundError:  # Another camera of this program was faster.
        return
    except OSError as error:
        _log.warning("false-positive priors not taken over", folder=str(old), reason=str(error))
        return
    _log.info("false-positive priors taken over", old=str(old), new=str(folder))


class PriorFile:
    """The file of one camera.

    Args:
        path: The file; its folder is created when it is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = False
        self._expected = False  # Whether the file exists, as far as this program knows.
        self._was_deleted = False

    def load(self) -> State | None:
        """Return the stored state, see `FalsePositivePrior.state`; `None` without a usable file."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                state = {name: stored[name] for name in stored.files}
            form = state.pop("form", np.array(0)).tolist()
            if form == 1:
                state = {_FORMAT_1_NAMES.get(name, name): value for name, value in state.items()}
            elif form != _FORMAT:
                raise ValueError("written by another version")  # noqa: TRY301  logged below
            check_state(state)
            self._expected = True
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  zlib, zipfile and NumPy raise a dozen types on damage
            reason = str(error) or type(error).__name__
            _log.warning("false-positive prior discarded", file=str(self.path), reason=reason)
            return None
        return state

    def load_into(self, prior: FalsePositivePrior) -> None:
        """Restore a prior; `FalsePositivePrior.select_scene` finds the scene that is shown."""
        state = self.load()
        if state is not None:
            prior.restore(state)

    def save(
        self,
        prior: FalsePositivePrior,
        *,
        write: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        """Replace the file in one step: after a kill, the old or the new one exists.

        If the file was deleted in the meantime, the prior is cleared instead of being written, at
        this or the next save.

        Args:
            prior: What was learned; its state is taken at once.
            write: Does the writing, in another thread if it likes: a sync takes 10 to 20 ms on a
                good disk and for ever on a dead one.
        """
        self._clear_if_deleted(prior)
        state = prior.state()
        if state is None:
            return
        write(lambda: self._write(state))
        self._clear_if_deleted(prior)

    def _clear_if_deleted(self, prior: FalsePositivePrior) -> None:
        if self._was_deleted:
            self._was_deleted = False
            prior.clear()
            _log.info("false-positive prior cleared: its file was deleted", file=str(self.path))

    def _write(self, state: State) -> None:
        if self._expected and self.path.parent.is_dir() and not self.path.exists():
            self._expected = False
            self._was_deleted = True
            return
        # Packed in memory: a disk that fills up while a ZIP file is open fails in other ways too.
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, form=np.array(_FORMAT), **state)
        try:
            write_atomically(self.path, packed.getbuffer())
        except OSError as error:
            if not self._warned:
                _log.warning(
                    "false-positive prior not saved", file=str(self.path), reason=str(error)
                )
            self._warned = True
        else:
            self._warned = False
            self._expected = True

    def delete(self) -> bool:
        """Delete the file; return whether there was one."""
        existed = self.path.exists()
        self.path.unlink(missing_ok=True)
        return existed
