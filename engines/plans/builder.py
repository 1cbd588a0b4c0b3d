"""Compiles a network to a plan with TensorRT: `python -m engines.plans.builder` is one build.

A build takes from a second (TensorRT for RTX) to minutes (TensorRT, which times its kernels) and
may take the whole process down with it, so the program starts one in a process of its own; see
`Compilation`. TensorRT for RTX needs no GPU for it. What the network is turned into before is
`graphs.py` and `casting.py`; where plans are kept is `store.py`.
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
    DeviceUnavailable,
    EngineError,
    ModelFileError,
    ModelMismatch,
    OutOfDeviceMemory,
    UnsupportedLayer,
)
from engines.modelfile import ModelFile
from engines.plans.cache import Plan, PlanCache, PlanKey, Target, read_target, write_timing_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engines.backends.tensorrt import Library

SECONDS_BETWEEN = 0.2
"""Between two reports of progress: often enough for a bar that moves."""
_NICE = 10
"""A build must not take the cores from those who decode."""
_NO_KERNEL = re.compile(r"[Cc]ould not find any implementation for node (\{.*?\}|[^\s;)]+)")
_NO_MEMORY = re.compile(r"out of memory|OutOfMemory|CUDA_ERROR_OUT_OF_MEMORY", re.IGNORECASE)


class BuildStopped(EngineError):  # noqa: N818  what happened, as asked for
    """The build was stopped before it was done; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is."""

    share: float
    """0 to 1, by the steps of the compiler's phases; never less than before."""
    phase: str
    """What it does now, in the compiler's words."""
    elapsed_s: float
    """Since it began."""
    left_s: float | None
    """Until it ends if the rest goes on like this; None while that is a guess from nothing."""


def key_of(model: ModelFile, library: Library, target: Target) -> PlanKey:
    """What the plan that `build` makes will be kept under."""
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
        model: a network of fp32; casting it is part of this.
        library: which TensorRT.
        target: GPU, precision and sizes.
        progress: told now and then, from threads of the compiler; the build ends if it raises.
        timing_cache: file of measured kernel times, read and written; TensorRT for RTX has none.

    Raises:
        UnsupportedLayer: TensorRT cannot run a layer, which is named.
        ModelMismatch: a profile or a name in `keep_f32` does not fit the network.
        ModelFileError: the network is not valid.
        DeviceUnavailable: this library does not compile for that GPU, precision or flag.
        OutOfDeviceMemory: the GPU is full.
        BuildStopped: `progress` raised.
    """
    began = time.monotonic()
    graph, wanted = _graph(model, target)
    library.messages.take()
    builder = library.module.Builder(library.messages.logger)
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
    """The network for the compiler, and the type of each input and output, which is the file's."""
    try:
        from onnx import helper

        from engines.plans.mixed_precision import half
        from engines.plans.onnx_passes import prepared
        from engines.plans.quantising import quantised
    except ModuleNotFoundError as error:
        raise DeviceUnavailable(f"compiling needs the package {error.name}") from error
    graph = prepared(model.content, target.profiles)
    if target.precision not in {"f32", "f16", "int8"}:
        raise DeviceUnavailable(f"plans run in f32, f16 or int8, not in {target.precision}")
    if target.precision == "int8":
        graph = quantised(graph, dict(target.ranges), keep=target.keep_f32)
    if target.precision != "f32":
        graph = half(graph, keep_f32=target.keep_f32)
    types = {
        value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        for value in (*graph.graph.input, *graph.graph.output)
    }
    return graph.SerializeToString(deterministic=True), types


def _network(model: ModelFile, library: Library, builder: Any, graph: bytes) -> Any:
    """The parsed network."""
    module = library.module
    # Version 11 knows no other networks and accepts the flag.
    typed = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = module.OnnxParser(network, library.messages.logger)
    if parser.parse(graph):
        library.messages.take()
        return network
    found = [parser.get_error(at) for at in range(parser.num_errors)]
    said = library.messages.take()
    layers = {
        f"{error.node_name()!r} ({error.node_operator()}): {' '.join(error.desc().split())}"
        for error in found
        if error.node_operator()
    }
    if not layers:
        raise ModelFileError(f"{library.name} cannot read {model.name}: {said}")
    raise UnsupportedLayer(
        f"{library.name} cannot run {model.name}, layer {'; layer '.join(sorted(layers))}"
    )


def _config(library: Library, builder: Any, target: Target) -> tuple[Any, list[dict[str, Any]]]:
    """The builder's settings: sizes, GPU, flags; and the sizes as the builder understood them."""
    module = library.module
    config = builder.create_builder_config()
    # What is kept in f32 is kept for its digits; TensorFloat-32 has those of fp16.
    config.clear_flag(module.BuilderFlag.TF32)
    for name in target.flags:
        if (flag := getattr(module.BuilderFlag, name, None)) is None:
            raise DeviceUnavailable(f"{library.name} knows no flag {name}")
        config.set_flag(flag)
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
        # Else it allocates while it runs, where sizes are open, and cannot be recorded as a graph.
        config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)
    elif target.driver is None:
        raise DeviceUnavailable(f"{library.name} compiles only on the GPU that is to run the plan")
    return config, profiles


