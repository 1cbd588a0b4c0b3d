"""User name and password of an address on the command line.

All users of a machine can read the arguments of its processes, and a program cannot hide its own.
So the password comes from the environment, a file or a prompt. One in the address works as well,
with a warning.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from . import output

PASSWORD: Final = "STREAMER_PASSWORD"  # noqa: S105  the name of a variable
"""Environment variable that holds the password."""

_LARGEST_FILE: Final = 65_536
"""Bytes of a file with a password, as in the configuration."""

User = Annotated[
    str | None,
    typer.Option(
        "--user",
        help=f"User name. Its password is read from {PASSWORD}, or requested on the terminal.",
    ),
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password.", dir_okay=False)
]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an address is opened with; `None` takes what the address itself has."""

    user: str | None = None
    password: str | None = None


def credentials(address: str, user: str | None, file: Path | None) -> Credentials:
    """Return the credentials for *address*; they are redacted from all output from now on.

    Raises:
        typer.BadParameter: There is a user, but no way to get the password.
    """
    from streamer.core.redact import secret_parts

    out = output.current()
    out.secrets |= secret_parts(address)
    if _has_password(address):
        out.warn(
            "all users of this machine can read the password in the address, as part of"
            f" the command line; give --user and set {PASSWORD}, or use --password-file"
        )
    if user is None and file is None:
        return Credentials()
    found = _password(user, file)
    out.secrets |= {found} - {""}
    return Credentials(user, found)


def _password(user: str | None, file: Path | None) -> str:
    if file is not None:
        from streamer.config.small_file import read_small_file

        try:
            content = read_small_file(file, most=_LARGEST_FILE)
            if len(content) > _LARGEST_FILE:
                raise typer.BadParameter(
                    f"{file}: is larger than {_LARGEST_FILE} bytes: no password"
                )
            return content.decode("utf-8-sig").rstrip("\r\n")
        except OSError as error:
            raise typer.BadParameter(f"{file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise typer.BadParameter(f"{file}: the password is not UTF-8 text") from None
    if PASSWORD in os.environ:
        return os.environ[PASSWORD]
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"no password for {user}: set {PASSWORD}, give --password-file, or run this on a"
            " terminal"
        )
    from getpass import getpass

    return getpass(f"password of {user}: ")


def _has_password(address: str) -> bool:
    try:
        return urlsplit(address).password is not None
    except ValueError:
        return False
