"""`streamer check`: validates a configuration and computes its maximum latency and memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, termination
from .common import configuration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.app.resource_budget import Budget
    from streamer.config import Config, Loaded

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG...", help="YAML files; later files override earlier ones."),
    ],
    *,
    probe: Annotated[
        bool, typer.Option("--probe", help="Open the cameras to learn their frame sizes.")
    ] = False,
    effective: Annotated[
        bool, typer.Option("--effective", help="Print every setting with its effective value.")
    ] = False,
) -> None:
    """Validate a configuration. Prints the maximum latency and memory that it allows."""
    from streamer.app.resource_budget import compute
    from streamer.config import InvalidConfig

    out = output.current()
    try:
        loaded = configuration(files)
        _check_channels(loaded)
    except InvalidConfig as error:
        for problem in error.problems:
            out.record({"kind": "problem", **problem.as_json()})
        raise
    sizes = _probed_sizes(loaded.config) if probe else {}
    budget = compute(loaded.config, sizes=sizes)
    record = {
        "kind": "check",
        "digest": loaded.config.digest(),
        "advice": advice(loaded.config),
        "budget": budget.as_json(),
        "effective": loaded.effective(),
    }
    out.result(record, lambda: _report(loaded, budget))
    if effective:
        out.say(_as_yaml(loaded))


def _check_channels(loaded: "Loaded") -> None:
    """Make each channel: whether its service and its files exist is not seen from its keys."""
    from streamer.app.channels import open_channel
    from streamer.config import InvalidConfig, Problem
    from streamer.core.errors import ConfigError

    problems = []
    for name in loaded.config.notify:
        try:
            open_channel(loaded.config, name)
        except ConfigError as error:
            problems.append(Problem(str(loaded.files[-1]), None, "", str(error)))
    if problems:
        raise InvalidConfig(problems)


def advice(config: "Config") -> list[str]:
    """Return notes on settings that are valid but probably not intended."""
    notes = []
    if not config.notify:
        notes.append("notify: no channel is configured; alarms are only stored on disk")
    preview = config.preview
    if preview.enabled and preview.host not in _LOOPBACK and preview.token is None:
        notes.append("preview: all machines of the network can see the cameras; set preview.token")
    names = {*config.cameras, *config.notify}
    for name, camera in config.cameras.items():
        password = camera.source.password
        if password is not None and password.get_secret_value() in names:
            notes.append(f"cameras.{name}.source.password: equals a name, which everybody sees")
        if config.notify and camera.notify == ():
            notes.append(f"cameras.{name}.notify: alarms of this camera are sent to no channel")
    return notes


def _probed_sizes(config: "Config") -> dict[str, tuple[int, int]]:
    from streamer.app.doctor import probe_camera
    from streamer.core.clock import CancelToken

    sizes = {}
    cancel = CancelToken()
    allowed = config.network.allow_link_local
    with termination.current().on_signal(cancel.set):  # A camera that is being opened is cut.
        for name, camera in config.cameras.items():
            if camera.enabled:
                output.current().note(f"probing {name} at {camera.source.address}")
                report = probe_camera(camera, allow_link_local=allowed, cancel=cancel)
                if report is not None:
                    sizes[name] = report.height, report.width
    return sizes


def _report(loaded: "Loaded", budget: "Budget") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    names = ", ".join(str(file) for file in loaded.files)
    cameras = len(budget.cameras)
    head = f"{names}: valid; {cameras} camera{'s' * (cameras != 1)} enabled"
    lines = [f"digest {loaded.config.digest()}"]
    notes = [f"note: {text}" for text in advice(loaded.config)]
    assumed = [f"assumption: {text}" for text in budget.assumptions]
    total = f"{_mb(budget.bytes)} MB of memory in total at most"
    return Group(
        Text("\n".join([head, *lines, *notes, ""])),
        _ages(budget),
        _memory(budget),
        Text("\n".join([total, *assumed])),
    )


def _ages(budget: "Budget") -> "RenderableType":
    from rich.table import Table

    table = Table("camera", "output", title="maximum age of a frame", title_justify="left")
    table.add_column("at delivery, ms", justify="right")
    table.add_column("when replaced, ms", justify="right")
    for camera in budget.cameras:
        for age in camera.ages:
            table.add_row(camera.camera, age.sink, str(age.delivered_ms), str(age.shown_ms))
    return table


def _memory(budget: "Budget") -> "RenderableType":
    from rich.table import Table

    parts = list(dict.fromkeys(part for camera in budget.cameras for part in camera.memory))
    table = Table(title="maximum memory, MB", title_justify="left")
    table.add_column("camera", no_wrap=True)
    table.add_column("frame size", no_wrap=True)
    for part in (*parts, "sum"):
        table.add_column(part, justify="right")
    for camera in budget.cameras:
        size = f"{camera.size[1]}x{camera.size[0]}{'?' * camera.assumed}"
        cells = [_mb(camera.memory[part]) if part in camera.memory else "" for part in parts]
        table.add_row(camera.camera, size, *cells, _mb(camera.bytes))
    for part, count in budget.shared.items():
        table.add_row(f"({part})", "", *[""] * len(parts), _mb(count))
    return table


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f}"


def _as_yaml(loaded: "Loaded") -> str:
    import io

    from ruamel.yaml import YAML

    text = io.StringIO()
    yaml = YAML()
    yaml.width = 1000
    yaml.dump(loaded.effective(), text)
    return text.getvalue()
