"""`streamer watch`: watches cameras until it is ended."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, termination
from .common import configuration
from .credentials import Credentials, PasswordFile, User, credentials
from .event_printer import EventPrinter

if TYPE_CHECKING:
    from streamer.config import Config


def watch(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CONFIG...", help="YAML files; later files override earlier ones."),
    ] = None,
    *,
    source: Annotated[
        str | None, typer.Option(help="Address of one camera, watched with default settings.")
    ] = None,
    user: User = None,
    password_file: PasswordFile = None,
) -> None:
    """Watch cameras for smoke. Ctrl-C finishes frames on their way; a second one stops at once."""
    from streamer.app.program import open_program
    from streamer.web.server import WebServer

    termination.current().is_regular_end = True
    login = Credentials() if source is None else credentials(source, user, password_file)
    if source is None and (user or password_file):
        raise typer.BadParameter("--user and --password-file belong to --source")
    loaded = configuration(files or [], source=source)
    config, out = _with(loaded.config, login), output.current()
    printer = EventPrinter()
    with ExitStack() as opened:
        program = opened.enter_context(open_program(config, on_event=printer, redact=out.redact))
        supervisor = program.supervisor
        supervisor.add_service("output", printer.run)
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
                allowed_hosts=config.preview.allowed_hosts,
            )
            opened.callback(web.close)
            supervisor.add_service("web", web.serve)
            out.note(f"preview at {web.url}")
        with termination.current().on_signal(supervisor.finish, supervisor.stop):
            supervisor.run()


def _with(config: "Config", login: Credentials) -> "Config":
    """Return *config* with this login for each of its cameras; as it is without one."""
    if login.user is None and login.password is None:
        return config
    from pydantic import SecretStr

    password = None if login.password is None else SecretStr(login.password)
    update = {"user": login.user, "password": password}
    cameras = {
        name: camera.model_copy(update={"source": camera.source.model_copy(update=update)})
        for name, camera in config.cameras.items()
    }
    return config.model_copy(update={"cameras": cameras})
