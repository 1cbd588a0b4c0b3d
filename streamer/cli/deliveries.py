"""`streamer deliveries`: who was not reached yet, and what a person can do about it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import DataConfig, DataFolder, configuration
from .events import open_store
from .exit_codes import Exit

if TYPE_CHECKING:
    from streamer.notify import Channel, Notification
    from streamer.store import Delivery

app = typer.Typer(help="Show who was not told yet, try again, give up, send a test.")

Numbers = Annotated[
    list[int], typer.Argument(metavar="NUMBER...", help="As `deliveries pending` shows them.")
]


@app.command("pending")
def pending(
    *,
    channel: Annotated[str | None, typer.Option(help="Only for this channel.")] = None,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """List all that is neither confirmed nor given up, the oldest first."""
    from rich.table import Table

    out = output.current()
    table = Table("number", "channel", "state", "tries", "next try", "event", "why not")
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
    out.say(table if table.row_count else "everybody was told of everything")


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
        typer.Argument(metavar="[NUMBER]...", help="Which; all that are dead, when left out."),
    ] = None,
    *,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Bring dead deliveries back; a running `streamer watch` sends them within seconds."""
    with open_store(config, data_dir) as store:
        count = store.outbox.retry(numbers or None)
    _told("retry", count, wanted=len(set(numbers or ())), words="to be sent now")


@app.command("give-up")
def give_up(
    numbers: Numbers,
    *,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """End deliveries for good: nobody will be told by them."""
    with open_store(config, data_dir) as store:
        count = store.outbox.give_up(numbers)
    _told("give-up", count, wanted=len(set(numbers)), words="given up")


def _told(kind: str, count: int, *, wanted: int, words: str) -> None:
    out = output.current()
    plural = "delivery" if count == 1 else "deliveries"
    out.result({"kind": kind, "deliveries": count}, f"{count} {plural} {words}")
    if count < wanted:
        out.error(
            f"{wanted - count} of {wanted} are not pending; see `streamer deliveries pending`"
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
    """Send a message that says it is a test, now and once, to every channel."""
    from streamer.app.channels import open_channels

    out = output.current()
    channels = open_channels(configuration(files).config)
    names = [each.name for each in channels]
    for name in set(channel or ()) - set(names):
        raise typer.BadParameter(f"no channel is called {name!r}; there are: {', '.join(names)}")
    chosen = [each for each in channels if not channel or each.name in channel]
    if not chosen:
        raise typer.BadParameter("no channel stands under 'notify': nobody is told of alarms")
    failed = False
    for each in chosen:
        out.note(f"telling {each.name}")
        error = _try(each, _test_notice(each.name))
        failed = failed or error is not None
        record = {"kind": "test", "channel": each.name, "delivered": not error, "error": error}
        out.result(record, f"{each.name}: {'was told' if error is None else out.redact(error)}")
    if failed:
        raise typer.Exit(Exit.FAILED)


def _try(channel: "Channel", notice: "Notification") -> str | None:
    """One attempt; why it failed, or `None`."""
    from streamer.notify import DeliveryFailed

    with channel:
        try:
            channel.deliver(notice)
        except DeliveryFailed as error:
            return str(error)
    return None


def _test_notice(channel: str) -> "Notification":
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
        reason="this is a test: nothing was seen",
        score=0.0,
        regions=(),
    )
    return Notification(
        event=event,
        key=f"{event.id}:{channel}",
        attempt=1,
        title="Test: no alarm",
        text="This is a test of your alarm channel. Nothing was seen.",
        superseded=True,  # History, so that no receiver keeps a camera called "test" in alarm.
    )
