"""The event store and the outbox in one SQLite file."""

from .event_store import SqliteEventStore

__all__ = ["SqliteEventStore"]
