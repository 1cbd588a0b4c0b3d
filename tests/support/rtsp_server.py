"""A real RTSP server: GStreamer's, in a process of its own, so that it can be killed and stopped.

Run by Debian's Python, which has the bindings (packages `gir1.2-gst-rtsp-server-1.0`,
`python3-gi`, `gstreamer1.0-plugins-base`, `-good`, `-bad` and `gstreamer1.0-rtsp`). Imported, it
is the class that tests use; started as a program, it is the server.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

PYTHON = "/usr/bin/python3"
START_LIMIT_S = 20
DELIMITER = b"\x00\x00\x00\x01\x09"  # Annex B access unit delimiter.


def missing() -> str | None:
    """Why the server cannot run here, or None."""
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import GstRtspServer"
    )
    if not Path(PYTHON).exists():
        return f"no {PYTHON}"
    answer = subprocess.run([PYTHON, "-c", code], capture_output=True, check=False, timeout=60)
    return None if answer.returncode == 0 else "gir1.2-gst-rtsp-server-1.0 is not installed"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """Serves a clip in a loop at /cam. A context manager; `start` again after `kill`.

    Args:
        clip: H.264 Annex B with access unit delimiters and without B frames; or nothing, when
            `launch` says what to serve.
        rate: Frames a second.
        auth: `basic` or `digest`; the user is `fire`, the password `wa:tch@1/%`.
        transport: What the server offers: `tcp`, `udp` or `both`.
        tls: A file with a certificate and its key: RTSPS.
        launch: A GStreamer pipeline whose payloader is called pay0, in place of the clip.
        mounts: Paths that serve the clip.
    """

    USER, PASSWORD = "fire", "wa:tch@1/%"

    def __init__(
        self,
        clip: Path | None = None,
        *,
        rate: int = 25,
        auth: str | None = None,
        transport: str = "both",
        tls: Path | None = None,
        launch: str | None = None,
        mounts: tuple[str, ...] = ("/cam",),
    ) -> None:
        self.port = free_port()
        self._settings = {
            "port": self.port, "clip": str(clip) if clip else None, "rate": rate, "auth": auth,
            "transport": transport, "tls": str(tls) if tls else None, "launch": launch,
            "mounts": mounts, "user": self.USER, "password": self.PASSWORD,
        }  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self.url = f"{'rtsps' if tls else 'rtsp'}://127.0.0.1:{self.port}/cam"

    def start(self) -> None:
        """Start; returns when it listens."""
        settings = json.dumps(self._settings)
        self._process = subprocess.Popen(
            [PYTHON, __file__, settings], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "listening":
            raise RuntimeError("the RTSP server did not start")

    def pause(self) -> None:
        """Make it fall silent while its connections stay."""
        self._running().send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it at once; its connections break."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait(timeout=START_LIMIT_S)
        assert process.stdout is not None
        process.stdout.close()

    def _running(self) -> "subprocess.Popen[str]":
        assert self._process is not None, "start it first"
        return self._process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def certificate(folder: Path, *, host: str = "127.0.0.1") -> Path:
    """A self-signed certificate with its key, for one host, valid for two days."""
    path = folder / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={host}", "-addext", f"subjectAltName=IP:{host}",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    path.write_text((folder / "certificate.pem").read_text() + (folder / "key.pem").read_text())
    return path


def _access_units(clip: str) -> list[bytes]:
    data = Path(clip).read_bytes()
    return [DELIMITER + unit for unit in data.split(DELIMITER)[1:]]


def _serve(settings: dict[str, object]) -> None:  # noqa: C901, PLR0915  one program, read in order
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)
    rate = int(str(settings["rate"]))
    units = _access_units(str(settings["clip"])) if settings["clip"] else []
    launch = settings["launch"] or (
        "( appsrc name=source is-live=true format=time do-timestamp=false "
        "caps=video/x-h264,stream-format=byte-stream,alignment=au "
        "! h264parse config-interval=1 ! rtph264pay name=pay0 pt=96 )"
    )

    def feed(_factory: object, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_child_by_name("source")
        if source is None:
            return
        state = {"next": 0, "began": time.monotonic()}

        def push() -> bool:
            due = int((time.monotonic() - state["began"]) * rate)
            while state["next"] <= due:
                buffer = Gst.Buffer.new_wrapped(units[state["next"] % len(units)])
                buffer.pts = buffer.dts = state["next"] * Gst.SECOND // rate
                buffer.duration = Gst.SECOND // rate
                if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return False
                state["next"] += 1
            return True

        GLib.timeout_add(max(1, 500 // rate), push)

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(settings["port"]))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.set_shared(settings["launch"] is None)
    factory.connect("media-configure", feed)
    lower = GstRtsp.RTSPLowerTrans
    factory.set_protocols(
        {"tcp": lower.TCP, "udp": lower.UDP, "both": lower.TCP | lower.UDP}[
            str(settings["transport"])
        ]
    )
    if settings["auth"] or settings["tls"]:
        auth = GstRtspServer.RTSPAuth()
        role = "anonymous"
        if settings["auth"]:
            role = "viewer"
            token = GstRtspServer.RTSPToken()
            token.set_string("media.factory.role", role)
            user, password = str(settings["user"]), str(settings["password"])
            if settings["auth"] == "basic":
                secret = GstRtspServer.RTSPAuth.make_basic(user, password)
                auth.add_basic(secret, token)
            else:
                auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
                auth.add_digest(user, password, token)
        else:
            token = GstRtspServer.RTSPToken()
            token.set_string("media.factory.role", role)
            auth.set_default_token(token)
        if settings["tls"]:
            auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(str(settings["tls"])))
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role(role, "media.factory.access", True)
        permissions.add_permission_for_role(role, "media.factory.construct", True)
        factory.set_permissions(permissions)
        server.set_auth(auth)
    for mount in settings["mounts"]:
        server.get_mount_points().add_factory(mount, factory)
    if server.attach(None) == 0:
        raise SystemExit("cannot listen")
    print("listening", flush=True)  # noqa: T201  the signal that tests wait for
    GLib.MainLoop().run()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
