"""Runs one build in a process of its own: progress, and the plan or the error at the end."""

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

from engines.errors import BuildStopped, EngineError
from engines.plans.builder import Progress, named_error
from engines.plans.cache import PlanKey, read_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from engines.modelfile import ModelFile
    from engines.plans.cache import PlanCache
    from engines.spec import Edition, Target

PATIENCE_S = 5.0
"""A build gets this long to stop between two of its steps; then it is killed."""
HEARTBEAT_S = 1.0
"""Progress is reported at least this often."""
STARTING = "starting"
"""Name of the phase before the compiler reports one."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Indices or names of the GPUs that a process sees, in order (CUDA Programming Guide)."""
_QUOTED = 500
"""Characters of standard error that are quoted when a build dies."""


def single_gpu(gpu: int) -> dict[str, str]:
    """Return the environment variables of a process that sees one GPU only.

    Args:
        gpu: Its index as this process counts them.
    """
    seen = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return {_VISIBLE: seen[gpu] if gpu < len(seen) else str(gpu)}


class Compilation:
    """A build in another process. Use it with `with`: leaving the block ends the build.

    One thread iterates over `progress`; `stop` may be called from any.

    Args:
        model: The network; its content is sent, not its path.
        target: What it is compiled for.
        cache: Where the plan is stored.
        edition: Edition of TensorRT; None for the installed one.
        gpu: Index of the GPU that it is compiled on; None for the first. TensorRT times its
            kernels there.
    """

    def __init__(
        self,
        model: ModelFile,
        target: Target,
        cache: PlanCache,
        *,
        edition: Edition | None = None,
        gpu: int | None = None,
    ) -> None:
        request = {
            "path": str(model.path),
            "digest": model.digest,
            "metadata": dict(model.metadata),
            "target": asdict(target),
            "folder": str(cache.folder),
            "edition": edition,
        }
        self._name = model.name
        self._request = json.dumps(request).encode() + b"\n" + model.content
        self._stopped = False
        self.key: PlanKey | None = None
        """Of the plan; None until it is built."""
        self.facts: Mapping[str, Any] = {}
        """Of the plan."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engines.plans.builder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Ctrl-C in the terminal goes to the program, which stops the build.
            start_new_session=True,
            env=os.environ if gpu is None else {**os.environ, **single_gpu(gpu)},
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
        """End the build soon, if it still runs; it leaves no plan."""
        self._stopped = True
        self._process.terminate()

    def progress(self) -> Iterator[Progress]:
        """Yield the progress at least every `HEARTBEAT_S` until the plan is built; then set `key`.

        Some steps of TensorRT take a minute: meanwhile the last progress is repeated.

        Raises:
            EngineError: It failed; class and message are those of `builder.build`.
            BuildStopped: It was stopped.
        """
        self._send()
        began, last = time.monotonic(), Progress(0.0, STARTING, 0.0, None)
        for line in self._lines():
            if line is None:
                yield replace(last, elapsed_s=time.monotonic() - began)
                continue
            message = json.loads(line)
            event = message.pop("event")
            if event == "progress":
                last = Progress(**message)
                yield last
            elif event == "failed":
                raise named_error(message["error"], message["message"])
            else:
                self.key, self.facts = read_key(message["key"]), message["facts"]
        status = self._process.wait()
        if self.key is None:
            if self._stopped:
                raise BuildStopped(f"{self._name}: the build was stopped")
            raise EngineError(
                f"{self._name}: the compiler ended with status {status}: {self._error_output()}"
            )

    def _lines(self) -> Iterator[bytes | None]:
        """Yield lines of standard output; None if nothing comes for `HEARTBEAT_S`."""
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
            return  # it ended already; its output or its status says why

    def _error_output(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        return text[-_QUOTED:] or "it printed nothing"
