"""The event store and the outbox, in SQLite."""
