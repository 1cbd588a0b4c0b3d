"""`streamer watch`: watch cameras until somebody ends it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .common import configuration
from .replay import show_event

if TYPE_CHECKING:
    from streamer.app.supervisor import Supervisor


def watch(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CONFIG...", help="Later files win over earlier ones."),
    ] = None,
    *,
    source: Annotated[
        str | None, typer.Option(help="One camera with defaults, instead of a configuration.")
    ] = None,
) -> None:
    """Watch cameras: the first Ctrl-C lets what is on its way arrive, a second one stops."""
    from streamer.app.program import open_program

    loaded = configuration(files or [], source=source)
    out = output.current()
    with open_program(loaded.config, on_event=show_event) as program:
        names = ", ".join(camera.name for camera in program.cameras)
        out.note(f"watching {names}; alarms and evidence in {loaded.config.data_dir}")
        if program.preview is not None:
            out.note(f"preview at {program.preview.url}")
        with _ended_by_signals(program.service):
            program.service.run()


@contextmanager
def _ended_by_signals(service: "Supervisor") -> Iterator[None]:
    """The first SIGINT or SIGTERM finishes the service, the next one stops it."""
    asked = threading.Event()

    def end(number: int, frame: object) -> None:
        del number, frame
        # A handler runs between two lines of the main thread, which may hold the locks that
        # ending needs: another thread takes them.
        what = service.stop if asked.is_set() else service.finish
        asked.set()
        service.call(what)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
