"""`streamer probe`: what does this address deliver, and what will watching it cost?"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer.sources.probe import ProbeReport

_LOOKS = (0.2, 0.5, 1.0, 2.0, 5.0)


def probe(
    address: Annotated[str, typer.Argument(metavar="URL", help="A stream, device or file.")],
    *,
    user: Annotated[str | None, typer.Option(help="Name to log in with.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File that holds the password.", dir_okay=False)
    ] = None,
    transport: Annotated[
        Literal["auto", "tcp", "udp"], typer.Option(help="How RTSP carries video.")
    ] = "auto",
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.5, max=120, help="Seconds to wait for pictures.")
    ] = 10,
    looks: Annotated[
        list[float] | None,
        typer.Option(min=0.01, max=60, help="Looks a second to plan for; may be repeated."),
    ] = None,
) -> None:
    """Open a camera, watch it for some seconds, and say what is there."""
    from streamer.core.clock import CancelToken
    from streamer.core.redact import redact, secret_parts
    from streamer.sources.options import VideoOptions
    from streamer.sources.probe import probe as probe_address

    out = output.current()
    password = password_file.read_text().rstrip("\r\n") if password_file else None
    out.secrets |= secret_parts(address) | ({password} if password else set())
    options = VideoOptions(transport=transport, user=user, password=password, timeout_s=timeout_s)
    out.note(f"looking at {redact(address)}")
    try:
        report = probe_address(
            address, options=options, cancel=CancelToken(), looks_per_s=tuple(looks or _LOOKS)
        )
    except ValueError as error:  # A folder or the pattern: there is nothing to measure.
        raise typer.BadParameter(str(error)) from error
    out.result(_record(report), lambda: _table(report))


def _record(report: "ProbeReport") -> dict[str, Any]:
    """Every field of the report, with its kind under `source`."""
    record = {**asdict(report), "kind": "probe", "source": report.kind.value}
    record["plans"] = [
        {
            "looks_per_s": look.looks_per_s,
            "decode": look.plan.decode.value,
            "why": look.plan.reason,
        }
        for look in report.plans
    ]
    return record


def _table(report: "ProbeReport") -> "RenderableType":
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "address": report.address,
        "picture": f"{report.width}x{report.height} {report.codec} ({report.pixel_format})",
        "rate": _figure(report.rate, "{:.2f} pictures a second"),
        "bit rate": _figure(report.bit_rate, "{:.0f} kbit/s", 1e-3),
        "key frames": _figure(report.gop_s, "one every {:.2f} s"),
        "B frames": "yes: the camera delays its pictures" if report.reordered else "no",
        "first picture": f"after {report.first_frame_ms:.0f} ms",
        "faults": (
            f"{report.damaged} damaged packets, {report.timestamp_repairs} repaired time stamps"
            f" in {report.seconds:.1f} s"
        ),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for look in report.plans:
        table.add_row(f"{look.looks_per_s:g} looks a second", str(look.plan))
    return table


def _figure(value: float | None, text: str, unit: float = 1) -> str:
    return "not known" if value is None else text.format(value * unit)
