"""`streamer watch`: watches cameras until it is ended."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
        typer.Argument(metavar="CONFIG...", help="YAML files; later files override earlier ones."),
    ] = None,
    *,
    source: Annotated[
        str | None, typer.Option(help="Address of one camera, watched with default settings.")
    ] = None,
) -> None:
    """Watch cameras for smoke. Ctrl-C finishes frames on their way; a second one stops at once."""
    from streamer.app.program import open_program
    from streamer.web.server import WebServer

    loaded = configuration(files or [], source=source)
    config, out = loaded.config, output.current()
    with ExitStack() as opened:
        program = opened.enter_context(open_program(config, on_event=show_event, redact=out.redact))
        names = ", ".join(camera.name for camera in program.cameras())
        out.note(f"watching {names}; alarms and evidence in {config.data_dir}")
        if config.preview.enabled:
            token = config.preview.token
            web = WebServer(
                config.preview.host,
                config.preview.port,
                token=None if token is None else token.get_secret_value(),
                status=program.status,
                cameras=program.live_views,
            )
            opened.callback(web.close)
            program.supervisor.add_service("web", web.serve)
            out.note(f"preview at {web.url}")
        with _ended_by_signals(program.supervisor):
            program.supervisor.run()


@contextmanager
def _ended_by_signals(supervisor: "Supervisor") -> Iterator[None]:
    """The first SIGINT or SIGTERM finishes the supervisor, the next one stops it."""
    signalled = threading.Event()

    def end(number: int, frame: object) -> None:
        del number, frame
        # The handler interrupts the main thread, which may hold the locks that ending needs, so
        # another thread does it.
        method = supervisor.stop if signalled.is_set() else supervisor.finish
        signalled.set()
        supervisor.call(method)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
