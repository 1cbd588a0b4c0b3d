"""`streamer bench`: measure this machine; the figures of the README come from here."""

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
"""Modules of `streamer.bench`, quick ones first."""


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Of: {', '.join(BENCHES)}.")
    ] = None,
    *,
    write: Annotated[
        Path | None, typer.Option(help="JSON file that takes the figures, beside those it has.")
    ] = None,
) -> None:
    """Measure; all of it takes some ten minutes on a quiet machine."""
    unknown = [name for name in names or () if name not in BENCHES]
    if unknown:
        raise typer.BadParameter(f"no bench {unknown[0]!r}; there are {', '.join(BENCHES)}")
    out = output.current()
    for name in names or BENCHES:
        out.note(f"measuring {name}")
        figures = import_module(f"streamer.bench.{name}").measure()
        record = {"bench": name, "figures": figures}
        out.result(
            record, f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items())
        )
        if write is not None:
            _keep(write, name, figures)


def _keep(path: Path, name: str, figures: object) -> None:
    from streamer.bench.fixtures import machine

    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = {"figures": figures, "machine": machine()}
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
