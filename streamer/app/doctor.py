"""The checks of `streamer doctor`: whether this machine is fit for a configuration.

Each check yields findings and raises nothing: an unexpected error becomes a finding, so that the
other checks still run. Nothing is changed on the machine. If the program is running here, its
status is checked as well, and what it uses is not reported as taken.
"""

import errno
import os
import platform
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from streamer.core.clock import CancelToken
from streamer.core.clock_guard import clock_is_synchronised
from streamer.core.errors import ConfigError, StreamerError
from streamer.core.listening import for_url, listen
from streamer.core.local_time import for_people
from streamer.core.redact import redact_url
from streamer.health.disk import disk_status

from .running_program import RunningProgram, find_running

if TYPE_CHECKING:
    from streamer.config import CameraSettings, Config
    from streamer.sources.probe import ProbeReport

Status = Literal["ok", "warn", "fail"]

_LIBRARIES: Final = ("av", "numpy", "opencv-python-headless", "openvino", "onnxruntime")
_DECODERS: Final = ("h264", "hevc", "mjpeg")
_CLOCK_TOLERANCE: Final = timedelta(days=1)
_SET_CLOCK: Final = "set it by chrony or systemd-timesyncd, or on the host of this container"


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


def examine(
    config: "Config", *, reach: bool, cancel: CancelToken | None = None
) -> Iterator[Finding]:
    """Yield all findings, each as soon as it is known.

    Args:
        config: The configuration that the machine is to run.
        reach: Whether cameras and receivers of notifications are contacted as well.
        cancel: Ends a camera that is being opened.
    """
    running = find_running(config)
    yield from _safely("running", partial(_running, running))
    yield from _safely("program", _program)
    yield from _safely("decoders", _decoders)
    yield from _safely("network", partial(_network, config))
    yield from _safely("data", partial(_data, config))
    yield from _safely("events", partial(_events, config))
    yield from _safely("memory", partial(_memory, config))
    yield from _safely("notify", partial(_notify, config, running, reach=reach))
    yield from _safely("clock", partial(_clock, config))
    if config.preview.enabled:
        yield from _safely("preview", partial(_preview, config, running))
    if reach:
        for name, camera in config.cameras.items():
            if camera.enabled:
                work = partial(_camera, name, camera, config, cancel)
                yield from _safely(f"camera {name}", work)


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


def _data(config: "Config") -> Iterator[Finding]:
    folder = config.data_dir
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"streamer")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fix = "set data_dir to a folder that you may write, or change its owner"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "delete files, or set data_dir to a larger disk"
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


def _notify(config: "Config", running: RunningProgram, *, reach: bool) -> Iterator[Finding]:
    from .channels import check_channels, open_channels

    if not config.notify:
        yield Finding("notify", "ok", "no channel is configured; alarms are only stored on disk")
        return
    try:
        open_channels(config)
    except ConfigError as error:
        yield Finding("notify", "fail", str(error), "correct the settings of the channel")
        return
    test = "`streamer deliveries test CONFIG` sends a message"
    names = ", ".join(config.notify)
    if running.found:  # A second connection to a broker would replace the program's own.
        message = f"{names}: settings are usable; the running program checks the receivers"
        yield Finding("notify", "ok", message)
        return
    if not reach:
        yield Finding("notify", "ok", f"{names}: settings are usable; {test}")
        return
    for one in check_channels(config):
        check = f"notify {one.name}"
        if one.error is not None:
            fix = "start the receiver, or correct the settings of the channel"
            yield Finding(check, "fail", one.error, fix)
        elif one.reached:
            yield Finding(check, "ok", f"its receiver is reached; {test}")
        else:
            yield Finding(check, "ok", f"settings are usable; {test}")


