"""The checks of `streamer doctor`: whether this machine is fit for a configuration.

Each check yields findings and raises nothing: an unexpected error becomes a finding, so that the
other checks still run. Nothing is changed on the machine. If the program is running here, its
status is checked as well.
"""

import ctypes
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from streamer.core.errors import ConfigError, StreamerError
from streamer.core.listening import for_url, listen
from streamer.health.disk import disk_status

if TYPE_CHECKING:
    from streamer.config import CameraSettings, Config
    from streamer.sources.probe import ProbeReport

Status = Literal["ok", "warn", "fail"]

_LIBRARIES: Final = ("av", "numpy", "opencv-python-headless", "openvino", "onnxruntime")
_DECODERS: Final = ("h264", "hevc", "mjpeg")
_TIME_ERROR: Final = 5
"""Return value of Linux' adjtimex while the clock is not synchronised."""

_TIMEX_BYTES: Final = 512
"""Larger than `struct timex`; all zero makes adjtimex change nothing."""

_STATUS_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    """Name of the check."""

    status: Status
    message: str
    """What was found, on one line."""

    advice: str = ""
    """What to do about it; empty if nothing is wrong."""


def examine(config: "Config", *, reach: bool) -> Iterator[Finding]:
    """Yield all findings, each as soon as it is known.

    Args:
        config: The configuration that the machine is to run.
        reach: Whether the cameras are opened as well.
    """
    yield from _safely("program", _program)
    yield from _safely("decoders", _decoders)
    yield from _safely("network", partial(_network, config))
    yield from _safely("data", partial(_data, config.data_dir))
    yield from _safely("memory", partial(_memory, config))
    yield from _safely("notify", partial(_notify, config))
    yield from _safely("clock", _clock)
    if config.preview.enabled:
        yield from _safely("preview", partial(_preview, config))
    if reach:
        for name, camera in config.cameras.items():
            if camera.enabled:
                yield from _safely(f"camera {name}", partial(_camera, name, camera, config))


