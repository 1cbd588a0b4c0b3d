"""Check that every file that a README names exists: links, and code spans such as `link.py`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LINK: Final = re.compile(r"\]\((?!https?://|mailto:|#)([^)#]+)(?:#[^)]*)?\)")
FILE: Final = re.compile(r"`([\w./-]+\.(?:py|onnx|yaml|txt|json))`")
MADE: Final = {
    "clip.json",
    "detections.json",
    "manifest.json",
    "figures.json",
    "my.yaml",
    "gpu.json",
}
"""File names that are written by the program or by its user."""


def broken_links(root: Path) -> Iterator[str]:
    """Yield `README: name` for each file that a Markdown file names and the repository lacks."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    tracked = [name for name in listed.stdout.splitlines() if (root / name).exists()]
    for name in tracked:
        if not name.endswith(".md") or name == "CHANGELOG.md":
            continue
        for number, line in enumerate((root / name).read_text().splitlines(), start=1):
            for target in LINK.findall(line):
                if not ((root / name).parent / target).exists():
                    yield f"{name}:{number}: {target}"
            for target in FILE.findall(line):
                known = any(f"/{path}".endswith(f"/{target}") for path in tracked)
                beside = ((root / name).parent / target).exists()
                if not known and not beside and target not in MADE:
                    yield f"{name}:{number}: {target}"


if __name__ == "__main__":
    found = list(broken_links(Path(__file__).resolve().parent.parent))
    print("\n".join(found))
    sys.exit(bool(found))
