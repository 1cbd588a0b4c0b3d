"""Opens the event store of the program, so that a disk in trouble is no reason not to watch."""

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
    existed: list[bool] = []  # Looked up where the disk may hang: in the thread of the store.

    def opened() -> SqliteEventStore:
        if not existed:
            existed.append(path.is_file())
        return SqliteEventStore(path)

    store = BufferedEventStore(opened, name=str(path))
    error = store.error
    if error is not None and (existed == [False] or isinstance(error, NoEventStore)):
        store.close()
        raise error
    return store
