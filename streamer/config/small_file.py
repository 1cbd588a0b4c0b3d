"""Reading a file of a limited size: a configuration, a password."""

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import Final

_WAIT_S: Final = 10.0
"""Longest wait for the writer of a pipe, as in `--password-file <(pass camera)`. Arbitrary."""


def read_small_file(path: Path, *, most: int) -> bytes:
    """Return the content of *path*, at most one byte more than *most*: then it is too large.

    Raises:
        OSError: It cannot be read, or it is a pipe and its writer does not end in time.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return _from_pipe(descriptor, most + 1)
        os.set_blocking(descriptor, True)  # A terminal.
        return file.read(most + 1)


def _from_pipe(descriptor: int, most: int) -> bytes:
    """Read until the writer closes the pipe; without any writer, nothing else would end this."""
    end_s = time.monotonic() + _WAIT_S
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    content = b""
    while len(content) < most:
        left_s = max(0.0, end_s - time.monotonic())
        if not ready.poll(left_s * 1000):
            raise OSError(
                errno.ETIMEDOUT, f"it is a pipe, and nobody ended writing in {_WAIT_S:.0f} s"
            )
        part = os.read(descriptor, most - len(content))
        if not part:
            break
        content += part
    return content
