"""Compiled plans of `streamer engines`: build, list, verify, prune, benchmark."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from . import output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from engines.plans.builder import Progress
    from engines.plans.cache import PlanCache, PlanEntry
    from engines.registry import RegistryEntry
    from engines.spec import Edition, Precision, Target

_MEGABYTE = 1e6


def targets_of(named: str | None, edition: "Edition") -> list[tuple[str, int | None]]:
    """Return (compute capability, driver) of each GPU to compile for.

    Args:
        named: From the command line, "sm86,sm89"; None for the GPUs of this machine.
        edition: TensorRT compiles on the GPU itself, TensorRT for RTX on any machine.

    Raises:
        BadParameter: A name is not a compute capability.
        DeviceUnavailable: The GPU must be in this machine and is not.
    """
    from engines.backends import cuda
    from engines.errors import DeviceUnavailable

    wanted = [name for name in (named or "").lower().replace(" ", "").split(",") if name]
    for name in wanted:
        if not re.fullmatch(r"sm\d{2,3}", name):
            raise typer.BadParameter(
                f"--gpu takes compute capabilities as in sm86,sm89, not {name}"
            )
    if wanted and edition == "rtx":
        return [(name, None) for name in dict.fromkeys(wanted)]
    try:
        here = [cuda.gpu(index) for index in range(max(1, cuda.count()))]
    except DeviceUnavailable as error:
        hint = "; name what to compile for with --gpu, as in sm89" if edition == "rtx" else ""
        raise DeviceUnavailable(f"{error}{hint}") from error
    found = {gpu.capability: gpu.driver_major for gpu in here}
    if missing := [name for name in wanted if name not in found]:
        raise DeviceUnavailable(
            f"TensorRT compiles on the GPU that runs the plan: this machine has "
            f"{', '.join(found)}, not {', '.join(missing)}"
        )
    return [(name, found[name]) for name in wanted or found]


def build(
    entries: Sequence["RegistryEntry"],
    *,
    edition: "Edition | None",
    gpus: str | None,
    precision: "Precision | None",
    force: bool,
) -> None:
    """Compile each network for each GPU, unless there is a plan; write a record for each.

    Raises:
        EngineError: A network cannot be compiled.
    """
    from engines.backends.tensorrt import library
    from engines.plans.builder import key_of
    from engines.plans.cache import PlanCache

    out, found, cache = output.current(), library(edition), PlanCache()
    for capability, driver in targets_of(gpus, found.edition):
        for entry in entries:
            model, target = entry.model(), entry.target(capability, precision, driver=driver)
            key = key_of(model, found, target)
            began, exists = time.monotonic(), not force and cache.get(key) is not None
            if not exists:
                _compile(entry, target, cache, found.edition)
            seconds = round(time.monotonic() - began, 3)
            record = {
                "kind": "engine_plan",
                "name": entry.name,
                "library": found.name,
                "gpu": capability,
                "precision": target.precision,
                "built": not exists,
                "seconds": seconds,
                "path": str(cache.path(key)),
            }
            what = f"{entry.name} for {capability} in {target.precision} by {found.name}"
            out.result(record, f"{what}: {'exists' if exists else f'built in {seconds:.1f} s'}")


def _compile(
    entry: "RegistryEntry", target: "Target", cache: "PlanCache", edition: "Edition"
) -> None:
    """Run one build in a process of its own, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from engines.plans.build_process import Compilation

    what = f"compiling {entry.name} for {target.capability} in {target.precision}"
    quiet = not sys.stderr.isatty() or output.current().verbosity < 0
    if quiet:
        output.current().note(what)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True, markup=False),
        disable=quiet,
        transient=True,
    )
    with bar, Compilation(entry.model(), target, cache, edition=edition) as compilation:
        task = bar.add_task(what, total=1.0, left="")
        for now in compilation.progress():
            bar.update(task, completed=now.progress, left=left(now))


def left(now: "Progress") -> str:
    """Return the time left and the phase as text."""
    if now.left_s is None:
        return now.phase
    minutes, seconds = divmod(round(now.left_s), 60)
    return f"{minutes}:{seconds:02} left, {now.phase}"


