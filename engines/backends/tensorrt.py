"""Runs compiled plans on an NVIDIA GPU through TensorRT, or through TensorRT for RTX.

Both libraries have one interface; which one is used is chosen when it is first asked for. Compiling
is `engines/compiling.py`, device memory and streams are `cuda.py`.
"""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.errors import DeviceUnavailable

if TYPE_CHECKING:
    from engines.plans import Flavour

_log = logging.getLogger(__name__)

_PACKAGES: dict[Flavour, str] = {
    "tensorrt": "TensorRT (extra `tensorrt`)",
    "rtx": "TensorRT for RTX (extra `rtx`)",
}


@dataclass(frozen=True, slots=True)
class Library:
    """TensorRT, as it is installed here."""

    flavour: Flavour
    """Which of the two."""
    version: str
    """As in "10.14.1"; plans do not outlive it."""
    module: Any
    """The Python module: Builder, OnnxParser, Runtime and so on."""
    messages: Messages
    """What the library says; give it to Builder, OnnxParser and Runtime as `messages.logger`."""

    @property
    def name(self) -> str:
        """As in "tensorrt-rtx 1.7.1.116"."""
        return f"tensorrt{'-rtx' if self.flavour == 'rtx' else ''} {self.version}"


class Messages:
    """What TensorRT says beside its return values, which are only yes or no.

    Args:
        module: Either flavour's Python module.
    """

    def __init__(self, module: Any) -> None:
        self._thread = threading.local()
        severity = module.ILogger.Severity
        levels = {
            severity.INTERNAL_ERROR: logging.ERROR,
            severity.ERROR: logging.ERROR,
            severity.WARNING: logging.WARNING,
        }

        class Logger(module.ILogger):  # type: ignore[misc]
            """Takes what the library says, in the thread in which it says it."""

            def log(logger, severity: Any, message: str) -> None:  # noqa: N805
                level = levels.get(severity, logging.DEBUG)
                if level >= logging.ERROR:
                    self._errors().append(message)
                # Errors come out again as exceptions, in the words of the caller.
                _log.log(min(level, logging.INFO), "%s", message)

        self.logger = Logger()

    def take(self) -> str:
        """The errors since the last call, of this thread, on one line; empty if there were none."""
        said, self._thread.errors = self._errors(), []
        return "; ".join(" ".join(message.split()) for message in said)

    def _errors(self) -> list[str]:
        if not hasattr(self._thread, "errors"):
            self._thread.errors = []
        errors: list[str] = self._thread.errors
        return errors


def library(flavour: Flavour | None = None) -> Library:
    """The library that is installed; TensorRT before TensorRT for RTX where both are.

    Raises:
        DeviceUnavailable: It is not installed, or cannot be loaded here.
    """
    reasons = []
    for wanted in (flavour,) if flavour else ("tensorrt", "rtx"):
        found = _load(wanted)
        if isinstance(found, Library):
            return found
        reasons.append(f"{_PACKAGES[wanted]}: {found}")
    raise DeviceUnavailable("; ".join(reasons))


@functools.cache
def _load(flavour: Flavour) -> Library | str:
    """The library, or why it cannot be had: one answer a process, as an import has."""
    try:
        if flavour == "rtx":
            import tensorrt_rtx_bindings as module
        else:
            import tensorrt as module
        # PyPI's `tensorrt` may be an empty shell around libraries that are not there.
        return Library(flavour, module.__version__, module, Messages(module))
    except ModuleNotFoundError:
        return "not installed"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"installed, but cannot be loaded: {' '.join(str(error).split())}"
