"""Compiles a network to a plan with TensorRT: `python -m engines.plans.builder` is one build.

A build takes from a second (TensorRT for RTX) to minutes (TensorRT, which times its kernels) and
may crash its process, so the program runs it in a process of its own: `build_process.py`. TensorRT
for RTX needs no GPU to compile. The network is prepared by `onnx_passes.py` and
`mixed_precision.py`; plans are stored by `cache.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engines import errors
from engines.errors import (
    BuildStopped,
    DeviceUnavailable,
    EngineError,
    ModelFileError,
    ModelMismatch,
    OutOfDeviceMemory,
    UnsupportedLayer,
)
from engines.modelfile import ModelFile
from engines.plans.cache import Plan, PlanCache, PlanKey, read_target, write_timing_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engines.backends.tensorrt import Library
    from engines.spec import Target

SECONDS_BETWEEN = 0.2
"""Between two reports of progress."""
_NICE = 10
"""Niceness of a build: decoding goes first."""
_NO_KERNEL = re.compile(r"[Cc]ould not find any implementation for node (\{.*?\}|[^\s;)]+)")
_NO_MEMORY = re.compile(r"out of memory|OutOfMemory|CUDA_ERROR_OUT_OF_MEMORY", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a build."""

    progress: float
    """0 to 1, by the steps of the compiler's phases; never decreases."""
    phase: str
    """Name of the phase, from the compiler."""
    elapsed_s: float
    """Since the beginning."""
    left_s: float | None
    """Estimated time to the end; None while there is no estimate."""


def key_of(model: ModelFile, library: Library, target: Target) -> PlanKey:
    """Return the key of the plan that `build` makes."""
    return PlanKey(model.digest, library.edition, library.version, target)


def build(
    model: ModelFile,
    library: Library,
    target: Target,
    *,
    progress: Callable[[Progress], None] | None = None,
    timing_cache: Path | None = None,
) -> Plan:
    """Compile a network.

    Args:
        model: A network in f32; it is converted to the precision of the target.
        library: The edition of TensorRT.
        target: GPU, precision and shapes.
        progress: Called in threads of the compiler; the build ends if it raises.
        timing_cache: File of measured kernel times, read and written; TensorRT for RTX has none.

    Raises:
        UnsupportedLayer: TensorRT cannot run a layer; the message names it.
        ModelMismatch: A profile does not fit the network.
        ModelFileError: The network is not valid.
        DeviceUnavailable: The library does not compile for that GPU or precision.
        OutOfDeviceMemory: The GPU has too little free memory.
        BuildStopped: `progress` raised.
    """
    began = time.monotonic()
    graph, wanted = _graph(model, target)
    library.errors.take()
    builder = library.module.Builder(library.errors.logger)
    network = _network(model, library, builder, graph)
    config, profiles = _config(library, builder, target)
    cache = _timing_cache(library, config, timing_cache)
    monitor = _monitor(library.module, progress or (lambda _: None), began)
    config.progress_monitor = monitor
    content = builder.build_serialized_network(network, config)
    if monitor.stopped is not None:
        raise BuildStopped(f"{model.name}: the build was stopped") from monitor.stopped
    if content is None:
        raise _refusal(model, library)
    if cache and timing_cache:
        write_timing_cache(timing_cache, bytes(config.get_timing_cache().serialize()))
    facts = _facts(library.module, network)
    if {name: kind for name, _, kind in facts["inputs"] + facts["outputs"]} != wanted:
        raise ModelMismatch(f"{model.name}: compiled with {facts}, expected the types {wanted}")
    seconds = round(time.monotonic() - began, 3)
    facts |= {"name": model.name, "profiles": profiles, "seconds": seconds}
    return Plan(bytes(content), key_of(model, library, target), MappingProxyType(facts))


