"""Lines that a camera's source writes to the log."""

import socket

import pytest
import structlog

from streamer.app.camera_spec import CameraSpec
from streamer.app.source_builder import build_source
from streamer.config import CameraSettings
from streamer.core.clock import CancelToken, SystemClock


@pytest.fixture
def lines():
    """What was logged, as dictionaries."""
    captured = structlog.testing.LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, captured])
    yield captured.entries
    structlog.configure(**before)


def test_each_line_of_a_source_names_its_camera(lines):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = CameraSettings.model_validate({"source": {"address": f"rtsp://127.0.0.1:{port}/x"}})
    source = build_source(
        CameraSpec(name="north ridge", settings=settings),
        clock=SystemClock(),
        tap=None,
        every_frame=False,
    )
    cancel = _StopAtFirstPause()
    assert list(source.source(cancel)) == []
    assert [line["event"] for line in lines] == ["no frames"]
    assert all(line["camera"] == "north ridge" for line in lines)
    assert structlog.contextvars.get_contextvars() == {}


class _StopAtFirstPause(CancelToken):
    def sleep(self, seconds: float) -> None:
        del seconds
        self.set()
