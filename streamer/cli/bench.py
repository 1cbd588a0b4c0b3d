"""`streamer bench`: measures this machine. The figures of the README come from here."""

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

from . import output

BENCHES: Final = (
    "link",
    "engines",
    "overhead",
    "overload",
    "replay",
    "lowlight",
    "convert",
    "cameras",
    "rtsp",
)
"""Modules of `streamer.bench`, fast ones first."""


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Of: {', '.join(BENCHES)}.")
    ] = None,
    *,
    write: Annotated[Path | None, typer.Option(help="JSON file to add the figures to.")] = None,
) -> None:
    """Measure this machine. All benchmarks take about fifteen minutes; the machine must be idle."""
    unknown = [name for name in names or () if name not in BENCHES]
    if unknown:
        raise typer.BadParameter(
            f"unknown benchmark {unknown[0]!r}; choose from {', '.join(BENCHES)}"
        )
    out = output.current()
    for name in names or BENCHES:
        out.note(f"measuring {name}")
        figures = import_module(f"streamer.bench.{name}").measure()
        record = {"bench": name, "figures": figures}
        out.result(
            record, f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items())
        )
        if write is not None:
            _add_figures(write, name, figures)


def _add_figures(path: Path, name: str, figures: object) -> None:
    from streamer.bench.fixtures import machine

    figures_by_name = json.loads(path.read_text()) if path.exists() else {}
    figures_by_name[name] = {"figures": figures, "machine": machine()}
    path.write_text(json.dumps(figures_by_name, indent=1, sort_keys=True) + "\n")
