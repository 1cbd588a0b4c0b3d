"""The schema: every table, and every migration from one version to the next.

A released migration is never edited, only followed by another one. Times are microseconds since
1970 (`_us`), because that is exactly what a `datetime` holds; media times are nanoseconds. A
statement may use the parameters of `migration_parameters`.
"""

from pathlib import Path
from typing import Final

APPLICATION_ID: Final = 0x73747265
"""`stre` in ASCII, in the file's header: distinguishes the store from other programs' databases."""

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

_ALARMS = """
CREATE TABLE alarm (                 -- Derived from its events.
    alarm_id  TEXT    PRIMARY KEY,
    camera    TEXT    NOT NULL,
    newest    INTEGER NOT NULL REFERENCES event (number),
    open      INTEGER NOT NULL CHECK (open IN (0, 1))
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
    (
        "ALTER TABLE event RENAME COLUMN why TO reason",
        "ALTER TABLE event RENAME COLUMN picture TO image",
        "ALTER TABLE delivery RENAME COLUMN waited_us TO backoff_us",
        # The values of regions are numbers only, so these keys stand nowhere else in the text.
        """UPDATE event SET regions = replace(replace(
               regions, '"base": ', '"ground_point": '), '"mean": ', '"confidence": ')""",
        *(
            f"""UPDATE event SET {column} = substr({column}, length(:{folder}) + 1)
                WHERE substr({column}, 1, length(:{folder})) = :{folder}"""  # noqa: S608  constants
            for column in ("evidence", "image")
            for folder in ("data_dir", "resolved_data_dir")
        ),
    ),
    (
        # Retention. A legal hold protects an alarm with its events, deliveries and evidence.
        """CREATE TABLE hold (
               alarm_id TEXT    PRIMARY KEY,
               since_us INTEGER NOT NULL,
               reason   TEXT    NOT NULL
           ) STRICT""",
        "ALTER TABLE event ADD COLUMN evidence_deleted_us INTEGER",
        # One row: what retention has deleted so far, so that a list can say so.
        """CREATE TABLE expired (
               one      INTEGER PRIMARY KEY CHECK (one = 1),
               alarms   INTEGER NOT NULL,
               events   INTEGER NOT NULL,
               until_us INTEGER NOT NULL     -- `utc_us` of the newest event among them.
           ) STRICT""",
    ),
    (
        """ALTER TABLE event ADD COLUMN evidence_state TEXT NOT NULL DEFAULT 'none'
           CHECK (evidence_state IN ('none', 'pending', 'written', 'degraded', 'failed'))""",
        "ALTER TABLE event ADD COLUMN evidence_reason TEXT NOT NULL DEFAULT ''",
        "UPDATE event SET evidence_state = 'written' WHERE evidence IS NOT NULL",
        "CREATE INDEX event_pending ON event (camera, number) WHERE evidence_state = 'pending'",
        _ALARMS,
        # With max(), SQLite takes the other columns from the row of the maximum.
        """INSERT INTO alarm (alarm_id, camera, newest, open)
           SELECT alarm_id, camera, number, kind <> 'cleared'
           FROM (SELECT alarm_id, camera, max(number) AS number, kind FROM event
                 GROUP BY alarm_id)""",
        "CREATE INDEX alarm_open ON alarm (camera) WHERE open = 1",
        # One partial index for all queries of what is not settled: its condition must stand in
        # them word for word. Without it each poll read every delivery ever made.
        "DROP INDEX delivery_open",
        """CREATE INDEX delivery_unsettled ON delivery (channel, alarm_id, number)
           WHERE state IN ('waiting', 'sending', 'dead')""",
    ),
)
"""Migration *n* leads from version *n* to *n + 1*; `PRAGMA user_version` holds the version."""


def migration_parameters(data_dir: Path) -> dict[str, str]:
    """Return the parameters of the statements: the absolute data folder, ending with a slash.

    Paths below it become relative. It is tried as given and with its symbolic links resolved,
    because older versions stored either.
    """
    return {"data_dir": f"{data_dir.absolute()}/", "resolved_data_dir": f"{data_dir.resolve()}/"}
