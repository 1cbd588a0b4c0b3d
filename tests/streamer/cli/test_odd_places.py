"""Commands where operators run them: full and read-only disks, narrow terminals, no home."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamer.alarm.event import Event, EventKind
from streamer.cli import main
from streamer.cli.exit_codes import Exit
from streamer.store.sqlite import SqliteEventStore
from tests.support.disks import fill, small_disk

ALARM = "a-camera-with-quite-a-long-name-20260801T140003Z-7f3a9c"


def store(folder: Path) -> Path:
    with SqliteEventStore(folder / "events.sqlite") as opened:
        raised = Event(
            ALARM, 0, EventKind.RAISED, "ridge", pts_ns=0, utc=datetime.now(UTC), onset_ns=0,
            reason="grew 38 % in 20 s", score=0.83, regions=(),
        )  # fmt: skip
        opened.add(raised, channels=["hook"])
    return folder


@pytest.mark.system
@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.parametrize("crashed", [False, True])
def test_reading_commands_work_on_a_full_or_read_only_disk(tmp_path, fault, crashed, capsys):
    with small_disk(tmp_path / "disk", mib=4) as disk:
        store(disk)
        if crashed:  # What SQLite deletes at a regular end: its journal and index are left over.
            code = (
                "import os, sys; from tests.streamer.cli.test_odd_places import *;"
                "one = SqliteEventStore(Path(sys.argv[1]) / 'events.sqlite');"
                "list(one.events()); one.outbox.claim('hook'); os._exit(0)"
            )
            subprocess.run([sys.executable, "-c", code, disk], check=True)
        if fault == "full":
            fill(disk)
        else:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for command in (["events", "list"], ["events", "show", ALARM], ["deliveries", "pending"]):
            assert main([*command, "--json", "--data-dir", str(disk)]) == Exit.OK
            shown = capsys.readouterr()
            assert ALARM in shown.out
            assert "streamer:" not in shown.err


def on_terminal(columns: int, *arguments: str) -> str:
    """What a terminal of this width gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer.cli", *arguments],
        stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # The other end is closed.
        pass
    os.close(ours)
    assert process.wait(60) == Exit.OK
    return shown.decode()


@pytest.mark.parametrize("columns", [40, 80])
def test_ids_can_be_copied_from_a_narrow_terminal(tmp_path, columns):
    shown = on_terminal(columns, "events", "list", "--data-dir", str(store(tmp_path)))
    assert f"{ALARM}-0" in shown
    assert "grew 38 % in 20 s" in shown


def test_a_list_says_where_it_was_read_and_in_which_time_zone(tmp_path, capsys, monkeypatch):
    store(tmp_path)
    assert main(["events", "list", "--data-dir", str(tmp_path)]) == Exit.OK
    shown = capsys.readouterr()
    assert f"1 event from {tmp_path}/events.sqlite" in shown.err
    local = datetime.now(UTC).astimezone()
    assert f"{local:%z}"[:3] in shown.out.splitlines()[1].split()[1]
    assert main(["events", "list", "--json", "--data-dir", str(tmp_path)]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["utc"].endswith("+00:00")
    main(["events", "list", "--camera", "nobody", "--data-dir", str(tmp_path)])
    assert capsys.readouterr().out == f"no events in {tmp_path}/events.sqlite\n"


def test_without_a_store_the_line_says_where_it_was_sought_and_how_to_name_another(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["events", "list"]) == Exit.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/streamer/events.sqlite" in line
    assert "--config or --data-dir" in line
