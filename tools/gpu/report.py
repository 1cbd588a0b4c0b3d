"""Writes the results of the check: JSON for programs, a Markdown table for readers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
_MARKS = {True: "yes", False: "**no**", None: ""}


def write(
    folder: Path, results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write `gpu.json` and `gpu.md`; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, table = folder / "gpu.json", folder / "gpu.md"
    whole = {"format": FORMAT, **facts, "sections": results}
    data.write_text(json.dumps(whole, indent=1, default=str) + "\n", encoding="utf-8")
    table.write_text(markdown(results, facts), encoding="utf-8")
    return data, table


def markdown(results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Return the table of all sections."""
    lines = [f"# GPU check, {facts.get('began_utc', '')}", "", facts.get("subject", ""), ""]
    lines += ["| section | what | figure | goal | reached |", "| --- | --- | --- | --- | --- |"]
    for name, record in results.items():
        lines.append(f"| **{name}** | {_cell(_headline(record))} | | | |")
        lines += [
            f"| | {_cell(row['what'])} | {_cell(row['figure'])} | {_cell(row.get('goal') or '')} "
            f"| {_MARKS[row.get('reached')]} |"
            for row in record.get("rows", ())
        ]
    problems = [
        f"* {name}: {' '.join(line.split())}"
        for name, record in results.items()
        for line in record.get("problems", ())
    ]
    if problems:
        lines += ["", "Not measured, and why:", "", *problems]
    return "\n".join(lines) + "\n"


def _headline(record: Mapping[str, Any]) -> str:
    status = f"{record['status']} in {record.get('took_s', 0)} s"
    error = record.get("error")
    if record["status"] == "unavailable" and record.get("problems"):
        error = record["problems"][-1]
    return f"{status}: {error}" if error else status


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
