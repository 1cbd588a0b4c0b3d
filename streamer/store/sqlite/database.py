"""Opening a SQLite file safely, transactions, and errors that say what to do.

All threads share one connection behind a lock: each use takes milliseconds, and one connection is
closed in one place. Other processes use connections of their own.

The file and its side files are readable by their owner only: events say where and when a camera saw
what, and deliveries which channels exist.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from streamer.core.errors import StorageError
from streamer.store.reserve import DiskReserve

from .migrations import APPLICATION_ID, MIGRATIONS, migration_parameters

_OLDEST_SQLITE: Final = (3, 37, 0)
"""The first version with STRICT tables."""

_BUSY_S: Final = 10.0
"""Longest wait for another process; this program holds the lock for milliseconds. Arbitrary."""

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: allow this user to write the file and its folder",
    sqlite3.SQLITE_PERM: "access is denied: allow this user to write the file and its folder",
    sqlite3.SQLITE_BUSY: "another program holds its lock: close that program",
    sqlite3.SQLITE_LOCKED: "another program holds its lock: close that program",
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened: check that it is a file, and that this user may write its folder"
    ),
    sqlite3.SQLITE_IOERR: "the disk fails or is full: check it, and free some space",
    sqlite3.SQLITE_CORRUPT: (
        "it is damaged: move it aside together with its -wal and -shm files;"
        " `sqlite3 FILE .recover` reads what can be saved"
    ),
    sqlite3.SQLITE_NOTADB: "it is no event store: move it aside, or name another file",
}
_PRIMARY_CODE: Final = 0xFF
"""The lowest byte of an extended error code is the primary one."""

_OUT_OF_SPACE: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})

Parameters = Mapping[str, Any]


class NoEventStore(StorageError):  # noqa: N818  states a fact
    """The file is something else than an event store of this program: a wrong configuration."""


class Database:
    """An open SQLite file; with *create* a missing one is made with its folder.

    With *read_only* nothing is written, not even side files where the disk takes none, and a store
    of an older version is migrated in memory.

    Raises:
        StorageError: It cannot be used; the message says what to do.
    """

    def __init__(self, path: Path, *, create: bool, read_only: bool = False) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise StorageError(
                f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed"
            )
        self.path = path
        self.data_dir = path.absolute().parent
        """Folder that stored paths are relative to."""
        self.read_only = read_only
        self.reserve = DiskReserve(path.with_name(f"{path.name}.reserve"))
        """Space that is given to this file when the disk is full."""
        self._guard = threading.Lock()
        self._undo = contextlib.ExitStack()  # Guarded by _guard.
        self._identity: tuple[int, int] | None = None
        self._prepare_folder(create=create)
        if not read_only:
            self.reserve.make_room()
            _make_private(path)
        with self.translated():
            self._connection = self._connect_read_only() if read_only else _connect(str(path))
        try:
            if read_only:
                self._check_kind()
                self._migrate_copy()
            else:
                self._open()
                self.reserve.refill()
                self._identity = self._present_identity()
        except BaseException:
            self.close()
            raise

    def _prepare_folder(self, *, create: bool) -> None:
        if not create:
            if not self.path.is_file():
                raise StorageError(f"event store {self.path}: there is no such file")
            return
        try:
            self.path.parent.parent.mkdir(parents=True, exist_ok=True)
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"event store {self.path}: its folder cannot be made ({error.strerror})"
            ) from error

    def _connect_read_only(self) -> sqlite3.Connection:
        """Open for reading, in the way that the disk allows."""
        uri = self.path.absolute().as_uri()
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            return _connect_and_read(f"{uri}?mode=ro")
        except sqlite3.OperationalError:
            # The side files cannot be made: the disk is read-only or full. Without a log of
            # changes the file itself is complete; with one, both are copied to where there is room.
            if not log.is_file() or not log.stat().st_size:
                return _connect_and_read(f"{uri}?mode=ro&immutable=1")
        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory()))
        for file in (self.path, log):
            shutil.copyfile(file, folder / file.name)
        return _connect_and_read((folder / self.path.name).as_uri())

    def _migrate_copy(self) -> None:
        """Read a store of an older version from a migrated copy in memory."""
        with self.translated():
            version = self._pragma("user_version")
            if version == len(MIGRATIONS):
                return
            copy = _connect(":memory:")
            self._connection.backup(copy)
            self._connection.close()
            self._connection = copy
            for statement in (one for migration in MIGRATIONS[version:] for one in migration):
                copy.execute(statement, migration_parameters(self.data_dir))

    def _open(self) -> None:
        with self.translated():
            self._check()
            # In this order: a database of another program must stay as it is.
            # Has an effect on a new file only, and only before its journal mode is set: deleted
            # events give their pages back to the disk.
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            mode = self._pragma("journal_mode = WAL")
            if mode != "wal":
                raise StorageError(
                    f"event store {self.path}: its file system cannot share memory between"
                    " programs: put the store on a local disk"
                )
            for setting in (
                "synchronous = FULL",  # A commit is on the disk when it returns.
                "fullfsync = ON",  # On a Mac as well.
                "foreign_keys = ON",
                "wal_autocheckpoint = 256",  # 1 MB of log: on a full disk it is the reserve's.
            ):
                self._connection.execute(f"PRAGMA {setting}")
        self._migrate()

    def _check(self) -> None:
        """Refuse damage, other programs' files and newer versions before anything is written."""
        damage = self._pragma("quick_check(1)")
        if damage != "ok":
            raise StorageError(f"event store {self.path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]}")
        self._check_kind()

    def _check_kind(self) -> None:
        with self.translated():
            tables = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            version, application = self._pragma("user_version"), self._pragma("application_id")
        if tables and application != APPLICATION_ID:
            raise NoEventStore(
                f"event store {self.path}: it is a database of another program: name another file"
            )
        if version > len(MIGRATIONS):
            raise NoEventStore(
                f"event store {self.path}: a newer version of this program wrote it: update"
            )

    def _pragma(self, text: str) -> Any:
        return self._connection.execute(f"PRAGMA {text}").fetchone()[0]

    def _migrate(self) -> None:
        # The version is written even if it stays: a store that cannot be written is refused now,
        # not when the first alarm comes.
        with self.transaction() as connection:
            version = self._pragma("user_version")  # Another process may have been faster.
            parameters = migration_parameters(self.data_dir)
            for migration in MIGRATIONS[version:]:
                for statement in migration:
                    connection.execute(statement, parameters)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def check_writable(self) -> None:
        """Write to the disk, and make the reserve whole if there is room.

        Raises:
            StorageError: It cannot be written.
        """
        self.check_in_place()
        with self.transaction() as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        self.reserve.refill()

    def check_in_place(self) -> None:
        """Check that the open file is still the one at its path.

        A file that was deleted, or whose disk was unmounted, takes writes without any error, and
        they are gone when it is closed.

        Raises:
            StorageError: It is another file now, or none.
        """
        if self._identity not in (None, self._present_identity()):
            raise StorageError(
                f"event store {self.path}: it was deleted, moved or replaced, or its disk was"
                " unmounted, while it was open: put it back, or restart this program"
            )

    def _present_identity(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            status = self.path.stat()
            return status.st_dev, status.st_ino
        return None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write atomically: all of the block is on disk when this returns, nothing if it raises.

        Raises:
            StorageError: It could not be written; nothing was.
        """
        if self.read_only:
            raise StorageError(f"event store {self.path}: it was opened for reading only")
        with self._guard, self.translated():
            self.reserve.make_room()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # Some errors have rolled back already.
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """Use the connection outside a transaction, for maintenance.

        Raises:
            StorageError: It could not be done.
        """
        with self._guard, self.translated():
            yield self._connection

    def read(self, sql: str, parameters: Parameters | None = None) -> list[sqlite3.Row]:
        """Return all rows of a query.

        Raises:
            StorageError: It could not be read.
        """
        with self._guard, self.translated():
            return self._connection.execute(sql, parameters or {}).fetchall()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of SQLite into a `StorageError` that says what to do."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # Bugs of this program.
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
            if code in _OUT_OF_SPACE:
                self.reserve.give_back()  # A quota is not seen as a full disk: the next try fits.
            advice = _ADVICE.get(code, "it cannot be used")
            kind = NoEventStore if code == sqlite3.SQLITE_NOTADB else StorageError
            raise kind(f"event store {self.path}: {advice} ({error})") from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._guard:
            self._connection.close()
            self._undo.close()


def _connect(target: str, *, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        target, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=uri
    )
    connection.row_factory = sqlite3.Row
    return connection


def _connect_and_read(uri: str) -> sqlite3.Connection:
    """Connect and read once: SQLite opens the side files only then."""
    connection = _connect(uri, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    """Make the file, which SQLite then fills, and let others read neither it nor its side files."""
    with contextlib.suppress(OSError):  # SQLite says it better.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with contextlib.suppress(OSError):
            if file.is_file() and file.stat().st_mode & 0o007:
                file.chmod(0o600)
