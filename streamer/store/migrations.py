"""What the database looks like: every table, and every step from one version to the next.

Rules: a released step is never edited, only followed by another one. Times are microseconds since
1970 (`_us`), because that is exactly what a `datetime` holds; media times are nanoseconds.
"""

from typing import Final

APPLICATION_ID: Final = 0x73747265
"""`stre` in ASCII, in the file's header: tells our store from another program's database."""

_EVENTS = """
CREATE TABLE event (
    number    INTEGER PRIMARY KEY,  -- Order of recording.
    id        TEXT    NOT NULL UNIQUE,
    alarm_id  TEXT    NOT NULL,
    sequence  INTEGER NOT NULL CHECK (sequence >= 0),
    kind      TEXT    NOT NULL CHECK (kind IN ('raised', 'updated', 'cleared')),
    camera    TEXT    NOT NULL,
    pts_ns    INTEGER NOT NULL,
    utc_us    INTEGER NOT NULL,
    onset_ns  INTEGER NOT NULL,
    why       TEXT    NOT NULL,
    score     REAL    NOT NULL,
    regions   TEXT    NOT NULL,     -- JSON.
    evidence  TEXT,                 -- Folder.
    picture   TEXT,                 -- File.
    added_us  INTEGER NOT NULL
) STRICT
"""

_DELIVERIES = """
CREATE TABLE delivery (
    number     INTEGER PRIMARY KEY,  -- Order of delivery within an alarm and channel.
    event      INTEGER NOT NULL REFERENCES event (number),
    alarm_id   TEXT    NOT NULL,     -- As in event; here so that one index gives the order.
    channel    TEXT    NOT NULL,
    state      TEXT    NOT NULL
               CHECK (state IN ('waiting', 'sending', 'confirmed', 'dead', 'given up')),
    attempts   INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    waited_us  INTEGER NOT NULL DEFAULT 0 CHECK (waited_us >= 0),
    due_us     INTEGER NOT NULL,
    changed_us INTEGER NOT NULL,
    error      TEXT,
    UNIQUE (event, channel)
) STRICT
"""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        _EVENTS,
        "CREATE INDEX event_by_time ON event (utc_us)",
        "CREATE INDEX event_by_camera ON event (camera, number)",
        "CREATE INDEX event_by_alarm ON event (alarm_id, number)",
        _DELIVERIES,
        "CREATE INDEX delivery_by_channel ON delivery (channel, number)",
        """CREATE INDEX delivery_open ON delivery (channel, alarm_id, number)
           WHERE state IN ('waiting', 'sending')""",
    ),
)
"""Step *n* leads from version *n* to *n + 1*; `PRAGMA user_version` holds the version."""