def _clock(config: "Config") -> Iterator[Finding]:
    now = datetime.now(UTC)
    shown = for_people(now)
    written = _newest_event(config)
    built = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    for moment, of_what in ((written, "the newest event"), (built, "this program's files")):
        if moment is not None and now < moment - _CLOCK_TOLERANCE:
            message = f"it says {shown}, before {of_what} of {for_people(moment)}"
            yield Finding("clock", "fail", message, f"{_SET_CLOCK}, before the program starts")
            return
    synchronised = clock_is_synchronised()
    if synchronised is None:
        message = f"{shown}; its synchronisation cannot be checked on this system"
        yield Finding("clock", "ok", message)
    elif synchronised:
        yield Finding("clock", "ok", f"{shown}, synchronised")
    else:
        message = f"{shown}, not synchronised: the times of alarms may be wrong"
        yield Finding("clock", "warn", message, _SET_CLOCK)


def _newest_event(config: "Config") -> datetime | None:
    from streamer.store.sqlite import SqliteEventStore

    try:
        with SqliteEventStore.open_read_only(config.events_file) as store:
            newest = next(iter(store.events(limit=1, newest_first=True)), None)
    except StreamerError:
        return None
    return newest.event.utc if newest else None


def _events(config: "Config") -> Iterator[Finding]:
    from streamer.store.sqlite import SqliteEventStore

    path = config.events_file
    if not path.exists():
        yield Finding("events", "ok", f"{path} is made when the program starts")
        return
    try:
        with SqliteEventStore.open_read_only(path) as store:
            active = len(list(store.open_alarms()))
            waiting = sum(one.waiting for one in store.outbox.backlog().values())
    except StreamerError as error:
        fix = "move the file away, and the program makes a new one; keep it for its events"
        yield Finding("events", "fail", str(error), fix)
        return
    yield Finding("events", "ok", f"{path}: {active} alarms active, {waiting} deliveries wait")


def _running(running: RunningProgram) -> Iterator[Finding]:
    if running.holder:
        yield Finding("running", "ok", f"a program uses this data folder: {running.holder}")
    if running.status is not None:
        for problem in running.status["problems"]:
            yield Finding("running", "warn", problem, "see /status of the running program")


def _preview(config: "Config", running: RunningProgram) -> Iterator[Finding]:
    where = f"{for_url(config.preview.host)}:{config.preview.port}"
    if running.status is not None:
        version = running.status["version"]
        yield Finding("preview", "ok", f"streamer {version} is running at {where}")
    elif running.refusal:
        fix = "give the configuration of the running program: `streamer doctor --config FILE`"
        yield Finding("preview", "fail", f"{where}: {running.refusal}", fix)
    else:
        yield from _port(config.preview.host, config.preview.port)


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


def _camera(
    name: str, camera: "CameraSettings", config: "Config", cancel: CancelToken | None
) -> Iterator[Finding]:
    check = f"camera {name}"
    try:
        report = probe_camera(
            camera, allow_link_local=config.network.allow_link_local, cancel=cancel
        )
    except StreamerError as error:
        yield Finding(check, "fail", str(error), f"try `{_probe_command(camera)}`")
        return
    if report is None:
        address = str(camera.source.address)
        yield Finding(check, "ok", f"{address} is not a stream: it is opened when watched")
        return
    fps = camera.detect.fps
    plan = f"; {report.plans[0].plan}" if report.plans else ""
    message = f"{report.codec} {report.width}x{report.height}, {fps:g} inferences per second{plan}"
    yield Finding(check, "ok", message)


def _probe_command(camera: "CameraSettings") -> str:
    """Return the complete command that opens this camera; it requests the password."""
    from streamer.sources.address import resolve_credentials

    source = camera.source
    address, user, _ = resolve_credentials(
        source.address.get_secret_value(), user=source.user, password=None
    )
    command = ["streamer", "probe", redact_url(address)]
    command += ["--user", user] if user else []
    command += ["--transport", source.transport] if source.transport != "auto" else []
    return shlex.join([*command, "--timeout", f"{source.timeout_s:g}"])


def probe_camera(
    camera: "CameraSettings", *, allow_link_local: bool, cancel: CancelToken | None = None
) -> "ProbeReport | None":
    """Probe the camera; return `None` for folders of images and the test pattern.

    Raises:
        SourceError: It cannot be opened or decoded.
    """
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
        cancel=cancel or CancelToken(),
        fps=(camera.detect.fps,),
        kind=None if camera.source.kind == "auto" else spec.kind,
    )
