"""A password reaches the camera, and neither the list of processes nor the output."""

import base64
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from streamer.cli import main
from streamer.cli.exit_codes import Exit

PASSWORD = "hünter2"


class _Camera(BaseHTTPRequestHandler):
    """Requests a login and notes what it gets; it serves nothing."""

    def do_GET(self):
        given = self.headers.get("Authorization")
        if given is None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        else:
            self.server.logins.append(base64.b64decode(given.removeprefix("Basic ")).decode())
            self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, *_):
        pass


@pytest.fixture
def camera():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Camera) as server:
        server.logins = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(camera, login=""):
    return f"http://{login}127.0.0.1:{camera.server_port}/video.ts"


def test_it_is_read_from_the_environment(camera, monkeypatch, capsys):
    monkeypatch.setenv("STREAMER_PASSWORD", PASSWORD)
    assert main(["probe", url(camera), "--user", "fire"]) == Exit.SOURCE
    assert camera.logins == [f"fire:{PASSWORD}"]
    assert "warning" not in capsys.readouterr().err


def test_it_is_read_from_a_file_with_a_byte_order_mark_and_newlines(camera, tmp_path, capsys):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\r\n\n", "utf-8-sig")
    arguments = ["probe", url(camera), "--user", "fire", "--password-file", str(file)]
    assert main(arguments) == Exit.SOURCE
    assert camera.logins == [f"fire:{PASSWORD}"]


def test_it_is_requested_on_a_terminal_and_not_shown(camera):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer.cli", "probe", url(camera), "--user", "fire"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"password of fire" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, f"{PASSWORD}\n".encode())
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # The other end is closed.
        pass
    os.close(ours)
    assert process.wait(60) == Exit.SOURCE
    assert camera.logins == [f"fire:{PASSWORD}"]
    assert PASSWORD not in shown.decode()


def test_without_a_terminal_the_line_says_how_to_give_it(camera, monkeypatch, capsys):
    monkeypatch.delenv("STREAMER_PASSWORD", raising=False)
    assert main(["probe", url(camera), "--user", "fire"]) == Exit.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert "set STREAMER_PASSWORD" in line
    assert camera.logins == []


@pytest.mark.parametrize("command", [["probe"], ["watch", "--source"]])
def test_one_in_the_address_is_a_warning(camera, command, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("streamer.app.program.open_program", stop)
    main([*command, url(camera, "fire:hunter2@"), "--quiet"])
    shown = capsys.readouterr()
    assert "all users of this machine can read the password" in shown.err
    assert "STREAMER_PASSWORD" in shown.err
    assert "hunter2" not in shown.out + shown.err


def test_a_login_without_an_address_is_a_usage_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STREAMER_PASSWORD", PASSWORD)
    assert main(["watch", "x.yaml", "--user", "fire"]) == Exit.USAGE
    assert "belong to --source" in capsys.readouterr().err
