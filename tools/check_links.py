"""Check that every relative link in a Markdown file leads to a file of the repository."""

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def broken_links(root: Path) -> list[str]:
    """Yield `FILE:LINE: TARGET` for each broken link."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=root, capture_output=True, text=True, check=True
    )
    broken = []
    for name in listed.stdout.splitlines():
        for number, line in enumerate((root / name).read_text().splitlines(), start=1):
            broken += [
                f"{name}:{number}: {target}"
                for target in LINK.findall(line)
                if "://" not in target and not ((root / name).parent / target).exists()
            ]
    return broken


if __name__ == "__main__":
    found = broken_links(Path(__file__).resolve().parent.parent)
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
