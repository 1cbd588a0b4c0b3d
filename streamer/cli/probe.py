"""`streamer probe`: measures what an address delivers and what must be decoded to watch it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import output, termination
from .credentials import PasswordFile, User, credentials

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.sources.probe import ProbeReport

_FPS = (0.2, 0.5, 1.0, 2.0, 5.0)


def probe(
    address: Annotated[str, typer.Argument(metavar="URL", help="A stream, device or file.")],
    *,
    user: User = None,
    password_file: PasswordFile = None,
    transport: Annotated[
        Literal["auto", "tcp", "udp"], typer.Option(help="RTSP transport.")
    ] = "auto",
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.5, max=120, help="Seconds to wait for frames.")
    ] = 10,
    fps: Annotated[
        list[float] | None,
        typer.Option(min=0.01, max=60, help="Inferences per second to plan for; may be repeated."),
    ] = None,
) -> None:
    """Open a camera and report its stream. Reads it for a few seconds."""
    from streamer.core.clock import CancelToken
    from streamer.core.redact import redact_url
    from streamer.sources.options import VideoOptions
    from streamer.sources.probe import probe as probe_address

    if not address.strip():
        raise typer.BadParameter("the address is empty")
    out = output.current()
    login = credentials(address, user, password_file)
    options = VideoOptions(
        transport=transport, user=login.user, password=login.password, timeout_s=timeout_s
    )
    out.note(f"probing {redact_url(address)}")
    cancel = CancelToken()
    try:
        with termination.current().on_signal(cancel.set):  # A blocked call is cut by it.
            report = probe_address(address, options=options, cancel=cancel, fps=tuple(fps or _FPS))
    except ValueError as error:  # A folder or the pattern: there is nothing to measure.
        raise typer.BadParameter(str(error)) from error
    out.result(_record(report), lambda: _table(report))


def _record(report: "ProbeReport") -> dict[str, Any]:
    """Every field of the report, with its kind under `source`."""
    record = {**asdict(report), "kind": "probe", "source": report.kind.value}
    record["plans"] = [
        {
            "fps": cost.fps,
            "decode": cost.plan.decode.value,
            "reason": cost.plan.reason,
        }
        for cost in report.plans
    ]
    return record


def _table(report: "ProbeReport") -> "RenderableType":
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "address": report.address,
        "video": f"{report.width}x{report.height} {report.codec} ({report.pixel_format})",
        "rate": _figure(report.rate, "{:.2f} fps"),
        "bit rate": _figure(report.bit_rate, "{:.0f} kbit/s", 1e-3),
        "key frames": _figure(report.gop_s, "one every {:.2f} s"),
        "B-frames": "yes: the camera delays its frames" if report.reordered else "no",
        "first frame": f"after {report.first_frame_ms:.0f} ms",
        "faults": (
            f"{report.damaged} damaged packets, {report.timestamp_repairs} repaired timestamps"
            f" in {report.seconds:.1f} s"
        ),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for cost in report.plans:
        table.add_row(f"inference at {cost.fps:g} fps", str(cost.plan))
    return table


def _figure(value: float | None, text: str, unit: float = 1) -> str:
    return "unknown" if value is None else text.format(value * unit)
