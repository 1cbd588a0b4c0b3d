"""What all commands share: the common options, the log and the configuration.

A command is a module of this folder with a function of its own name, or, for a group, with a
`typer.Typer` called `app`. `COMMANDS` of `streamer.cli` lists it. The module is imported only when
its command runs; it imports heavy libraries inside its functions.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from . import output
from .generated_options import expanded_parameters

if TYPE_CHECKING:
    from streamer.config import Config, Loaded, Problem
    from streamer.config.settings import LogSettings

Function = TypeVar("Function", bound=Callable[..., Any])


def _option(name: str, default: object, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


_JSON = typer.Option("--json", help="Write one JSON object per line.", show_default=False)
_VERBOSE = typer.Option("--verbose", "-v", count=True, help="Log more.", show_default=False)
_QUIET = typer.Option("--quiet", "-q", count=True, help="Log warnings only.", show_default=False)
_DEBUG = typer.Option("--debug", help="Show tracebacks.", show_default=False)
_COMMON = (
    _option("common_json", default=False, annotation=Annotated[bool, _JSON]),
    _option("common_verbose", default=0, annotation=Annotated[int, _VERBOSE]),
    _option("common_quiet", default=0, annotation=Annotated[int, _QUIET]),
    _option("common_debug", default=False, annotation=Annotated[bool, _DEBUG]),
)


def common(function: Function, *, logs: bool = True) -> Function:
    """*function* with the options that every command has, before and after its name."""

    @functools.wraps(function)
    def wrapper(
        *args: Any,
        common_json: bool,
        common_verbose: int,
        common_quiet: int,
        common_debug: bool,
        **kwargs: Any,
    ) -> Any:
        out = output.current()
        out.json = out.json or common_json
        out.verbosity += common_verbose - common_quiet
        out.debug = out.debug or common_debug
        if logs:
            start_log()
        return function(*args, **kwargs)

    parameters = [*expanded_parameters(function), *_COMMON]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {value.name: value.annotation for value in parameters}
    return wrapper  # type: ignore[return-value]


def register_name(app: typer.Typer, name: str, module: ModuleType) -> None:
    """Add the command or group of *module* for the list of commands only, without its options."""
    group = getattr(module, "app", None)
    if group is None:
        app.command(name, help=getattr(module, name).__doc__)(_no_command)
    else:
        fresh = typer.Typer(help=group.info.help)
        fresh.command("command")(_no_command)
        app.add_typer(fresh, name=name)


def _no_command() -> None:
    """Stand for a command in the list of commands."""


def register(app: typer.Typer, name: str, module: ModuleType) -> None:
    """Add the command or group of *module*."""
    group = getattr(module, "app", None)
    if group is None:
        app.command(name)(common(getattr(module, name)))
        return
    # A new group, so that the module's own stays unchanged when `main` is called again.
    fresh = typer.Typer(help=group.info.help)
    for command in group.registered_commands:
        fresh.command(command.name)(common(command.callback))
    app.add_typer(fresh, name=name)


def start_log(settings: "LogSettings | None" = None) -> None:
    """Log to standard error as configured; options of the command line take precedence."""
    from streamer.core import log

    out = output.current()
    level = settings.level if settings else "info"
    if out.verbosity:
        level = "debug" if out.verbosity > 0 else "warning"
    log.set_up(level=level, style=settings.format if settings else "text", redact=out.redact)


DataConfig = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="Configuration with the data folder."),
]
"""Parameter of commands that read the data of `watch`."""

DataFolder = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Data folder, if no configuration is given."),
]
"""Alternative to `DataConfig`."""


def data_settings(files: list[Path] | None, folder: Path | None) -> "Config":
    """Return the configuration in *files* or the default one, with *folder* as its data folder."""
    from streamer.config import from_source

    config = (configuration(files) if files else from_source("pattern:")).config
    return config.model_copy(update={"data_dir": folder.absolute()}) if folder else config


def configuration(files: Sequence[Path], *, source: str | None = None) -> "Loaded":
    """Return the configuration in *files*, or the default one for the camera at *source*.

    The log is set up as configured, and secrets of the configuration are redacted from now on.

    Raises:
        ConfigError: A file is invalid.
        typer.BadParameter: Neither or both are given.
    """
    from streamer import config

    if bool(files) == bool(source):
        raise typer.BadParameter("give either configuration files or --source")
    loaded = config.from_source(source) if source else config.load(*files)
    out = output.current()
    out.secrets |= loaded.secrets()
    start_log(loaded.config.log)
    warn_of_old_names(loaded.warnings)
    return loaded


def warn_of_old_names(warnings: "Sequence[Problem]") -> None:
    """Log each key of the configuration that stands under its old name."""
    import structlog

    for warning in warnings:
        structlog.get_logger(__name__).warning("configuration key was renamed", **warning.as_json())
