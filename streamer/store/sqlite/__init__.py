"""The event store and the outbox in one SQLite file."""

from .database import NoEventStore
from .event_store import SqliteEventStore

__all__ = ["NoEventStore", "SqliteEventStore"]