def _safely(check: str, work: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from work()
    except Exception as error:  # noqa: BLE001  a check that breaks must not hide the others
        yield Finding(check, "fail", f"{type(error).__name__}: {error}", "please report this error")


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
        fix = "install av from its wheel: pip install --force-reinstall --only-binary :all: av"
        yield Finding("decoders", "fail", f"libavcodec {ffmpeg} without {', '.join(missing)}", fix)
    else:
        yield Finding("decoders", "ok", f"libavcodec {ffmpeg} with {', '.join(_DECODERS)}")


def _network(config: "Config") -> Iterator[Finding]:
    from engines.errors import DeviceUnavailable, EngineError, InaccurateEngine, ModelFileError
    from engines.loading import cpu_precision, find_gpu, gpu_problem
    from engines.smoke.model import open_smoke_model
    from engines.smoke.yuv_model import has_checked_plan

    engine = config.engine
    advice = {
        DeviceUnavailable: "set engine.device to auto, or install what it needs",
        InaccurateEngine: "set engine.precision to f32",
        ModelFileError: "correct engine.model, or install the program again",
    }
    try:
        precision = None if engine.precision == "auto" else engine.precision
        gpu = find_gpu(engine.device, precision)
        model = open_smoke_model(
            engine.model, precision=cpu_precision(precision, engine.device) if gpu is None else None
        )
        model.close()
        checked = gpu is None or has_checked_plan(engine.model, gpu, precision=precision)
    except EngineError as error:
        fix = advice.get(type(error), "set engine.model to smoke")
        yield Finding("network", "fail", str(error), fix)
        return
    message = f"{model.name} on {model.backend} agrees with the reference"
    yield Finding("network", "ok", message)
    if not checked:
        wait = "`streamer engines build` builds it now; else the program does while it runs"
        yield Finding("gpu", "warn", f"{engine.device}: there is no validated plan yet", wait)
    elif problem := gpu_problem(engine.device):
        fix = "fix that, or set engine.device to cpu"
        yield Finding("gpu", "warn", f"{engine.device}: {problem}", fix)


def _data(folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"streamer")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fix = "set data_dir to a folder that you may write, or change its owner"
        yield Finding("data", "fail", f"{there} cannot be written: {reason}", fix)
        return
    disk = disk_status(folder)
    if disk.free_bytes is None:
        yield Finding("data", "warn", disk.reason, "set data_dir to another disk")
        return
    status: Status = "ok" if disk.state == "ok" else "warn"
    status = "fail" if disk.state.paused else status
    advice = "" if status == "ok" else "delete files, or set data_dir to a larger disk"
    message = f"{folder} can be written, {disk.free_bytes / 1e9:.1f} GB free"
    yield Finding("data", status, message, advice)


def _memory(config: "Config") -> Iterator[Finding]:
    from .resource_budget import compute

    needed = compute(config).bytes
    available = _available_bytes()
    if available is None:
        yield Finding("memory", "ok", f"needs at most {needed / 1e6:.0f} MB")
        return
    message = f"needs at most {needed / 1e6:.0f} MB, {available / 1e6:.0f} MB are available"
    if needed <= available:
        yield Finding("memory", "ok", message)
    else:
        advice = "use fewer cameras or outputs, or smaller packet rings: see `streamer check`"
        yield Finding("memory", "warn", message, advice)


def _available_bytes() -> int | None:
    """Memory that Linux can provide without swapping; `None` where it is not known."""
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
        yield Finding("notify", "ok", "no channel is configured; alarms are only stored on disk")
        return
    try:
        open_channels(config)
    except ConfigError as error:
        yield Finding("notify", "fail", str(error), "correct the settings of the channel")
        return
    names = ", ".join(config.notify)
    yield Finding(
        "notify", "ok", f"{names}: settings are usable; `streamer deliveries test` sends a message"
    )


def _clock() -> Iterator[Finding]:
    state = _clock_state()
    if state is None:
        yield Finding("clock", "ok", "its synchronisation cannot be checked on this system")
    elif state == _TIME_ERROR:
        fix = "set it by chrony or systemd-timesyncd, or on the host of this container"
        yield Finding("clock", "warn", "not synchronised: the times of alarms may be wrong", fix)
    else:
        yield Finding("clock", "ok", "synchronised")


def _clock_state() -> int | None:
    """State of the kernel's clock; `None` where the kernel does not report it."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    state = int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state


def _preview(config: "Config") -> Iterator[Finding]:
    running = _running_status(config)
    if running is None:
        yield from _port(config.preview.host, config.preview.port)
        return
    where = f"{for_url(config.preview.host)}:{config.preview.port}"
    yield Finding("preview", "ok", f"streamer {running['version']} is running at {where}")
    for problem in running["problems"]:
        yield Finding("running", "warn", problem, "see /status of the running program")


def _running_status(config: "Config") -> dict[str, Any] | None:
    """The program status that a running program serves at the preview's address; `None` if none."""
    import httpx

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.preview.host, config.preview.host)  # noqa: S104  compared, not listened on
    token = config.preview.token
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    url = httpx.URL(scheme="http", host=host, port=config.preview.port, path="/status")
    try:
        with httpx.Client(timeout=_STATUS_TIMEOUT_S, trust_env=False) as client:
            found = client.get(url, headers=headers).json()
    except (httpx.HTTPError, ValueError):
        return None
    known = isinstance(found, dict) and {"version", "problems"} <= set(found)
    return found if known else None


def _port(host: str, number: int) -> Iterator[Finding]:
    where = f"{for_url(host)}:{number}"
    try:
        listeners = listen(host, number)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fix = "end the program that uses it, or set preview.port to another port"
        yield Finding("preview", "fail", f"{where} cannot be used: {reason}", fix)
    else:
        for listener in listeners:
            listener.close()
        yield Finding("preview", "ok", f"{where} is free")


def _camera(name: str, camera: "CameraSettings", config: "Config") -> Iterator[Finding]:
    check = f"camera {name}"
    try:
        report = probe_camera(camera, allow_link_local=config.network.allow_link_local)
    except StreamerError as error:
        yield Finding(check, "fail", str(error), f"try `streamer probe {camera.source.address}`")
        return
    if report is None:
        yield Finding(check, "ok", f"{camera.source.address} is a folder or the test pattern")
        return
    fps = camera.detect.fps
    plan = f"; {report.plans[0].plan}" if report.plans else ""
    message = f"{report.codec} {report.width}x{report.height}, {fps:g} inferences per second{plan}"
    yield Finding(check, "ok", message)


def probe_camera(camera: "CameraSettings", *, allow_link_local: bool) -> "ProbeReport | None":
    """Probe the camera; return `None` for folders of images and the test pattern.

    Raises:
        SourceError: It cannot be opened or decoded.
    """
    from streamer.core.clock import CancelToken
    from streamer.sources.address import SourceKind
    from streamer.sources.probe import probe

    from .camera_spec import CameraSpec
    from .source_builder import video_options

    spec = CameraSpec(name="", settings=camera)
    if spec.kind in (SourceKind.FOLDER, SourceKind.PATTERN):
        return None
    options = video_options(camera.source, allow_link_local=allow_link_local)
    return probe(
        spec.address,
        options=options,
        cancel=CancelToken(),
        fps=(camera.detect.fps,),
        kind=None if camera.source.kind == "auto" else spec.kind,
    )
