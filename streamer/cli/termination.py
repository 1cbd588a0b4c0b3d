"""Ends the process soon after SIGINT, SIGTERM or SIGHUP, whatever its threads are doing.

The first signal interrupts the command: it raises `Interrupted` in the main thread, or calls what
`Termination.on_signal` was given. `LIMIT_S` after it, or `SECOND_LIMIT_S` after a second one, the
process ends by force: a line names the threads that did not end, and the exit code is
`Exit.FORCED`. Container runtimes kill 10 s after SIGTERM. A third signal ends the process at once.

Signals are received by a thread of their own through a pipe that Python's C handler writes: the
main thread may be blocked in a system call or a library. Should that thread be blocked as well, for
example by a log that nobody reads, the kernel ends the process by SIGALRM.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from .exit_codes import Exit

LIMIT_S: Final = 4.5
SECOND_LIMIT_S: Final = 1.0
_KERNEL_S: Final = 1.0
"""The kernel's limit is later than the thread's by this much: on a busy machine the thread waits
for the interpreter's lock."""

_LAST_S: Final = 4.8
"""The kernel's limit is never later than this after the first signal."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLOSE: Final = 0
"""Byte that ends the thread; the others are numbers of signals."""


class Interrupted(KeyboardInterrupt):
    """A signal requested the end of the command."""


class Termination:
    """Receives the signals of the process between `open` and `close`; one for each process."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        """The first signal, once it came."""

        self.interrupted = False
        """Whether `Interrupted` was raised. What it meets may turn it into another error: the
        initialization of a C extension, for example."""

        self.is_regular_end = False
        """Whether a signal is how this command ends, and its exit code is `Exit.OK`."""

        self._interrupts = True  # Whether the first signal raises in the main thread.
        self._callbacks: tuple[Callable[[], None], ...] = ()
        self._count = 0
        self._deadline_s: float | None = None
        self._last_s = 0.0  # The kernel's limit at the latest.

    def open(self) -> None:
        """Start receiving signals. Does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = {number: self._handle(number) for number in _SIGNALS}
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # A daemon: it may not keep the process alive, and must run until everything else has ended.
        self._thread = threading.Thread(target=self._receive, name="signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop receiving signals. After one, wait for the threads that still run first."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self.first is not None:
            for thread in threading.enumerate():
                if thread is not threading.main_thread() and not thread.daemon:
                    thread.join()  # `_receive` ends the process when this takes too long.
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.write(self._write, bytes([_CLOSE]))
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    @contextlib.contextmanager
    def on_signal(
        self, first: Callable[[], None], second: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Within the block, call *first* and *second* for these signals, from another thread."""
        callbacks = (first, *([] if second is None else [second]))
        self._callbacks, self._interrupts = callbacks, False
        try:
            yield
        finally:
            self._callbacks, self._interrupts = (), True

    def _handle(self, number: signal.Signals) -> "signal._HANDLER":
        """Install the handler; a SIGHUP that is ignored, as by `nohup`, stays so."""
        before = signal.getsignal(number)
        if number is signal.SIGHUP and before is signal.SIG_IGN:
            return before
        return signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Run in the main thread, between two instructions of it."""
        del frame
        if self.first is None:  # `_receive` may not have run yet.
            self.first = signal.Signals(number)
        if self._interrupts:
            self._interrupts = False  # A second exception would interrupt the cleaning up.
            self.interrupted = True
            raise Interrupted

    def _receive(self) -> None:
        while True:
            left_s = None if self._deadline_s is None else self._deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                self._end_by_force()
            if not select.select([self._read], [], [], left_s)[0]:
                continue
            for number in os.read(self._read, 64):
                if number == _CLOSE:
                    return
                if number in _SIGNALS:
                    self._note(signal.Signals(number))

    def _note(self, number: signal.Signals) -> None:
        self._count += 1
        if self.first is None:
            self.first = number
        if self._count > 2:  # noqa: PLR2004  the third
            self._end_by_force()
        now_s = time.monotonic()
        if self._deadline_s is None:
            self._deadline_s, self._last_s = now_s + LIMIT_S, now_s + _LAST_S
        else:
            self._deadline_s = min(self._deadline_s, now_s + SECOND_LIMIT_S)
        kernel_s = min(self._deadline_s + _KERNEL_S, self._last_s)
        # Its default action ends the process, also while nothing of Python can run.
        signal.setitimer(signal.ITIMER_REAL, max(kernel_s - now_s, 0.001))
        if self._callbacks:
            self._callbacks[min(self._count, len(self._callbacks)) - 1]()

    def _end_by_force(self) -> None:
        assert self.first is not None
        line = f"streamer: ended by force after {self.first.name}: did not end: {_running()}\n"
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), line.encode())
        os._exit(Exit.FORCED)


def leave(status: int) -> NoReturn:
    """Exit after a signal, when all threads have ended.

    Without the interpreter's finalization: libraries take up to seconds to free what the kernel
    frees at once, and the time is limited.
    """
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _running() -> str:
    """Return the threads that hold the process, each with the line that it is at."""
    frames = sys._current_frames()  # noqa: SLF001  the documented way to see other threads
    found = []
    for thread in threading.enumerate():
        if not thread.daemon and (frame := frames.get(thread.ident or 0)) is not None:
            at = traceback.extract_stack(frame)[-1]
            found.append(f"{thread.name} ({Path(at.filename).name}:{at.lineno})")
    return ", ".join(found)


_current = Termination()


def current() -> Termination:
    """Return the termination of this run of a command."""
    return _current


def reset() -> Termination:
    """Begin a new run, as at the start of the program."""
    global _current  # noqa: PLW0603  one process, one set of signals
    _current = Termination()
    return _current
