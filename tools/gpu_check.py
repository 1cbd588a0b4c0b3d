"""Validate and measure the program on the GPU of this machine, without network.

Sections run one after the other, each in its own process; `gpu.json` and `gpu.md` have the results.
See tools/README.md.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

from gpu import report  # noqa: E402  after the line above
from gpu.sections import SECTIONS, Options, run_all, run_here  # noqa: E402

NAMES = tuple(section.name for section in SECTIONS)


def main() -> int:
    """Run the check; 0 if every section was done, 1 if one was not."""
    a = arguments()
    if a.section:
        text = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(a.options).items()
        }
        section = next(one for one in SECTIONS if one.name == a.section)
        return run_here(section, Options(**text), a.into)
    options = Options(
        device=a.device,
        quick=a.quick,
        seconds=a.seconds if a.seconds is not None else (0.2 if a.quick else 3.0),
        engines=tuple(a.engines),
        runtimes=tuple(a.runtimes),
        tests=tuple(a.tests),
        clips=str(a.clips or ""),
        cameras=a.cameras,
    )
    began = datetime.now(UTC)
    results = run_all(
        a.only or NAMES, options, limit_s=a.limit_s, section_limit_s=a.section_limit_s,
        report=lambda line: print(line, flush=True),
    )  # fmt: skip
    facts = {
        "began_utc": began.isoformat(timespec="seconds"),
        "took_s": round((datetime.now(UTC) - began).total_seconds(), 1),
        "options": vars(a) | {"out": str(a.out)},
        "subject": _subject(results, options),
    }
    for path in report.write(a.out, results, facts):
        print(path)
    return int(any(one["status"] not in {"done", "unavailable"} for one in results.values()))


def _subject(results: dict[str, dict[str, object]], options: Options) -> str:
    """Return the heading of the table: what was measured."""
    rows = results.get("environment", {}).get("rows", [])
    text = {row["what"]: row["figure"] for row in rows}  # type: ignore[union-attr,index]
    quick = " Made with --quick: its figures say nothing about speed." if options.quick else ""
    return f"Device {options.device}; {text.get('cards', '')}.{quick}"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of the results")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=[], metavar="SECTION", help=", ".join(NAMES)
    )
    parser.add_argument("--engines", nargs="+", default=[], help="networks; all unless named")
    parser.add_argument("--runtimes", nargs="+", default=[], help="runtimes; all unless named")
    parser.add_argument(
        "--quick", action="store_true", help="small: tries the tool, measures nothing"
    )
    parser.add_argument("--seconds", type=float, help="of each measurement; 3")
    parser.add_argument("--cameras", type=int, default=256, help="most that are tried")
    parser.add_argument("--clips", type=Path, help="folder with watch.mp4; $STREAMER_KIT/clips")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="what pytest collects")
    parser.add_argument("--limit-s", type=float, default=3600, help="of the whole run")
    parser.add_argument("--section-limit-s", type=float, help="of each section; each has its own")
    for name in ("--section", "--options"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