def _aim(library: Library, config: Any, capability: str) -> None:
    """Compile for that GPU, whatever stands here."""
    known = library.module.ComputeCapability
    chosen = getattr(known, capability.upper(), None)
    if not re.fullmatch(r"sm\d+", capability) or chosen is None:
        numbers = sorted(int(name[2:]) for name in dir(known) if re.fullmatch(r"SM\d+", name))
        there = ", ".join(f"sm{number}" for number in numbers)
        raise DeviceUnavailable(
            f"{library.name} compiles for {there}, not for {capability}; "
            "TensorRT (extra `tensorrt`) knows the cards of data centres"
        )
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(chosen, 0):
        raise DeviceUnavailable(f"{library.name} refuses {capability}: {library.messages.take()}")


def _timing_cache(library: Library, config: Any, path: Path | None) -> bool:
    """Use the kernel times of earlier builds; whether there is such a cache."""
    if library.edition == "rtx" or path is None:
        return False
    try:
        known = path.read_bytes()
    except OSError:
        known = b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        library.messages.take()  # of another version, or damaged: measure anew
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return True


def _refusal(model: ModelFile, library: Library) -> EngineError:
    said = library.messages.take() or "it gave no reason"
    if found := _NO_KERNEL.search(said):
        layer = found[1].rstrip(".")
        return UnsupportedLayer(f"{library.name} cannot run {model.name}, layer {layer}: {said}")
    if _NO_MEMORY.search(said):
        return OutOfDeviceMemory(f"{library.name} has no memory to compile {model.name}: {said}")
    return EngineError(f"{library.name} cannot compile {model.name}: {said}")


def _facts(module: Any, network: Any) -> dict[str, Any]:
    """What the compiler's network takes and gives: name, shape (-1 is open) and type of each."""

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
        "int8_layers": kinds.count(module.DataType.INT8),
    }


def _monitor(module: Any, tell: Callable[[Progress], None], began: float) -> Any:
    """A progress monitor of this library: phases within phases, each of so many steps."""

    class StatusSink(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stopped: BaseException | None = None
            self._lock = threading.Lock()  # TensorRT calls from several threads
            self._phases: dict[str, list[Any]] = {}  # parent, steps, done; guarded by _lock
            self._share, self._told = 0.0, -SECONDS_BETWEEN

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                self._phases[name] = [parent, max(steps, 1), 0]
            self._tell(name)

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                if name in self._phases:
                    self._phases[name][2] = step + 1
            self._tell(name)
            return self.stopped is None

        def phase_finish(self, name: str) -> None:
            with self._lock:
                self._phases.pop(name, None)

        def _tell(self, phase: str) -> None:
            now = time.monotonic() - began
            with self._lock:
                if now - self._told < SECONDS_BETWEEN or self.stopped is not None:
                    return
                self._told = now
                self._share = min(max(self._share, _done(self._phases, None)), 1.0)
                share = self._share
            left = now / share - now if share > 0.02 and now > 1 else None  # noqa: PLR2004
            try:
                tell(Progress(round(share, 4), phase, now, left))
            except BaseException as error:  # noqa: BLE001  through C++ it would end the process
                self.stopped = error

    return StatusSink()


def _done(phases: Mapping[str, list[Any]], parent: str | None) -> float:
    """Share of the phases under that one which is done; a phase counts as a step of its parent."""
    return max(
        (
            min(done + _done(phases, name), steps) / steps
            for name, (above, steps, done) in phases.items()
            if above == parent
        ),
        default=0.0,
    )


def main() -> int:
    """One build: the request and the model on standard input, JSON lines on standard output."""
    os.nice(_NICE)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())

    def say(event: str, **facts: Any) -> None:
        sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
        sys.stdout.flush()

    def progress(now: Progress) -> None:
        if asked.is_set():
            raise InterruptedError
        say("progress", **asdict(now))  # a broken pipe ends the build: nobody waits for it

    request = json.loads(sys.stdin.buffer.readline())
    model = ModelFile(
        Path(request["path"]),
        sys.stdin.buffer.read(),
        request["digest"],
        MappingProxyType(request["metadata"]),
    )
    try:
        from engines.backends.tensorrt import library

        target, store = read_target(request["target"]), PlanCache(Path(request["folder"]))
        found = library(request["edition"])
        timing = store.timing_cache(found.edition, found.version, target.capability)
        plan = build(model, found, target, progress=progress, timing_cache=timing)
        store.put(plan)
    except EngineError as error:
        # There may be nobody left to be told.
        with contextlib.suppress(BrokenPipeError):
            say("failed", error=type(error).__name__, message=str(error))
        return 1
    say("finished", key=asdict(plan.key), facts=dict(plan.facts))
    return 0


def named_error(name: str, message: str) -> EngineError:
    """The error that a build in another process told of."""
    kind = BuildStopped if name == "BuildStopped" else getattr(errors, name, EngineError)
    error: EngineError = kind(message)
    return error


if __name__ == "__main__":
    sys.exit(main())
