"""A camera for measurements: serves H.264 over RTSP and prints when it sent each frame.

Run by Debian's Python, which has GStreamer's bindings (package gir1.2-gst-rtsp-server-1.0). It
reads the access units of an Annex B file, pushes them at a fixed rate, and prints a line
`NUMBER MONOTONIC_NS` for each.
"""

import sys
import time
from pathlib import Path

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

DELIMITER = b"\x00\x00\x00\x01\x09"
"""Begins an access unit."""


def main(path: str, port: str, rate: int) -> None:
    """Serve the file in a loop at /cam until the process is ended."""
    Gst.init(None)
    units = [DELIMITER + unit for unit in Path(path).read_bytes().split(DELIMITER)[1:]]

    def feed(_: object, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_child_by_name("source")
        began, number = time.monotonic(), 0

        def push() -> bool:
            nonlocal number
            while number <= (time.monotonic() - began) * rate:
                buffer = Gst.Buffer.new_wrapped(units[number % len(units)])
                buffer.pts = buffer.dts = number * Gst.SECOND // rate
                sys.stdout.write(f"{number % len(units)} {time.monotonic_ns()}\n")
                sys.stdout.flush()
                if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return False
                number += 1
            return True

        GLib.timeout_add(2, push)

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( appsrc name=source is-live=true format=time "
        "caps=video/x-h264,stream-format=byte-stream,alignment=au "
        "! h264parse config-interval=1 ! rtph264pay name=pay0 pt=96 )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", feed)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        sys.exit("cannot listen")
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
