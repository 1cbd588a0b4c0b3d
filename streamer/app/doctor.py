"""Is this machine fit for the work, and what is to be done about it?

Each check gives one finding or several and raises nothing: what fails by surprise is a finding
too, so that the others are still made. Nothing is changed on the machine.
"""

import ctypes
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from streamer.core.errors import ConfigError, StreamerError

if TYPE_CHECKING:
    from streamer.config import CameraSettings, Config
    from streamer.sources.probe import ProbeReport

Status = Literal["ok", "warn", "fail"]

_LIBRARIES: Final = ("av", "numpy", "opencv-python-headless", "openvino", "onnxruntime")
_DECODERS: Final = ("h264", "hevc", "mjpeg")
_LITTLE_SPACE: Final = 1_000_000_000
_ENOUGH_SPACE: Final = 5_000_000_000
"""Bytes. Arbitrary: the evidence of an alarm takes 10 to 50 MB."""

_TIME_ERROR: Final = 5
"""What Linux' adjtimex gives while the clock is not synchronised."""

_TIMEX_BYTES: Final = 512
"""More than its `struct timex`; all zero means that nothing is to be changed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question."""

    check: str
    """What was looked at."""

    status: Status
    message: str
    """What was found."""

    advice: str = ""
    """What to do about it; empty when all is well."""


def examine(config: "Config", *, reach: bool) -> Iterator[Finding]:
    """All findings, each as it is made.

    Args:
        config: What the machine is to do.
        reach: Whether the cameras are asked too.
    """
    yield from _safely("program", _program)
    yield from _safely("decoders", _decoders)
    yield from _safely("network", partial(_network, config))
    yield from _safely("data", partial(_data, config.data_dir))
    yield from _safely("memory", partial(_memory, config))
    yield from _safely("notify", partial(_notify, config))
    yield from _safely("clock", _clock)
    if config.preview.enabled:
        yield from _safely("preview", partial(_port, config.preview.host, config.preview.port))
    if reach:
        for name, camera in config.cameras.items():
            if camera.enabled:
                yield from _safely(f"camera {name}", partial(_camera, name, camera))


