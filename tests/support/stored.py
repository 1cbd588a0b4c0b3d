"""What a store holds, read as another process would."""

from pathlib import Path

from streamer.store import DeliveryState
from streamer.store.sqlite import SqliteEventStore


def confirmed_keys(path: Path) -> set[str]:
    """Keys of the deliveries that are recorded as acknowledged."""
    with SqliteEventStore.open_read_only(path) as store:
        rows = store._database.read(
            "SELECT event.id || ':' || channel AS key FROM delivery"
            " JOIN event ON event.number = delivery.event WHERE state = ?",
            (DeliveryState.CONFIRMED.value,),
        )
    return {row["key"] for row in rows}
