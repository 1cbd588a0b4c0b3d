"""Clips and a real RTSP server that several tests of sources share."""

import pytest

from tests.support import clips, rtsp_server


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """50 frames, 25 a second, a key frame each second."""
    return clips.video_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="session")
def elementary(tmp_path_factory):
    """The same as H.264 Annex B with a key frame each 0.4 s, for the RTSP server."""
    path = tmp_path_factory.mktemp("clips") / "clip.h264"
    return clips.video_clip(path, gop=10, options={"x264-params": "aud=1"})


@pytest.fixture(scope="session")
def rtsp():
    """The class of the RTSP server, where it can run."""
    reason = rtsp_server.missing()
    if reason:
        pytest.skip(reason)
    return rtsp_server.RtspServer
