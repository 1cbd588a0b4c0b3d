"""The command line. `streamer --help` imports nothing heavy: each command imports what it needs."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

from engines.malloc import disable_malloc_trim
from streamer.core.errors import Cancelled

from . import output, termination
from .common import common, register, register_name
from .exit_codes import Exit, exit_code, one_line

COMMANDS: Final = (
    "watch", "convert", "verify", "replay", "probe", "check", "events", "deliveries", "prior",
    "engines", "bench", "doctor", "schema", "demo",
)  # fmt: skip
"""Modules of this folder, in the order of the help text."""

CONTRACT: Final = 2
"""Version of the contract for scripts; see README.md."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in *arguments*, by default those of the process; return the exit code."""
    wanted = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    output.reset()
    output.accept_every_character()
    disable_malloc_trim()
    signals = termination.reset()
    signals.open()
    try:
        status = _run(wanted)
    finally:
        signals.close()
    if signals.first is not None:
        if status == Exit.INTERRUPTED:
            status = Exit.OK if signals.is_regular_end else 128 + signals.first
        termination.leave(status)
    return status


def _open_streams() -> None:
    """Replace streams that are closed, as a service may start: Python has `None` for them."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("r" if name == "stdin" else "w")  # noqa: SIM115  for good
            setattr(sys, name, stream)


def _run(wanted: list[str]) -> int:
    try:
        application = _app(wanted)
        status = application(args=wanted or ["--help"], prog_name="streamer", standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, Cancelled) as error:  # noqa: BLE001  reported by kind
        return _report(error)
    return int(status or Exit.OK) if wanted else Exit.USAGE


def _app(arguments: Sequence[str]) -> typer.Typer:
    """Return the application with the command that is called, or with the names of all.

    The options before the command take no values, so the first other argument is the command.
    """
    app = typer.Typer(
        help="Watch cameras for smoke without losing an alarm; convert recordings without loss.",
        invoke_without_command=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(common(_root, logs=False))
    called = next((one for one in arguments if not one.startswith("-")), None)
    if called in COMMANDS:
        register(app, called, import_module(f".{called}", __package__))
        return app
    for name in COMMANDS:
        register_name(app, name, import_module(f".{name}", __package__))
    return app


def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from streamer import __version__

        output.current().result(
            {"kind": "version", "version": __version__, "contract": CONTRACT}, __version__
        )
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.BadParameter("no command given; 'streamer --help' lists the commands")


def _report(error: BaseException) -> int:
    code = Exit.INTERRUPTED if termination.current().interrupted else exit_code(error)
    if code is Exit.BROKEN_PIPE:
        # The reader has gone. Without this, Python would fail again when it flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    out = output.current()
    if out.debug:
        sys.stderr.write(out.redact("".join(traceback.format_exception(error))))
    if code is not Exit.INTERRUPTED:
        out.error(one_line(error))
    return code
