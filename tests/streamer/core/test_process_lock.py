import pytest

from streamer.core.errors import StorageError
from streamer.core.process_lock import ProcessLock


def test_one_lock_at_a_time_is_held_within_a_process_too(tmp_path):
    first, second = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire(), "it is held already"
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    second.release()


def test_a_lock_that_cannot_be_made_is_an_error_with_its_path(tmp_path):
    lock = ProcessLock(tmp_path / "no folder" / "lock")
    with pytest.raises(StorageError, match=r"no folder/lock: cannot be locked \(No such file"):
        lock.acquire()
