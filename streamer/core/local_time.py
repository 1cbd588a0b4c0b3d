"""How times are written: local time with its offset for people, UTC in ISO 8601 for machines."""

from datetime import UTC, datetime
from typing import Literal


def for_people(
    moment: datetime, *, precision: Literal["seconds", "milliseconds"] = "seconds"
) -> str:
    """Return *moment*, which is aware, in local time: `2026-08-01 14:00:03+02:00`."""
    return moment.astimezone().isoformat(" ", precision)


def for_machines(moment: datetime) -> str:
    """Return *moment*, which is aware, in UTC: `2026-08-01T12:00:03.250+00:00`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
