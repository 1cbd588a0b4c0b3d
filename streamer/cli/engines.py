"""`streamer engines`: which networks there are, and whether they work on this machine."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import output
from .exits import Exit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from engines.catalog import CatalogEntry
    from engines.proof import Proof

app = typer.Typer(help="List the networks, and prove that they work here.")


@app.command("list")
def list_engines() -> None:
    """List the networks that come with the program."""
    from engines.catalog import CATALOG
    from engines.errors import EngineError
    from engines.modelfile import read_model_file

    out = output.current()
    rows: list[dict[str, Any]] = []
    for entry in CATALOG:
        try:
            digest: str | None = read_model_file(entry.path).digest
        except EngineError:
            digest = None
        rows.append(_described(entry, digest))
        out.record(rows[-1])
    out.say(_list_table(rows))


def _described(entry: "CatalogEntry", digest: str | None) -> dict[str, Any]:
    return {
        "kind": "engine",
        "name": entry.name,
        "task": entry.task,
        "path": str(entry.path),
        "precision": entry.precision,
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
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="All, when left out.")
    ] = None,
    *,
    device: Annotated[
        Literal["auto", "cuda", "cpu"], typer.Option(help="What is to run them.")
    ] = "auto",
    precision: Annotated[
        Literal["f32", "bf16"] | None, typer.Option(help="Of the arithmetic; its usual one.")
    ] = None,
) -> None:
    """Compare each compiled network with the reference, and fail where they disagree."""
    from engines.catalog import CATALOG, find, verify

    out = output.current()
    entries = [find(name) for name in names] if names else list(CATALOG)
    failed = False
    for entry in entries:
        out.note(f"comparing {entry.name} with the reference")
        proof = verify(entry, device=device, precision=precision)
        failed = failed or not proof.passed
        out.result(_proof_record(entry.name, proof), _proof_line(entry.name, proof))
    if failed:
        raise typer.Exit(Exit.DEVICE)


def _proof_record(name: str, proof: "Proof") -> dict[str, Any]:
    return {
        "kind": "proof",
        "name": name,
        "passed": proof.passed,
        "backend": proof.backend,
        "reference": proof.reference,
        # A difference that is no number is no JSON either.
        "largest": proof.largest if proof.largest == proof.largest else None,
        "mean": proof.mean if proof.mean == proof.mean else None,
        "largest_allowed": proof.tolerance.largest,
        "mean_allowed": proof.tolerance.mean,
        "digest": proof.digest,
        "cpu": proof.cpu,
    }


def _proof_line(name: str, proof: "Proof") -> str:
    verdict = "agrees with" if proof.passed else "DIFFERS from"
    return (
        f"{name}: {proof.backend} {verdict} {proof.reference}: largest difference"
        f" {proof.largest:.5f} (allowed {proof.tolerance.largest}), mean {proof.mean:.6f}"
        f" (allowed {proof.tolerance.mean})"
    )
