"""One build in a process of its own, as the program sees it: how far, which plan, or why none."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Self

from engines.errors import EngineError
from engines.plans.builder import BuildStopped, Progress, named_error
from engines.plans.cache import PlanKey, read_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from engines.modelfile import ModelFile
    from engines.plans.cache import Edition, PlanCache, Target

PATIENCE_S = 5.0
"""A build is asked to stop between two of its steps, which are short; then it is killed."""
HEARTBEAT_S = 1.0
"""Longest silence: whoever waits for progress hears at least this often that time goes by."""
STARTING = "starting"
"""Phase before the compiler has said a word."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Numbers or names of the GPUs that a process sees, in their order (CUDA Programming Guide)."""
_LAST_WORDS = 500
"""Characters of what a dead build left on standard error."""


def alone(gpu: int) -> dict[str, str]:
    """The environment of a process that is to see one GPU only.

    Args:
        gpu: Its number as this process counts them.
    """
    seen = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return {_VISIBLE: seen[gpu] if gpu < len(seen) else str(gpu)}


class Compilation:
    """A build that runs while the program goes on. Use it with `with`: leaving it ends the build.

    One thread iterates over `progress`; `stop` may be called from any.

    Args:
        model: what to compile; its content is sent, not its path.
        target: what for.
        store: where the plan goes.
        edition: which TensorRT; None for the one that is installed.
        gpu: which GPU it is compiled on, as this process counts them; None for the first. TensorRT
            times its kernels there, and the compiler takes the first that it sees.
    """

    def __init__(
        self,
        model: ModelFile,
        target: Target,
        store: PlanCache,
        *,
        edition: Edition | None = None,
        gpu: int | None = None,
    ) -> None:
        request = {
            "path": str(model.path),
            "digest": model.digest,
            "metadata": dict(model.metadata),
            "target": asdict(target),
            "folder": str(store.folder),
            "edition": edition,
        }
        self._name = model.name
        self._request = json.dumps(request).encode() + b"\n" + model.content
        self._stopped = False
        self.key: PlanKey | None = None
        """Of the plan that was made; None until it is."""
        self.facts: Mapping[str, Any] = {}
        """Of that plan."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engines.plans.builder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # A Ctrl-C in the terminal is for the program, which decides.
            start_new_session=True,
            env=os.environ if gpu is None else {**os.environ, **alone(gpu)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                file.close()

    def stop(self) -> None:
        """End the build soon, if it still runs; nothing is left of it."""
        self._stopped = True
        self._process.terminate()

    def progress(self) -> Iterator[Progress]:
        """How far it is, at least each `HEARTBEAT_S`, until it is done; then `key` is known.

        Some steps of TensorRT take a minute: in between comes the last progress with its time.

        Raises:
            EngineError: it failed, with the class and the words of `compiling.build`.
            BuildStopped: it was stopped.
        """
        self._send()
        began, last = time.monotonic(), Progress(0.0, STARTING, 0.0, None)
        for line in self._lines():
            if line is None:
                yield replace(last, elapsed_s=time.monotonic() - began)
                continue
            said = json.loads(line)
            event = said.pop("event")
            if event == "progress":
                last = Progress(**said)
                yield last
            elif event == "failed":
                raise named_error(said["error"], said["message"])
            else:
                self.key, self.facts = read_key(said["key"]), said["facts"]
        status = self._process.wait()
        if self.key is None:
            if self._stopped:
                raise BuildStopped(f"{self._name}: the build was stopped")
            raise EngineError(
                f"{self._name}: the compiler ended with status {status}: {self._last_words()}"
            )

    def _lines(self) -> Iterator[bytes | None]:
        """What the process writes, line by line; None where it is silent for `HEARTBEAT_S`."""
        assert self._process.stdout is not None
        source, rest = self._process.stdout.fileno(), b""
        while True:
            if not select.select([source], [], [], HEARTBEAT_S)[0]:
                yield None
                continue
            if not (block := os.read(source, 1 << 16)):
                return
            *lines, rest = (rest + block).split(b"\n")
            yield from lines

    def _send(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(self._request)
            self._process.stdin.close()
        except BrokenPipeError:
            return  # it is dead already; its output or its status says why

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return said[-_LAST_WORDS:] or "it said nothing"
