"""`watch` as a station runs it: a real RTSP server, webhook and broker, and kills."""

import contextlib
import json
import re
import signal
import subprocess
from pathlib import Path

import av
import pytest

from streamer.evidence.manifest import verify
from tests.support.http_receiver import HttpReceiver
from tests.support.mqtt_broker import MqttBroker, MqttListener
from tests.support.rtsp_server import RtspServer, missing

from .conftest import STREAMER
from .test_demo_and_replay import run

pytestmark = [pytest.mark.system, pytest.mark.slow]

LIMIT_S = 60
CONFIG = """
data_dir: {folder}/data
preview: {{enabled: false}}
cameras:
  north:
    source: {{address: "{address}", user: fire, password: "wa:tch@1/%"}}
    detect: {{fps: 5, background: {{enabled: false}}}}
    alarm: {{confirm_window_s: 2}}
    clip: {{pre_roll_s: 2, post_roll_s: 2}}
notify:
  operations: {{kind: webhook, url: "{webhook}"}}
  home: {{kind: mqtt, host: 127.0.0.1, port: {mqtt}}}
"""


@pytest.fixture(scope="module")
def burning(demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration from its alarm on, as an RTSP server needs it, 640x360."""
    path = tmp_path_factory.mktemp("burning") / "clip.h264"
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 640, 360, "yuv420p"
    encoder.framerate = 25
    encoder.options = {
        "preset": "veryfast", "bf": "0", "g": "25", "x264-params": "aud=1", "tune": "zerolatency",
    }  # fmt: skip
    with av.open(demo.summary["clip"]) as clip, path.open("wb") as file:
        for frame in clip.decode(video=0):
            if frame.time >= demo.summary["raised_s"]:
                small = frame.reformat(640, 360)
                small.pts = None
                small.pict_type = 0
                file.writelines(map(bytes, encoder.encode(small)))
        file.writelines(map(bytes, encoder.encode(None)))
    return path


class Station:
    """The running program; its output is kept in files, so that nothing fills up."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder, self.config = folder, config

    def start(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "out").open("ab") as out, (self.folder / "err").open("ab") as err:
            return subprocess.Popen(
                [*STREAMER, "watch", str(self.config), "--json"], stdout=out, stderr=err
            )


def test_an_alarm_survives_a_kill_and_is_delivered_once_to_each(burning, mosquitto, tmp_path):
    if reason := missing():
        pytest.skip(reason)
    with (
        HttpReceiver() as webhook,
        MqttBroker(tmp_path) as broker,
        MqttListener(broker.port) as home,
        RtspServer(burning, auth="digest") as camera,
    ):
        config = tmp_path / "station.yaml"
        config.write_text(
            CONFIG.format(
                folder=tmp_path, address=camera.url, webhook=webhook.url, mqtt=broker.port
            )
        )
        station = Station(tmp_path, config)
        first = station.start()
        webhook.wait_for(lambda: bool(webhook.requests), timeout_s=LIMIT_S)
        first.kill()
        first.wait(LIMIT_S)
        raised = next(iter(webhook.counts()))

        second = station.start()
        home.wait_for(lambda: any("raised" in text for _, text, _ in home.heard))
        home.wait_for(lambda: [text for _, text, _ in home.heard].count("online") > 1)
        while (tmp_path / "err").read_text().count("watching north") < 2:
            assert second.poll() is None
            with contextlib.suppress(subprocess.TimeoutExpired):
                second.wait(0.05)
        second.send_signal(signal.SIGINT)
        assert second.wait(LIMIT_S) == 0, (tmp_path / "err").read_text()[-2000:]

        delivered = webhook.counts()
    # The kill may have come before the answer was read: then the same key is delivered again.
    assert delivered[raised] <= 2
    assert all(count == 1 for key, count in delivered.items() if key != raised)
    listed = run("events", "list", "--config", config, "--json")
    events = [json.loads(line) for line in listed.stdout.splitlines()]
    assert sum(event["kind"] == "raised" for event in events) == 1, listed.stderr
    evidence = Path(next(event["evidence"] for event in events if event["kind"] == "raised"))
    assert verify(evidence) == []
    with av.open(str(evidence / "clip.mp4")) as clip:
        assert sum(1 for _ in clip.decode(video=0)) > 10
    assert run("deliveries", "pending", "--config", config, "--json").stdout == ""
    output = (tmp_path / "out").read_text() + (tmp_path / "err").read_text()
    assert not re.search(r"wa:tch|t0psecret", output)
