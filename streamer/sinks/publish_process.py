"""The publisher: a process that sends the newest frame of one camera to a media server.

`publish.py` starts it. It sends at a constant frame rate, so that players never wait, sends a NO
SIGNAL card while the newest frame is stale, and reconnects to a server that is away. It exits when
its input ends, and the kernel kills it when the program is killed. It ignores other signals: a
service manager sends them to every process of a service, and the program ends this one after the
last frame.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import IO, Final

import av
import av.error
import structlog

from engines.malloc import disable_malloc_trim
from streamer.core import log
from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.destinations import check_url
from streamer.core.drawing import no_signal
from streamer.core.errors import ForbiddenDestination
from streamer.core.image import Image
from streamer.core.link import LatestValue
from streamer.core.redact import Redactor, all_parts

from .frame_pipe import SentImage, read_frame
from .h264 import H264Encoder
from .publish import PublishSettings

_log = structlog.get_logger(__name__)

_RECONNECT: Final = Backoff(initial_s=0.5, max_delay_s=8.0, reset_after_s=8.0)
_TIMEOUT_US: Final = "5000000"
_FORMATS: Final = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv", "rtmps": "flv"}
"""Container format by scheme; MPEG-TS for all others."""


_PR_SET_PDEATHSIG: Final = 1
_NEVER: Final = 2**62
"""A version that no frame reaches."""


def main(pipe: IO[bytes], parent: int) -> None:
    """Publish the frames that come through *pipe* until it ends, or the process *parent* does."""
    _end_with(parent)
    disable_malloc_trim()
    settings = PublishSettings(**json.loads(pipe.readline()))
    log.set_up(level=settings.log_level, style=settings.log_style, redact=_redactor(settings))
    newest: LatestValue[SentImage] = LatestValue()
    reader = threading.Thread(target=_read, args=(pipe, newest), name="reader")
    reader.start()
    failures = FailureCounter(_RECONNECT)
    while not newest.closed:
        began = time.monotonic()
        try:
            _publish(settings, newest)
        except (av.error.FFmpegError, OSError, ForbiddenDestination) as error:
            failures.note_success(time.monotonic() - began)
            delay_s = failures.delay_s()
            _log.warning(
                "not published", camera=settings.camera, to=settings.shown_as,
                error=getattr(error, "strerror", None) or str(error), retry_in_s=delay_s,
            )  # fmt: skip
            newest.wait(_NEVER, timeout_s=delay_s)  # Or until the input ends.


def _end_with(parent: int) -> None:
    """Let the kernel kill this process with its parent; ignore what others send.

    The end of the input would do, but is not seen while a connection is opened.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):  # Linux has it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It was killed before.
        os._exit(0)


def _redactor(settings: PublishSettings) -> Callable[[str], str]:
    """Return what removes the address from texts, and every part of it that is not shown."""
    known = Redactor(all_parts(settings.url) - all_parts(settings.shown_as))
    return lambda text: known(text.replace(settings.url, settings.shown_as))


def _read(pipe: IO[bytes], newest: LatestValue[SentImage]) -> None:
    while (sent := read_frame(pipe)) is not None:
        newest.set(sent)
    newest.close()


def _publish(settings: PublishSettings, newest: LatestValue[SentImage]) -> None:
    """Publish over one connection until it fails or the input ends."""
    while (first := newest.wait(0, timeout_s=1.0)) is None:
        if newest.closed:
            return
    if not settings.allow_link_local:
        check_url(settings.url)
    scheme = settings.url.partition(":")[0].lower()
    options = {"rtsp_transport": "tcp", "timeout": _TIMEOUT_US}
    rate = Fraction(settings.rate).limit_denominator(1001)
    with av.open(
        settings.url, "w", format=_FORMATS.get(scheme, "mpegts"),
        options=options if scheme.startswith("rtsp") else {"rw_timeout": _TIMEOUT_US},
    ) as container:  # fmt: skip
        encoder = H264Encoder(
            container,
            first[1].image,
            preset=settings.preset,
            rate=rate,
            # A key frame every two seconds: a new viewer waits at most that long.
            options={"tune": "zerolatency", "g": str(max(1, round(2 * settings.rate)))},
        )
        began_ns, number = time.monotonic_ns(), 0
        while not newest.closed:
            pts_ns = int(number / rate * 1_000_000_000)
            wait_s = (began_ns + pts_ns - time.monotonic_ns()) / 1e9
            if wait_s > 0:
                time.sleep(wait_s)
            container.mux(encoder.encode(_current_image(settings, newest), pts_ns))
            # A frame whose time has passed is skipped: it would be late.
            behind = int((time.monotonic_ns() - began_ns) * rate / 1_000_000_000)
            number = max(number + 1, behind)
        container.mux(encoder.flush())


def _current_image(settings: PublishSettings, newest: LatestValue[SentImage]) -> Image:
    found = newest.wait(0, timeout_s=0)
    assert found is not None, "the first frame stays in the slot"
    sent = found[1]
    age_s = (time.monotonic_ns() - sent.arrived_ns) / 1e9
    if age_s <= settings.stale_after_s:
        return sent.image
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - age_s))
    return no_signal(sent.image.size, camera=settings.camera, since=f"{since} UTC, {age_s:.0f} s")


if __name__ == "__main__":
    main(sys.stdin.buffer, int(sys.argv[1]))
    sys.stderr.flush()
    os._exit(0)  # The muxer of a dead connection must not delay the exit.
