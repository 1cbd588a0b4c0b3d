"""`streamer deliveries`: notifications that are not confirmed; retry, give up, send a test."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import DataConfig, DataFolder, configuration
from .events import open_store
from .exit_codes import Exit, exit_code, one_line

if TYPE_CHECKING:
    from streamer.config import Config
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
    """Send one test message through each channel now, without retrying.

    Every channel is tried, whatever became of the others. The exit status is 3 if the settings of
    one cannot be used, 1 if one failed otherwise.
    """
    out = output.current()
    config = configuration(files).config
    for name in set(channel or ()) - set(config.notify):
        raise typer.BadParameter(
            f"there is no channel {name!r}; the channels are: {', '.join(config.notify)}"
        )
    chosen = [name for name in config.notify if not channel or name in channel]
    if not chosen:
        raise typer.BadParameter(
            "no channel is configured under 'notify': alarms are sent to nobody"
        )
    worst = Exit.OK
    for name in chosen:
        out.note(f"sending to {name}")
        failure = _test(config, name)
        worst = worst if failure is None else max(worst, exit_code(failure))
        error = None if failure is None else out.redact(one_line(failure))
        record = {"kind": "test", "channel": name, "delivered": not error, "error": error}
        out.result(record, f"{name}: {error or 'delivered'}")
    if worst is not Exit.OK:
        raise typer.Exit(worst)


def _test(config: "Config", name: str) -> Exception | None:
    """Send a test message through one channel; return why it failed, or `None`."""
    from streamer.app.channels import open_channel
    from streamer.notify import Notification

    try:
        with open_channel(config, name) as channel:
            channel.deliver(Notification.test(name, datetime.now(UTC)))
    except Exception as failure:  # noqa: BLE001  the channels behind it are tried as well
        return failure
    return None
