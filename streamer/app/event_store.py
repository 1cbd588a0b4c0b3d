"""Opens the event store of the program, so that a disk in trouble is no reason not to watch."""

from functools import partial
from pathlib import Path

from streamer.store.buffered import BufferedEventStore
from streamer.store.sqlite import NoEventStore, SqliteEventStore


def open_event_store(path: Path) -> BufferedEventStore:
    """Open the store at *path*; a full, read-only, damaged or hanging disk is tried again later.

    Meanwhile events are held in memory and notified from there, and the status shows why.

    Raises:
        StorageError: A wrong configuration: the store is made for the first time and cannot be
            made, or the file is something else.
    """
    existed = path.is_file()
    store = BufferedEventStore(partial(SqliteEventStore, path), name=str(path))
    error = store.error
    if error is not None and (not existed or isinstance(error, NoEventStore)):
        store.close()
        raise error
    return store