def _graph(model: ModelFile, target: Target) -> tuple[bytes, dict[str, str]]:
    """Return the network for the compiler, and the types of inputs and outputs as in the file."""
    try:
        from onnx import helper

        from engines.plans.mixed_precision import to_mixed_fp16
        from engines.plans.onnx_passes import prepared
    except ModuleNotFoundError as error:
        raise DeviceUnavailable(f"compiling needs the package {error.name}") from error
    if target.precision not in {"f32", "f16"}:
        raise DeviceUnavailable(f"plans run in f32 or f16, not in {target.precision}")
    graph = prepared(model.content, target.profiles)
    if target.precision == "f16":
        graph = to_mixed_fp16(graph)
    types = {
        value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        for value in (*graph.graph.input, *graph.graph.output)
    }
    return graph.SerializeToString(deterministic=True), types


def _network(model: ModelFile, library: Library, builder: Any, graph: bytes) -> Any:
    """Return the parsed network."""
    module = library.module
    # TensorRT 11 has no other networks and accepts the flag.
    typed = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = module.OnnxParser(network, library.errors.logger)
    if parser.parse(graph):
        library.errors.take()
        return network
    found = [parser.get_error(at) for at in range(parser.num_errors)]
    messages = library.errors.take()
    layers = {
        f"{error.node_name()!r} ({error.node_operator()}): {' '.join(error.desc().split())}"
        for error in found
        if error.node_operator()
    }
    if not layers:
        raise ModelFileError(f"{library.name} cannot read {model.name}: {messages}")
    raise UnsupportedLayer(
        f"{library.name} cannot run {model.name}, layer {'; layer '.join(sorted(layers))}"
    )


def _config(library: Library, builder: Any, target: Target) -> tuple[Any, list[dict[str, Any]]]:
    """Return the builder's settings, and the profiles as the builder parsed them."""
    module = library.module
    config = builder.create_builder_config()
    # f32 must have 24 bits; TensorFloat-32 has 11, as f16.
    config.clear_flag(module.BuilderFlag.TF32)
    profiles = []
    for sizes in target.profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in sizes.shapes.items():
            profile.set_shape(name, *shapes)
        if config.add_optimization_profile(profile) < 0:
            raise ModelMismatch(f"{library.name} refuses the sizes {dict(sizes.shapes)}")
        profiles.append({name: [*map(tuple, profile.get_shape(name))] for name in sizes.shapes})
    if library.edition == "rtx":
        _aim(library, config, target.capability)
        # Else it may allocate memory while it runs dynamic shapes, which excludes CUDA graphs.
        config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)
    elif target.driver is None:
        raise DeviceUnavailable(f"{library.name} compiles only on the GPU that runs the plan")
    return config, profiles


def _aim(library: Library, config: Any, capability: str) -> None:
    """Set the GPU to compile for, which need not be in this machine."""
    known = library.module.ComputeCapability
    chosen = getattr(known, capability.upper(), None)
    if not re.fullmatch(r"sm\d+", capability) or chosen is None:
        numbers = sorted(int(name[2:]) for name in dir(known) if re.fullmatch(r"SM\d+", name))
        there = ", ".join(f"sm{number}" for number in numbers)
        raise DeviceUnavailable(
            f"{library.name} compiles for {there}, not for {capability}; "
            "TensorRT (extra `tensorrt`) compiles for data-center GPUs"
        )
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(chosen, 0):
        raise DeviceUnavailable(f"{library.name} refuses {capability}: {library.errors.take()}")


def _timing_cache(library: Library, config: Any, path: Path | None) -> bool:
    """Use the kernel times of earlier builds; return whether the library has such a cache."""
    if library.edition == "rtx" or path is None:
        return False
    try:
        known = path.read_bytes()
    except OSError:
        known = b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        library.errors.take()  # of another version, or damaged: measure again
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return True


def _refusal(model: ModelFile, library: Library) -> EngineError:
    messages = library.errors.take() or "it gave no reason"
    if found := _NO_KERNEL.search(messages):
        layer = found[1].rstrip(".")
        return UnsupportedLayer(
            f"{library.name} cannot run {model.name}, layer {layer}: {messages}"
        )
    if _NO_MEMORY.search(messages):
        return OutOfDeviceMemory(
            f"{library.name} has no memory to compile {model.name}: {messages}"
        )
    return EngineError(f"{library.name} cannot compile {model.name}: {messages}")