def described(entry: "PlanEntry") -> dict[str, Any]:
    """Return the record of a plan file."""
    key = entry.key
    return {
        "kind": "engine_plan",
        "name": entry.facts.get("name"),
        "library": key and f"{key.edition} {key.version}",
        "gpu": key and key.target.capability,
        "driver": key and key.target.driver,
        "precision": key and key.target.precision,
        "bytes": entry.size,
        "validated_on": sorted(name for name, each in entry.reports.items() if each.get("passed")),
        "problem": entry.problem or None,
        "path": str(entry.path),
    }


def table(records: Sequence[dict[str, Any]]) -> "RenderableType":
    """Return the plans as a table."""
    from rich.table import Table

    shown = Table("plan of", "library", "GPU", "precision", "MB", "validated on", "file")
    for record in records:
        where = ", ".join(record["validated_on"]) or record["problem"] or "not validated yet"
        size = f"{record['bytes'] / _MEGABYTE:.1f}"
        columns = ("name", "library", "gpu", "precision")
        shown.add_row(*(record[name] or "?" for name in columns), size, where, record["path"])
    return shown


def check(names: Sequence[str]) -> bool:
    """Read the plans of these networks (none: all) and return whether all are intact."""
    from engines.plans.cache import PlanCache

    out, intact = output.current(), True
    for entry in PlanCache().verify():
        if names and not entry.problem and entry.facts.get("name") not in names:
            continue
        record = described(entry)
        state = entry.problem or "intact"
        what = f"plan of {record['name'] or 'an unreadable file'} {record['gpu'] or ''}"
        out.result(record, f"{what.strip()}: {state}: {entry.path}")
        intact = intact and not entry.problem
    return intact


def prune(*, everything: bool) -> None:
    """Delete plans that are not used again; write a record for each."""
    from engines.plans.cache import PlanCache

    out, wanted = output.current(), {} if everything else _current_models()
    deleted = PlanCache().prune(lambda entry: not everything and _of_use(entry, wanted))
    for entry in deleted:
        record = {**described(entry), "kind": "pruned_engine_plan"}
        why = entry.problem or ("--all" if everything else "outdated")
        out.result(record, f"deleted {entry.path} ({record['name'] or 'unknown'}: {why})")
    freed = sum(entry.size for entry in deleted) / _MEGABYTE
    out.note(f"{len(deleted)} plans deleted, {freed:.1f} MB freed")


def _current_models() -> dict[str, str | None]:
    """Digests of the current networks by name; None if a network cannot be read here."""
    from engines.errors import EngineError
    from engines.registry import COMPILED

    found: dict[str, str | None] = {}
    for entry in COMPILED:
        try:
            found[entry.name] = entry.model().digest
        except EngineError:
            found[entry.name] = None
    return found


def _of_use(entry: "PlanEntry", shipped: Mapping[str, str | None]) -> bool:
    """Whether nothing that a plan depends on has been replaced."""
    from engines.backends.tensorrt import library
    from engines.errors import DeviceUnavailable
    from engines.plans.cache import RECIPE

    if entry.key is None or entry.key.recipe != RECIPE:
        return False
    try:
        if library(entry.key.edition).version != entry.key.version:
            return False
    except DeviceUnavailable:
        pass  # compiled for another machine
    # A user's own network is not outdated by a shipped one.
    return shipped.get(str(entry.facts.get("name"))) in {None, entry.key.model}


def bench(
    entries: Sequence["RegistryEntry"], *, device: str, precision: "Precision | None"
) -> None:
    """Benchmark the networks in turns with every core busy; write a record for each."""
    from engines.benchmark import interleaved
    from engines.registry import open_entry

    out = output.current()
    opened, calls = [], {}
    try:
        for entry in entries:
            engine = open_entry(entry, device=device, precision=precision)
            sample = entry.samples()[0]
            opened.append((entry, engine))
            calls[entry.name] = lambda engine=engine, sample=sample: engine.infer(sample)
            out.note(f"timing {entry.name} on {engine.backend}")
        for (entry, engine), taken in zip(opened, interleaved(calls).values(), strict=True):
            record = {
                "kind": "engine_time",
                "name": entry.name,
                "backend": engine.backend,
                "ms": round(taken, 4),
                "inputs": {name: list(a.shape) for name, a in entry.samples()[0].items()},
            }
            out.result(record, f"{entry.name}: {taken:.3f} ms a call on {engine.backend}")
    finally:
        for _, engine in opened:
            engine.close()
