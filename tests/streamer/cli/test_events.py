"""`streamer events` and `streamer deliveries` on a real store."""

import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamer.alarm.event import Event, EventKind
from streamer.cli import main
from streamer.cli.events import moment
from streamer.cli.exit_codes import Exit
from streamer.core.frame import Detection
from streamer.evidence.manifest import seal
from streamer.notify import Notification
from streamer.notify.webhook import WebhookChannel
from streamer.store.sqlite import SqliteEventStore

NOW = datetime.now(UTC)
REGION = Detection((0.1, 0.2, 0.3, 0.4), (0.2, 0.3), (0.2, 0.4), 0.02, 0.7, 0.9)


def event(camera: str, sequence: int, kind: EventKind, *, ago: timedelta) -> Event:
    return Event(
        f"{camera}-1", sequence, kind, camera, pts_ns=5_000_000_000, utc=NOW - ago,
        onset_ns=2_000_000_000, reason="grew 38 % in 20 s", score=0.83,
        regions=() if kind is EventKind.CLEARED else (REGION,),
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with two alarms, evidence of the first, and deliveries in several states."""
    folder = tmp_path / "data"
    evidence = folder / "evidence" / "north" / "north-1"
    evidence.mkdir(parents=True)
    (evidence / "still-0.jpg").write_bytes(b"image")
    (evidence / "clip.mp4.part").write_bytes(b"half")
    seal(evidence)
    with SqliteEventStore(folder / "events.sqlite") as store:
        raised = event("north", 0, EventKind.RAISED, ago=timedelta(hours=3))
        store.add(raised, evidence=evidence, channels=["mail", "hook"])
        cleared = event("north", 1, EventKind.CLEARED, ago=timedelta(hours=2))
        store.add(cleared, evidence=evidence)
        store.add(event("south", 0, EventKind.RAISED, ago=timedelta(minutes=5)))
        outbox = store.outbox
        sent = outbox.claim("mail")
        assert sent is not None
        outbox.dead_letter(sent.number, error="refused: 404")
    return folder


def run(data: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert main([*arguments, "--json", "--data-dir", str(data)]) == Exit.OK
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], ["south-1-0", "north-1-1", "north-1-0"]),
        (["--camera", "north"], ["north-1-1", "north-1-0"]),
        (["--kind", "raised"], ["south-1-0", "north-1-0"]),
        (["--since", "30m"], ["south-1-0"]),
        (["--limit", "1"], ["south-1-0"]),
        (["--camera", "nowhere"], []),
    ],
)
def test_events_are_listed_newest_first(
    data: Path, options: list[str], ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    records = run(data, "events", "list", *options, capsys=capsys)
    assert [record["id"] for record in records] == ids
    assert main(["events", "list", "--data-dir", str(data), *options]) == Exit.OK
    shown = capsys.readouterr().out
    assert ("no events" in shown) == (not ids)


def test_an_alarm_is_shown_with_its_files_and_deliveries(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_alarm = run(data, "events", "show", "north-1", capsys=capsys)
    assert by_alarm == run(data, "events", "show", "north-1-0", capsys=capsys)
    raised, cleared = by_alarm
    assert [raised["kind"], cleared["kind"]] == ["raised", "cleared"]
    assert raised["deliveries"] == [
        {"channel": "mail", "state": "dead", "error": "refused: 404"},
        {"channel": "hook", "state": "waiting", "error": None},
    ]
    assert [Path(file).name for file in raised["files"]] == ["manifest.json", "still-0.jpg"]  # type: ignore[attr-defined]
    assert raised["faults"] == []
    assert main(["events", "show", "north-1", "--data-dir", str(data)]) == Exit.OK
    shown = capsys.readouterr().out
    for words in ("grew 38 % in 20 s", "still-0.jpg", "dead (refused: 404)"):
        assert words in shown


def test_evidence_that_was_changed_is_reported(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "evidence" / "north" / "north-1" / "still-0.jpg").write_bytes(b"other")
    (raised, _) = run(data, "events", "show", "north-1", capsys=capsys)
    assert raised["faults"] == ["still-0.jpg: changed since it was sealed"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], {"events.jsonl", "north/north-1/still-0.jpg", "north/north-1/manifest.json"}),
        (["--alarm", "south-1"], {"events.jsonl"}),
        (["--camera", "south"], {"events.jsonl"}),
    ],
)
def test_events_are_packed_with_their_evidence(
    data: Path, tmp_path: Path, options: list[str], names: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    target = tmp_path / "out.zip"
    (record,) = run(data, "events", "export", str(target), *options, capsys=capsys)
    with zipfile.ZipFile(target) as archive:
        assert set(archive.namelist()) == names
        assert archive.testzip() is None
        lines = archive.read("events.jsonl").decode().splitlines()
    assert (record["events"], record["files"]) == (len(lines), len(names) - 1)
    assert main(["events", "export", str(target), "--data-dir", str(data)]) == Exit.USAGE
    assert "exists" in capsys.readouterr().err


def test_an_export_that_fails_leaves_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "nowhere" / "out.zip"
    assert main(["events", "export", str(target), "--data-dir", str(data)]) == Exit.FAILED
    assert capsys.readouterr().err.startswith("streamer: no such file or directory: ")
    assert not target.parent.exists()


@pytest.mark.parametrize("command", [["events", "list"], ["deliveries", "pending"]])
def test_without_a_store_there_is_one_line_and_none_is_made(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--data-dir", str(tmp_path / "data")]) == Exit.FAILED
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "no such file" in shown.err
    assert not (tmp_path / "data").exists()


def test_the_configuration_says_where_the_data_is(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text("data_dir: data\ncameras: {a: {source: {address: x}}}\n")
    assert main(["events", "list", "--json", "-c", str(file)]) == Exit.OK
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert data.is_dir()


def test_an_unknown_event_is_a_usage_error(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "show", "nothing", "--data-dir", str(data)]) == Exit.USAGE
    assert "there is no event or alarm 'nothing'" in capsys.readouterr().err


def test_times_may_be_spans_or_moments() -> None:
    for text, back in (("90m", timedelta(minutes=90)), ("2d", timedelta(days=2))):
        meant = moment(text)
        assert meant is not None
        assert timedelta() <= datetime.now(UTC) - meant - back < timedelta(minutes=1)
    assert moment("2026-08-01T14:00+02:00") == datetime(2026, 8, 1, 12, tzinfo=UTC)
    assert moment(None) is None


def test_text_that_is_not_a_time_is_a_usage_error(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "list", "--since", "soon", "--data-dir", str(data)]) == Exit.USAGE
    assert "use 90m, 12h, 7d" in capsys.readouterr().err


def test_what_is_pending_is_listed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mail, hook = run(data, "deliveries", "pending", capsys=capsys)
    assert (mail["channel"], mail["state"], mail["error"]) == ("mail", "dead", "refused: 404")
    assert (hook["channel"], hook["state"], hook["attempts"]) == ("hook", "waiting", 0)
    assert run(data, "deliveries", "pending", "--channel", "mail", capsys=capsys) == [mail]
    assert main(["deliveries", "pending", "--data-dir", str(data)]) == Exit.OK
    assert "refused: 404" in capsys.readouterr().out


def test_dead_deliveries_are_brought_back(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "deliveries", "retry", capsys=capsys) == [{"kind": "retry", "deliveries": 1}]
    states = [each["state"] for each in run(data, "deliveries", "pending", capsys=capsys)]
    assert states == ["waiting", "waiting"]


def test_what_waits_is_summed_up_by_channel(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with SqliteEventStore(data / "events.sqlite") as store:
        sent = store.outbox.claim("hook")
        assert sent is not None
        store.outbox.reschedule(sent.number, after=timedelta(minutes=4), error="answered 503")
    hook, mail = run(data, "deliveries", "channels", capsys=capsys)
    assert (hook["channel"], hook["waiting"], hook["dead_letters"]) == ("hook", 1, 0)
    assert (hook["attempts"], hook["error"]) == (1, "answered 503")
    assert str(hook["next_attempt"]) > str(hook["oldest"])
    assert (mail["waiting"], mail["dead_letters"], mail["error"]) == (0, 1, "refused: 404")
    assert mail["next_attempt"] is None
    file = tmp_path / "fire.yaml"
    file.write_text(
        f"data_dir: {data}\nnotify: {{quiet: {{kind: webhook, url: 'http://h/'}}}}\n"
        "cameras: {a: {source: {address: x}}}\n"
    )
    assert main(["deliveries", "channels", "--config", str(file)]) == Exit.OK
    head, _, _, quiet = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["channel", "waiting"]
    assert quiet.split() == ["quiet", "0", "0", "0"]


def test_a_person_may_give_up(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (
        str(each["number"]) for each in run(data, "deliveries", "pending", capsys=capsys)
    )
    assert run(data, "deliveries", "give-up", first, second, capsys=capsys) == [
        {"kind": "give-up", "deliveries": 2}
    ]
    assert run(data, "deliveries", "pending", capsys=capsys) == []
    for command in ("give-up", "retry"):
        assert main(["deliveries", command, first, "--data-dir", str(data)]) == Exit.FAILED
        assert "1 of 1 are not pending" in capsys.readouterr().err
    assert main(["deliveries", "pending", "--data-dir", str(data)]) == Exit.OK
    assert "all notifications are confirmed" in capsys.readouterr().out


class _Receiver(BaseHTTPRequestHandler):
    """Takes what is posted to /good, and nothing else."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.path.startswith("/good")
        if good:
            self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.send_response(HTTPStatus.NO_CONTENT if good else HTTPStatus.NOT_FOUND)
        self.end_headers()

    def log_request(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as server:
        server.bodies = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _two_hooks(folder: Path, port: int) -> str:
    file = folder / "fire.yaml"
    file.write_text(
        f"notify:\n  good: {{kind: webhook, url: 'http://127.0.0.1:{port}/good?token=hunter2'}}\n"
        f"  bad: {{kind: webhook, url: 'http://127.0.0.1:{port}/bad?token=hunter2'}}\n"
        "cameras: {a: {source: {address: x}}}\n"
    )
    return str(file)


def test_a_test_is_sent_to_every_channel_and_each_has_its_own_result(
    receiver: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _two_hooks(tmp_path, receiver.server_port)
    assert main(["deliveries", "test", file, "--json"]) == Exit.FAILED
    shown = capsys.readouterr()
    good, bad = map(json.loads, shown.out.splitlines())
    assert (good["channel"], good["delivered"], good["error"]) == ("good", True, None)
    assert (bad["channel"], bad["delivered"]) == ("bad", False)
    assert "404" in bad["error"]
    (body,) = receiver.bodies  # type: ignore[attr-defined]
    message = json.loads(body)
    assert (message["kind"], message["test"]) == ("test", True)
    assert "camera" not in message
    assert "hunter2" not in shown.out + shown.err


def test_one_channel_may_be_tested(
    receiver: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _two_hooks(tmp_path, receiver.server_port)
    assert main(["deliveries", "test", file, "--channel", "good", "-q"]) == Exit.OK
    assert capsys.readouterr().out == "good: delivered\n"
    assert main(["deliveries", "test", file, "--channel", "god"]) == Exit.USAGE
    assert "the channels are: good, bad" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise imports it.
def test_a_channel_that_cannot_be_made_is_a_fault_of_the_configuration(
    receiver: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(
        "notify:\n"
        "  mail: {kind: apprise, url: 'nonsense://hunter2-secret'}\n"
        f"  good: {{kind: webhook, url: 'http://127.0.0.1:{receiver.server_port}/good'}}\n"
        "cameras: {a: {source: {address: x}}}\n"
    )
    assert main(["deliveries", "test", str(file)]) == Exit.CONFIG
    shown = capsys.readouterr()
    mail, good = shown.out.splitlines()
    assert mail.startswith("mail: notify.mail: ")
    assert good == "good: delivered", "the channels behind it are tried as well"
    assert "hunter2" not in shown.out + shown.err


def test_a_channel_that_crashes_does_not_keep_the_test_from_the_others(
    receiver: ThreadingHTTPServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = _two_hooks(tmp_path, receiver.server_port)
    deliver = WebhookChannel.deliver

    def crash_first(channel: WebhookChannel, what: Notification) -> None:
        if channel.name == "good":
            raise UnicodeEncodeError("ascii", "ö", 0, 1, "ordinal not in range")
        deliver(channel, what)

    monkeypatch.setattr(WebhookChannel, "deliver", crash_first)
    assert main(["deliveries", "test", file]) == Exit.FAILED
    good, bad = capsys.readouterr().out.splitlines()
    assert good.startswith("good: unexpected UnicodeEncodeError")
    assert "404" in bad


def test_without_channels_nothing_can_be_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text("cameras: {a: {source: {address: x}}}\n")
    assert main(["deliveries", "test", str(file)]) == Exit.USAGE
    assert "alarms are sent to nobody" in capsys.readouterr().err


def test_files_and_clocks_from_before_1980_are_exported(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clock that is not set dates files in 1970, where no ZIP entry can be."""
    still = data / "evidence" / "north" / "north-1" / "still-0.jpg"
    os.utime(still, (44, 44))
    monkeypatch.setattr("time.localtime", lambda at=20: time.gmtime(at))
    target = tmp_path / "x.zip"
    run(data, "events", "export", str(target), capsys=capsys)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert archive.read("north/north-1/still-0.jpg") == b"image"
        assert {entry.date_time[0] for entry in archive.infolist()} >= {1980}


def test_a_legal_hold_is_set_shown_and_released(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("events", "hold", "north-1-1", "--reason", "court of north, 7/26")
    (record,) = run(data, *arguments, capsys=capsys)
    assert record == {"kind": "hold", "alarm": "north-1", "reason": "court of north, 7/26"}
    shown = run(data, "events", "show", "north-1", capsys=capsys)
    assert {each["hold"] for each in shown} == {"court of north, 7/26"}
    assert main(["events", "show", "north-1", "--data-dir", str(data)]) == Exit.OK
    assert "legal hold     court of north, 7/26" in capsys.readouterr().out
    (record,) = run(data, "events", "release", "north-1", capsys=capsys)
    assert record == {"kind": "release", "alarm": "north-1", "held": True}
    assert main(["events", "hold", "nobody", "--data-dir", str(data)]) == Exit.USAGE


def test_the_list_says_what_retention_has_deleted(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SqliteEventStore(data / "events.sqlite") as store:
        store.outbox.give_up([each.number for each in store.outbox.pending()])
        assert store.retention.forget_evidence("north-1")
    assert main(["events", "show", "north-1", "--data-dir", str(data)]) == Exit.OK
    shown = capsys.readouterr().out
    assert "deleted by retention at" in shown
    assert "FAULT" not in shown
    with SqliteEventStore(data / "events.sqlite") as store:
        assert store.retention.delete("north-1")
    assert main(["events", "list", "--data-dir", str(data)]) == Exit.OK
    assert "retention has deleted 1 older alarms" in capsys.readouterr().err


def test_an_alarm_of_a_camera_that_is_gone_is_closed_and_one_that_is_watched_is_not(data, capsys):
    (record,) = run(data, "events", "close", "south-1", capsys=capsys)
    assert (record["kind"], record["id"]) == ("cleared", "south-1-1")
    config = data.parent / "station.yaml"
    config.write_text(
        f"data_dir: {data}\ncameras: {{south: {{source: {{address: 'pattern:'}}}}}}\n"
    )
    assert main(["events", "close", "south-1", "--config", str(config)]) == Exit.USAGE
    assert "camera south is watched" in capsys.readouterr().err
    assert main(["events", "close", "south-1", "--data-dir", str(data)]) == Exit.USAGE
    assert "alarm south-1 is not open" in capsys.readouterr().err