def _facts(module: Any, network: Any) -> dict[str, Any]:
    """Return name, shape (-1 is any length) and type of the compiler's inputs and outputs."""

    def described(tensor: Any) -> tuple[str, tuple[int, ...], str]:
        kind = module.nptype(tensor.dtype)
        return tensor.name, tuple(tensor.shape), str(getattr(kind, "__name__", kind))

    layers = [network.get_layer(at) for at in range(network.num_layers)]
    kinds = [layer.get_output(0).dtype for layer in layers if layer.num_outputs]
    return {
        "inputs": [described(network.get_input(at)) for at in range(network.num_inputs)],
        "outputs": [described(network.get_output(at)) for at in range(network.num_outputs)],
        "layers": len(layers),
        "f16_layers": kinds.count(module.DataType.HALF),
    }


def _monitor(module: Any, report: Callable[[Progress], None], began: float) -> Any:
    """A progress monitor for this library: nested phases, each with a number of steps."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stopped: BaseException | None = None
            self._lock = threading.Lock()  # TensorRT calls from several threads
            self._phases: dict[str, list[Any]] = {}  # parent, steps, done; guarded by _lock
            self._progress, self._reported = 0.0, -SECONDS_BETWEEN

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                self._phases[name] = [parent, max(steps, 1), 0]
            self._report(name)

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                if name in self._phases:
                    self._phases[name][2] = step + 1
            self._report(name)
            return self.stopped is None

        def phase_finish(self, name: str) -> None:
            with self._lock:
                self._phases.pop(name, None)

        def _report(self, phase: str) -> None:
            now = time.monotonic() - began
            with self._lock:
                if now - self._reported < SECONDS_BETWEEN or self.stopped is not None:
                    return
                self._reported = now
                self._progress = min(max(self._progress, _done(self._phases, None)), 1.0)
                progress = self._progress
            left = now / progress - now if progress > 0.02 and now > 1 else None  # noqa: PLR2004
            try:
                report(Progress(round(progress, 4), phase, now, left))
            except BaseException as error:  # noqa: BLE001  raised through C++ it would end the process
                self.stopped = error

    return Monitor()


def _done(phases: Mapping[str, list[Any]], parent: str | None) -> float:
    """Progress of the phases below a phase; a phase counts as a step of its parent."""
    return max(
        (
            min(done + _done(phases, name), steps) / steps
            for name, (above, steps, done) in phases.items()
            if above == parent
        ),
        default=0.0,
    )


def main() -> int:
    """Run one build: request and model on standard input, JSON lines on standard output."""
    os.nice(_NICE)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def write(event: str, **facts: Any) -> None:
        sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
        sys.stdout.flush()

    def progress(now: Progress) -> None:
        if stop.is_set():
            raise InterruptedError
        write("progress", **asdict(now))  # a broken pipe ends the build

    request = json.loads(sys.stdin.buffer.readline())
    model = ModelFile(
        Path(request["path"]),
        sys.stdin.buffer.read(),
        request["digest"],
        MappingProxyType(request["metadata"]),
    )
    try:
        from engines.backends.tensorrt import library

        target, cache = read_target(request["target"]), PlanCache(Path(request["folder"]))
        found = library(request["edition"])
        timing = cache.timing_cache(found.edition, found.version, target.capability)
        plan = build(model, found, target, progress=progress, timing_cache=timing)
        cache.put(plan)
    except EngineError as error:
        # The program may have ended.
        with contextlib.suppress(BrokenPipeError):
            write("failed", error=type(error).__name__, message=str(error))
        return 1
    write("finished", key=asdict(plan.key), facts=dict(plan.facts))
    return 0


def named_error(name: str, message: str) -> EngineError:
    """Return the error that a build in another process reported."""
    error: EngineError = getattr(errors, name, EngineError)(message)
    return error


if __name__ == "__main__":
    sys.exit(main())
