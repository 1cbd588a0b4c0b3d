"""`streamer events`: list, show and export stored events and their evidence."""

import errno
import itertools
import json
import os
import re
import shutil
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from . import output
from .common import DataConfig, DataFolder, data_settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.store import EventStore, RecordedEvent
    from streamer.store.sqlite import SqliteEventStore

app = typer.Typer(help="List, show and export alarm events and their evidence.")

Since = Annotated[
    str | None,
    typer.Option(help="Only events since: 90m, 12h, 7d ago, or a time such as 2026-08-01T14:00."),
]
Camera = Annotated[str | None, typer.Option(help="Only events of this camera.")]
Kind = Annotated[
    Literal["raised", "updated", "cleared"] | None, typer.Option(help="Only events of this kind.")
]

_ZIP_BEGINS = (1980, 1, 1, 0, 0, 0)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@app.command("list")
def list_events(
    *,
    camera: Camera = None,
    kind: Kind = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of events.")] = 50,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """List events, newest first."""
    from streamer.alarm.event import EventKind
    from streamer.core.local_time import for_people

    out = output.current()
    rows = []
    with open_store(config, data_dir) as store:
        for recorded in store.events(
            camera=camera,
            kind=EventKind(kind) if kind else None,
            since=moment(since),
            limit=limit,
            newest_first=True,
        ):
            out.record(recorded.as_json())
            event = recorded.event
            when, score = for_people(event.utc), f"{event.score:.2f}"
            rows.append((when, event.camera, event.kind.value, score, event.id, event.reason))
        where, gone = store.path, store.retention.expired()
    if rows:
        out.rows(("time", "camera", "event", "score", "id", "reason"), rows)
        more = "; --limit shows more" if len(rows) == limit else ""
        out.note(f"{len(rows)} event{'s' * (len(rows) != 1)} from {where}{more}")
    else:
        out.say(f"no events in {where}")
    if gone is not None:
        until = for_people(gone.until)
        out.note(f"retention has deleted {gone.alarms} older alarms, the newest of {until}")


@app.command("show")
def show_event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an event or an alarm.")],
    *,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Show all events of an alarm, their deliveries, and whether the evidence is unchanged."""
    out = output.current()
    with open_store(config, data_dir) as store:
        holds = {hold.alarm_id: hold for hold in store.retention.holds()}
        for recorded in _of_alarm(store, event_id):
            hold = holds.get(recorded.event.alarm_id)
            record = {
                **recorded.as_json(),
                "hold": None if hold is None else hold.reason,
                "deliveries": [
                    {"channel": each.channel, "state": each.state.value, "error": each.error}
                    for each in store.outbox.of_event(recorded.event.id)
                ],
                "files": [str(file) for file in _files(recorded.evidence)],
                "faults": _faults(recorded.evidence),
            }
            out.result(record, _details(recorded, record))


@app.command("export")
def export_events(
    target: Annotated[
        Path, typer.Argument(metavar="FILE.zip", help="ZIP file to write; must not exist.")
    ],
    *,
    camera: Camera = None,
    since: Since = None,
    alarm: Annotated[
        str | None, typer.Option(help="Only events of this alarm.", metavar="ID")
    ] = None,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Export events and their evidence to a ZIP file."""
    if target.exists():
        raise typer.BadParameter(f"{target} exists; name another file")
    out = output.current()
    with open_store(config, data_dir) as store:
        if alarm:
            events = _of_alarm(store, alarm)
        else:
            events = list(store.events(camera=camera, since=moment(since)))
    folders = list(dict.fromkeys(each.evidence for each in events if each.evidence))
    files = _pack(target, events, folders)
    faults = [f"{folder.name}: {fault}" for folder in folders for fault in _faults(folder)]
    for fault in faults:
        out.note(f"evidence {fault}")
    record = {
        "kind": "export",
        "path": str(target.absolute()),
        "events": len(events),
        "files": files,
        "faults": faults,
    }
    out.result(record, f"{target}: {len(events)} events, {files} evidence files")


@app.command("hold")
def hold_alarm(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an alarm or its event.")],
    *,
    reason: Annotated[str, typer.Option(help="Why it is kept, e.g. a file number.")] = "",
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Put an alarm under a legal hold: its events and evidence are never deleted."""
    with open_store(config, data_dir, writable=True) as store:
        alarm_id = _of_alarm(store, event_id)[0].event.alarm_id
        store.retention.hold(alarm_id, reason)
    record = {"kind": "hold", "alarm": alarm_id, "reason": reason}
    output.current().result(record, f"{alarm_id} is under a legal hold until it is released")


@app.command("close")
def close(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an alarm or its event.")],
    *,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """Close an alarm whose camera is no longer watched, which nothing else will ever clear."""
    from streamer.store.closing import close_alarm

    cameras = data_settings(config, data_dir).cameras if config else {}
    with open_store(config, data_dir, writable=True) as store:
        alarm = _of_alarm(store, event_id)[0].event
        if alarm.camera in cameras and cameras[alarm.camera].enabled:
            raise typer.BadParameter(
                f"camera {alarm.camera} is watched: its alarm is cleared when smoke is gone"
            )
        event = close_alarm(store, alarm.alarm_id, utc=datetime.now(UTC))
    if event is None:
        raise typer.BadParameter(f"alarm {alarm.alarm_id} is not open")
    output.current().result(event.as_json(), f"{alarm.alarm_id} is closed")


@app.command("release")
def release_alarm(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an alarm or its event.")],
    *,
    config: DataConfig = None,
    data_dir: DataFolder = None,
) -> None:
    """End the legal hold of an alarm: it expires as others do."""
    with open_store(config, data_dir, writable=True) as store:
        alarm_id = _of_alarm(store, event_id)[0].event.alarm_id
        held = store.retention.release(alarm_id)
    record = {"kind": "release", "alarm": alarm_id, "held": held}
    text = "is no longer under a legal hold" if held else "was not under a legal hold"
    output.current().result(record, f"{alarm_id} {text}")


def open_store(
    files: list[Path] | None, folder: Path | None, *, writable: bool = False
) -> "SqliteEventStore":
    """Open the event store of the configuration or folder, by default for reading only.

    Reading works on a full or read-only disk.

    Raises:
        StorageError: It does not exist or cannot be read.
    """
    from streamer.core.errors import StorageError
    from streamer.store.sqlite import SqliteEventStore

    path = data_settings(files, folder).events_file
    if not path.exists():
        named = "" if files or folder else "; --config or --data-dir names another folder"
        raise StorageError(f"{path}: there is no event store: no such file{named}")
    if writable:
        return SqliteEventStore(path, create=False)
    return SqliteEventStore.open_read_only(path)


def moment(text: str | None) -> datetime | None:
    """Return the time that "12h" (ago) or "2026-08-01T14:00" means, aware UTC."""
    if text is None:
        return None
    if found := re.fullmatch(r"(\d+)([mhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)  # Local time unless it has a zone.
    except ValueError:
        raise typer.BadParameter(
            f"--since: {text!r} is not a time; use 90m, 12h, 7d or 2026-08-01T14:00"
        ) from None


def _of_alarm(store: "EventStore", some_id: str) -> "list[RecordedEvent]":
    """Return all events of the alarm that has this id or an event with this id."""
    found = store.event(some_id)
    alarm_id = found.event.alarm_id if found else some_id
    stored = (store.event(f"{alarm_id}-{sequence}") for sequence in itertools.count())
    events = list(iter(lambda: next(stored), None))
    if not events:
        raise typer.BadParameter(f"there is no event or alarm {some_id!r}")
    return events


def _files(folder: Path | None) -> list[Path]:
    from streamer.core.atomic_file import PART

    if folder is None or not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.is_file() and file.suffix != PART)


def _faults(folder: Path | None) -> list[str]:
    from streamer.evidence.manifest import verify

    if folder is None:
        return []
    return verify(folder) if folder.is_dir() else [f"{folder} is missing"]


def _details(recorded: "RecordedEvent", record: dict[str, Any]) -> "RenderableType":
    from streamer.core.local_time import for_people

    event = recorded.event
    rows: dict[str, Any] = {
        "event": f"{event.id} ({event.kind.value})",
        "camera": event.camera,
        "time": for_people(event.utc, precision="milliseconds"),
        "media time": f"{event.pts_ns / 1e9:.3f} s, onset at {event.onset_ns / 1e9:.3f} s",
        "reason": event.reason,
        "score": f"{event.score:.2f}",
        "evidence": _evidence(recorded),
    }
    if recorded.evidence_deleted is not None:
        when = for_people(recorded.evidence_deleted)
        rows["evidence"] = f"deleted by retention at {when}"
    if record["hold"] is not None:
        rows["legal hold"] = record["hold"] or "yes"
    lines = [f"{name:14} {value}" for name, value in rows.items()]
    lines += [f"{'':14} {Path(file).name}" for file in record["files"]]
    lines += [f"{'':14} FAULT: {fault}" for fault in record["faults"]]
    for delivery in record["deliveries"]:
        error = f" ({output.current().redact(delivery['error'])})" if delivery["error"] else ""
        lines.append(f"{'delivery':14} {delivery['channel']}: {delivery['state']}{error}")
    return "\n".join([*lines, ""])


def _evidence(recorded: "RecordedEvent") -> str:
    """Where the evidence is, and its state unless all of it is written."""
    state, folder = recorded.evidence_state.value, recorded.evidence
    reason = f": {recorded.evidence_reason}" if recorded.evidence_reason else ""
    if folder is None:
        return f"{state}{reason}"
    return str(folder) if state == "written" else f"{folder} ({state}{reason})"


def _pack(target: Path, events: "list[RecordedEvent]", folders: list[Path]) -> int:
    """Write the ZIP file atomically and return the number of evidence files in it."""
    from streamer.core.atomic_file import AtomicFile

    packed = 0
    if not target.parent.is_dir():  # `AtomicFile` would make it, also for a mistyped path.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    file = AtomicFile(target)
    try:
        # Stored: video and images are compressed already.
        with zipfile.ZipFile(cast("IO[bytes]", file), "w", zipfile.ZIP_STORED) as archive:
            lines = (json.dumps(recorded.as_json()) + "\n" for recorded in events)
            # A clock that is not set gives dates before 1980, where ZIP begins.
            now = max(time.localtime()[:6], _ZIP_BEGINS)
            archive.writestr(zipfile.ZipInfo("events.jsonl", now), "".join(lines))
            for folder in folders:
                for path in _files(folder):
                    name = f"{folder.parent.name}/{folder.name}/{path.name}"
                    info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                    with path.open("rb") as source, archive.open(info, "w") as entry:
                        shutil.copyfileobj(source, entry)
                    packed += 1
        file.publish()
    except BaseException:
        file.discard()
        raise
    return packed