def _safely(check: str, work: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from work()
    except Exception as error:  # noqa: BLE001  a check that breaks must not hide the others
        yield Finding(check, "fail", f"{type(error).__name__}: {error}", "please report this")


def _program() -> Iterator[Finding]:
    from streamer import __version__

    found = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    missing = [name for name in _LIBRARIES if _version(name) == "missing"]
    advice = f"install {', '.join(missing)}" if missing else ""
    message = f"streamer {__version__}, Python {platform.python_version()}, {found}"
    yield Finding("program", "fail" if missing else "ok", message, advice)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _decoders() -> Iterator[Finding]:
    import av

    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    missing = [name for name in _DECODERS if name not in av.codecs_available]
    if missing:
        yield Finding(
            "decoders",
            "fail",
            f"libavcodec {ffmpeg} without {', '.join(missing)}",
            "install av from its wheel: pip install --force-reinstall --only-binary :all: av",
        )
    else:
        yield Finding("decoders", "ok", f"libavcodec {ffmpeg} with {', '.join(_DECODERS)}")


def _network(config: "Config") -> Iterator[Finding]:
    from engines.errors import DeviceUnavailable, EngineError, InaccurateEngine, ModelFileError
    from engines.smoke.model import open_smoke_model

    engine = config.engine
    advice = {
        DeviceUnavailable: "set engine.device to auto, or install what it needs",
        InaccurateEngine: "set engine.precision to f32",
        ModelFileError: "mend engine.model, or install the program again",
    }
    try:
        precision = None if engine.precision == "auto" else engine.precision
        model = open_smoke_model(engine.model, device=engine.device, precision=precision)
    except EngineError as error:
        help_ = advice.get(type(error), "set engine.model to smoke")
        yield Finding("network", "fail", str(error), help_)
        return
    message, state = f"{model.name} on {model.backend} agrees with the reference", model.state
    model.close()
    yield Finding("network", "ok", message)
    if state.building is not None:
        wait = "`streamer engines build` builds it now; else the program does while it runs"
        yield Finding("gpu", "warn", f"{engine.device}: there is no proven plan yet", wait)
    elif state.degraded:
        mend = "mend that, or set engine.device to cpu"
        yield Finding("gpu", "warn", f"{engine.device}: {state.reason}", mend)


def _data(folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"streamer")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        yield Finding(
            "data",
            "fail",
            f"{there} cannot be written: {reason}",
            "set data_dir to a folder that you may write, or change its owner",
        )
        return
    free = shutil.disk_usage(there).free
    status: Status = "ok" if free >= _ENOUGH_SPACE else "warn"
    status = "fail" if free < _LITTLE_SPACE else status
    advice = "" if status == "ok" else "make room, or set data_dir to a larger disk"
    yield Finding("data", status, f"{folder} can be written, {free / 1e9:.1f} GB free", advice)


def _memory(config: "Config") -> Iterator[Finding]:
    from .resource_budget import compute

    needed = compute(config).bytes
    available = _available_bytes()
    if available is None:
        yield Finding("memory", "ok", f"at most {needed / 1e6:.0f} MB are needed")
        return
    message = f"at most {needed / 1e6:.0f} MB are needed, {available / 1e6:.0f} MB are available"
    if needed <= available:
        yield Finding("memory", "ok", message)
    else:
        advice = "`streamer check` shows what needs it: fewer cameras, smaller rings, fewer outputs"
        yield Finding("memory", "warn", message, advice)


def _available_bytes() -> int | None:
    """What Linux could give without swapping; `None` where it is not said."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _notify(config: "Config") -> Iterator[Finding]:
    from .channels import open_channels

    if not config.notify:
        yield Finding("notify", "ok", "nobody is told of alarms; they are kept on disk")
        return
    try:
        open_channels(config)
    except ConfigError as error:
        yield Finding("notify", "fail", str(error), "mend the channel's settings")
        return
    names = ", ".join(config.notify)
    yield Finding("notify", "ok", f"{names}: can be used; `streamer deliveries test` tells them")


def _clock() -> Iterator[Finding]:
    state = _clock_state()
    if state is None:
        yield Finding("clock", "ok", "whether it is synchronised cannot be told here")
    elif state == _TIME_ERROR:
        yield Finding(
            "clock",
            "warn",
            "not synchronised: the times of alarms may be wrong",
            "let chrony, systemd-timesyncd or the host of this container set it",
        )
    else:
        yield Finding("clock", "ok", "synchronised")


def _clock_state() -> int | None:
    """What the kernel says of the clock: negative when it does not want to; `None` elsewhere."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    state = int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state


def _port(host: str, number: int) -> Iterator[Finding]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            # As the server does: a port that is only cooling down is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        yield Finding(
            "preview",
            "fail",
            f"{host}:{number} cannot be used: {reason}",
            "end what uses it, or set preview.port to another",
        )
    else:
        yield Finding("preview", "ok", f"{host}:{number} is free")


def _camera(name: str, camera: "CameraSettings") -> Iterator[Finding]:
    check = f"camera {name}"
    try:
        report = probe_camera(camera)
    except StreamerError as error:
        yield Finding(check, "fail", str(error), f"try `streamer probe {camera.source.address}`")
        return
    if report is None:
        yield Finding(check, "ok", f"{camera.source.address} is neither a video nor a snapshot")
        return
    looks = camera.detect.fps
    plan = f"; {report.plans[0].plan}" if report.plans else ""
    message = f"{report.codec} {report.width}x{report.height}, {looks:g} looks a second{plan}"
    yield Finding(check, "ok", message)


def probe_camera(camera: "CameraSettings") -> "ProbeReport | None":
    """What the camera delivers; `None` for folders of images and the test pattern.

    Raises:
        SourceError: Nothing is there, or it cannot be decoded.
    """
    from streamer.core.clock import CancelToken
    from streamer.sources.address import SourceKind, kind_of
    from streamer.sources.options import VideoOptions
    from streamer.sources.probe import probe

    source = camera.source
    address = source.address.get_secret_value()
    if source.kind in ("images", "pattern") or kind_of(address) in (
        SourceKind.FOLDER,
        SourceKind.PATTERN,
    ):
        return None
    options = VideoOptions(
        transport=source.transport,
        user=source.user,
        password=source.password.get_secret_value() if source.password else None,
        timeout_s=source.timeout_s,
        frame_rate=source.frame_rate,
        tls_verify=source.tls_verify,
        ca_file=str(source.ca_file) if source.ca_file else None,
    )
    return probe(address, options=options, cancel=CancelToken(), fps=(camera.detect.fps,))
