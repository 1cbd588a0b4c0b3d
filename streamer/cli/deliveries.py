"""`streamer deliveries`: notifications that are not confirmed; retry, give up, send a test."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import DataConfig, DataFolder, configuration
from .events import open_store
from .exit_codes import Exit

if TYPE_CHECKING:
    from streamer.notify import Notification
    from streamer.store import Delivery

app = typer.Typer(help="List unconfirmed notifications, retry them, give up, or send a test.")

Numbers = Annotated[
    list[int],
    typer.Argument(metavar="NUMBER...", help="Number in the list of `deliveries pending`."),
]


@app.command("pending")
def pending(
    *,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """List the deliveries that are neither confirmed nor given up, oldest first."""
    from rich.table import Table

    out = output.current()
    table = Table("number", "channel", "state", "tries", "next try", "event", "error")
    with open_store(config, data_dir) as store:
        for delivery in store.outbox.pending(channel=channel):
            out.record(_record(delivery))
            due = delivery.due.astimezone().isoformat(" ", "seconds")
            table.add_row(
                str(delivery.number),
                delivery.channel,
                delivery.state.value,
                str(delivery.attempts),
                "" if delivery.state.value == "dead" else due,
                delivery.recorded.event.id,
                out.redact(delivery.error or ""),
            )
    out.say(table if table.row_count else "all notifications are confirmed")


def _record(delivery: "Delivery") -> dict[str, Any]:
    return {
        "kind": "delivery",
        "number": delivery.number,
        "channel": delivery.channel,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due": delivery.due.isoformat(timespec="milliseconds"),
        "changed": delivery.changed.isoformat(timespec="milliseconds"),
        "error": delivery.error,
        "event": delivery.recorded.as_json(),
    }


@app.command("retry")
def retry(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(
            metavar="[NUMBER]...", help="Deliveries to retry; all dead letters by default."
        ),
    ] = None,
    *,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Bring dead letters back; a running `streamer watch` sends them within seconds."""
    with open_store(config, data_dir, writable=True) as store:
        count = store.outbox.retry(numbers or None)
    _report("retry", count, requested=len(set(numbers or ())), outcome="due now")


@app.command("give-up")
def give_up(
    numbers: Numbers,
    *,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Give up deliveries: they are never sent again."""
    with open_store(config, data_dir, writable=True) as store:
        count = store.outbox.give_up(numbers)
    _report("give-up", count, requested=len(set(numbers)), outcome="given up")


def _report(kind: str, count: int, *, requested: int, outcome: str) -> None:
    out = output.current()
    plural = "delivery" if count == 1 else "deliveries"
    out.result({"kind": kind, "deliveries": count}, f"{count} {plural} {outcome}")
    if count < requested:
        out.error(
            f"{requested - count} of {requested} are not pending; see `streamer deliveries pending`"
        )
        raise typer.Exit(Exit.FAILED)


@app.command("test")
def send_test(
    files: Annotated[list[Path], typer.Argument(metavar="CONFIG...")],
    *,
    channel: Annotated[
        list[str] | None, typer.Option(help="Only this channel; may be repeated.")
    ] = None,
) -> None:
    """Send one test message through each channel now, without retrying."""
    from streamer.app.channels import open_channels
    from streamer.notify import DeliveryFailed

    out = output.current()
    channels = open_channels(configuration(files).config)
    names = [each.name for each in channels]
    for name in set(channel or ()) - set(names):
        raise typer.BadParameter(
            f"there is no channel {name!r}; the channels are: {', '.join(names)}"
        )
    chosen = [each for each in channels if not channel or each.name in channel]
    if not chosen:
        raise typer.BadParameter(
            "no channel is configured under 'notify': alarms are sent to nobody"
        )
    failed = False
    for each in chosen:
        out.note(f"sending to {each.name}")
        error = None
        with each:
            try:
                each.deliver(_test_notification(each.name))
            except DeliveryFailed as failure:
                error = str(failure)
        failed = failed or error is not None
        record = {"kind": "test", "channel": each.name, "delivered": not error, "error": error}
        out.result(record, f"{each.name}: {'delivered' if error is None else out.redact(error)}")
    if failed:
        raise typer.Exit(Exit.FAILED)


def _test_notification(channel: str) -> "Notification":
    from streamer.alarm.event import Event, EventKind
    from streamer.notify import Notification

    now = datetime.now(UTC)
    event = Event(
        alarm_id=f"test-{now:%Y%m%dT%H%M%S}Z",
        sequence=0,
        kind=EventKind.RAISED,
        camera="test",
        pts_ns=0,
        utc=now,
        onset_ns=0,
        reason="test message, no smoke was detected",
        score=0.0,
        regions=(),
    )
    return Notification(
        event=event,
        key=f"{event.id}:{channel}",
        attempt=1,
        title="Test: no alarm",
        text="This is a test of your alarm channel. No smoke was detected.",
        superseded=True,  # So that no receiver shows a camera "test" in alarm.
    )
