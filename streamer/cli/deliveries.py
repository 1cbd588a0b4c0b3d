"""`streamer deliveries`: notifications that are not confirmed; retry, give up, send a test."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.core.local_time import for_machines, for_people

from . import output
from .common import DataConfig, DataFolder, configuration, data_settings
from .events import open_store
from .exit_codes import Exit, exit_code, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

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
    out = output.current()
    rows = []
    with open_store(config, data_dir) as store:
        for delivery in store.outbox.pending(channel=channel):
            out.record(_record(delivery))
            rows.append(
                (
                    str(delivery.number),
                    delivery.channel,
                    delivery.state.value,
                    str(delivery.attempts),
                    "" if delivery.state.value == "dead" else for_people(delivery.due),
                    delivery.recorded.event.id,
                    out.redact(delivery.error or ""),
                )
            )
    if rows:
        head = ("number", "channel", "state", "attempts", "next attempt", "event", "error")
        out.rows(head, rows)
    else:
        out.say("all notifications are confirmed")


@app.command("channels")
def channels(*, config: DataConfig = None, data_dir: DataFolder = None) -> None:
    """Show what waits for each channel: how many, since when, the next attempt, the last error.

    Whether a receiver can be reached now is shown by the running program, and by `streamer doctor`.
    """
    out = output.current()
    with open_store(config, data_dir) as store:
        found: dict[str, list[Delivery]] = {}
        for delivery in store.outbox.pending():
            found.setdefault(delivery.channel, []).append(delivery)
    for name in data_settings(config, data_dir).notify if config else ():
        found.setdefault(name, [])
    records = [_summary(name, deliveries) for name, deliveries in sorted(found.items())]
    for record in records:
        out.record(record)
    if records:
        head = ("channel", "waiting", "dead letters", "oldest", "attempts", "next attempt", "error")
        out.rows(head, [_row(record, out.redact) for record in records])
    else:
        out.say("nothing waits for any channel")


def _summary(channel: str, deliveries: "list[Delivery]") -> dict[str, Any]:
    """Return what waits for *channel*; the last error is that of the delivery changed last."""
    waiting = [each for each in deliveries if each.state.value != "dead"]
    failed = max((each for each in deliveries if each.error), key=_changed, default=None)
    return {
        "kind": "channel",
        "channel": channel,
        "waiting": len(waiting),
        "dead_letters": len(deliveries) - len(waiting),
        "oldest": min((for_machines(each.recorded.added) for each in waiting), default=None),
        "attempts": max((each.attempts for each in waiting), default=0),
        "next_attempt": min((for_machines(each.due) for each in waiting), default=None),
        "error": failed.error if failed else None,
    }


def _changed(delivery: "Delivery") -> datetime:
    return delivery.changed


def _row(record: dict[str, Any], redact: "Callable[[str], str]") -> tuple[str, ...]:
    oldest, following = (
        for_people(datetime.fromisoformat(record[key])) if record[key] else ""
        for key in ("oldest", "next_attempt")
    )
    numbers = (str(record[key]) for key in ("waiting", "dead_letters"))
    error = redact(record["error"] or "")
    return record["channel"], *numbers, oldest, str(record["attempts"]), following, error


def _record(delivery: "Delivery") -> dict[str, Any]:
    return {
        "kind": "delivery",
        "number": delivery.number,
        "channel": delivery.channel,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due": for_machines(delivery.due),
        "changed": for_machines(delivery.changed),
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
