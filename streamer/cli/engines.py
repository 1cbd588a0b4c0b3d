"""`streamer engines`: networks and their plans, and whether they work on this machine."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import engine_plans, output
from .exit_codes import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from engines.registry import RegistryEntry
    from engines.validation import AccuracyReport

app = typer.Typer(help="Networks: list, validate and benchmark them, compile them for GPUs.")

_Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All, if left out.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:N for one of several GPUs.")]
_Precision = Annotated[
    Literal["f32", "f16", "bf16"] | None,
    typer.Option(help="Inference precision; the network's default."),
]


@app.command("list")
def list_engines() -> None:
    """List the shipped networks and their compiled plans."""
    from engines.errors import EngineError
    from engines.plans.cache import PlanCache
    from engines.registry import REGISTRY

    out = output.current()
    rows: list[dict[str, Any]] = []
    for entry in REGISTRY:
        try:
            digest: str | None = entry.model().digest
        except EngineError:
            digest = None
        rows.append(_described(entry, digest))
        out.record(rows[-1])
    out.say(_list_table(rows))
    plans = [engine_plans.described(entry) for entry in PlanCache().entries()]
    for plan in plans:
        out.record(plan)
    if plans:
        out.say(engine_plans.table(plans))


def _described(entry: "RegistryEntry", digest: str | None) -> dict[str, Any]:
    return {
        "kind": "engine",
        "name": entry.name,
        "task": entry.task,
        "path": str(entry.path),
        "precision": "f32",
        "precisions": list(entry.tolerances),
        "digest": digest,
    }


def _list_table(rows: list[dict[str, Any]]) -> "RenderableType":
    from rich.table import Table

    table = Table("name", "for", "precisions", "SHA-256", "file")
    for row in rows:
        digest = (row["digest"] or "missing or damaged")[:12]
        table.add_row(row["name"], row["task"], " ".join(row["precisions"]), digest, row["path"])
    return table


@app.command("verify")
def verify_engines(
    names: _Names = None, *, device: _Device = "auto", precision: _Precision = None
) -> None:
    """Compare networks with the reference and plans with their digests; fail if one differs.

    Without names, networks that do not support the precision or the device are left out.
    """
    from engines.registry import verify

    out = output.current()
    failed = not engine_plans.check(names or [])
    for entry in _entries(names, precision, device):
        out.note(f"comparing {entry.name} with the reference")
        report = verify(entry, device=device, precision=precision)
        failed = failed or not report.passed
        out.result(_report_record(entry.name, report), _report_line(entry.name, report))
    if failed:
        raise typer.Exit(Exit.DEVICE)


@app.command("build")
def build_plans(
    names: _Names = None,
    *,
    target: Annotated[
        Literal["rtx", "tensorrt"] | None,
        typer.Option(help="TensorRT for RTX, or TensorRT; what is installed."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="sm86,sm89,...",
            help="Kinds of GPU, which need not be here for rtx; those of this machine.",
        ),
    ] = None,
    precision: Annotated[
        Literal["f32", "f16"] | None, typer.Option(help="f16 where it is accurate enough.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also build existing plans.")] = False,
) -> None:
    """Compile networks for NVIDIA GPUs; plans are validated when they first run."""
    entries = _entries(names, precision, "cuda")
    engine_plans.build(entries, edition=target, gpus=gpu, precision=precision, force=force)


@app.command("prune")
def prune_plans(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those still in use.")] = False,
) -> None:
    """Delete damaged plans and plans of an older network or library."""
    engine_plans.prune(everything=everything)


@app.command("bench")
def bench_engines(
    names: _Names = None, *, device: _Device = "auto", precision: _Precision = None
) -> None:
    """Benchmark one call of each network with every core busy."""
    engine_plans.bench(_entries(names, precision, device), device=device, precision=precision)


def _entries(names: list[str] | None, precision: str | None, device: str) -> "list[RegistryEntry]":
    """Return the named networks; without names, those that support precision and device."""
    from engines.registry import COMPILED, REGISTRY, find

    if names:
        return [find(name) for name in names]
    known = COMPILED if device.startswith("cuda") else REGISTRY
    return [entry for entry in known if precision is None or precision in entry.tolerances]


def _report_record(name: str, report: "AccuracyReport") -> dict[str, Any]:
    return {
        "kind": "proof",
        "name": name,
        "passed": report.passed,
        "backend": report.backend,
        "reference": report.reference,
        # NaN is not valid JSON.
        "largest": report.largest if report.largest == report.largest else None,
        "mean": report.mean if report.mean == report.mean else None,
        "largest_allowed": report.tolerance.largest,
        "mean_allowed": report.tolerance.mean,
        "digest": report.digest,
        "cpu": report.cpu,
    }


def _report_line(name: str, report: "AccuracyReport") -> str:
    outcome = "agrees with" if report.passed else "DIFFERS from"
    return (
        f"{name}: {report.backend} {outcome} {report.reference}: largest difference"
        f" {report.largest:.5f} (allowed {report.tolerance.largest}), mean {report.mean:.6f}"
        f" (allowed {report.tolerance.mean})"
    )
