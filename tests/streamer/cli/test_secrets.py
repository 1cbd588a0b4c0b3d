"""No command prints a secret of an address, wherever in the address it stands."""

import json

import pytest

from streamer.cli import main
from tests.support.rtsp_server import free_port

SECRET = "hunter2-Qx9"
ADDRESSES = [
    "rtsp://admin:{secret}@127.0.0.1:{port}/live",
    "rtsp://127.0.0.1:{port}/user=admin_password={secret}_channel=1.sdp",
    "rtsp://127.0.0.1:{port}/live/{secret}",
    "rtmp://127.0.0.1:{port}/app/{secret}",
    "http://127.0.0.1:{port}/snapshot.cgi?loginuse=admin&loginpas={secret}",
    "http://127.0.0.1:{port}/video.ts?authKey={secret}&x=1",
    "http://127.0.0.1:{port}/get?jwt={secret}#{secret}",
    "http://admin:{secret}@127.0.0.1:{port}/a.jpg?psw={secret}&passcode={secret}",
    "tcp://127.0.0.1:{port}?pw={secret}",
]


@pytest.fixture(params=ADDRESSES)
def address(request):
    return request.param.format(secret=SECRET, port=free_port())


@pytest.mark.parametrize("options", [["--debug", "-v"], ["--json"]], ids=" ".join)
def test_a_probe_that_fails_names_the_camera_without_its_secrets(address, options, capsys):
    assert main(["probe", address, *options, "--timeout", "1"]) != 0
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert "127.0.0.1:" in shown.err


def test_check_shows_no_address_with_its_secrets(tmp_path, capsys):
    port = free_port()
    sources = [one.format(secret=SECRET, port=port) for one in ADDRESSES]
    cameras = {f"c{number}": {"source": {"address": one, "timeout_s": 1}}
               for number, one in enumerate(sources)}  # fmt: skip
    cameras["c0"]["outputs"] = {"publish": {"url": f"rtmp://127.0.0.1/live/{SECRET}"}}
    hook = {"kind": "webhook", "url": f"https://127.0.0.1/services/{SECRET}"}
    file = tmp_path / "fire.yaml"
    file.write_text(json.dumps({"cameras": cameras, "notify": {"hook": hook}}))
    assert main(["check", "--effective", str(file)]) == 0
    assert main(["check", "--json", str(file)]) == 0
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert f"127.0.0.1:{port}" in shown.out
