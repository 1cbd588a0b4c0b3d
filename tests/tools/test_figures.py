"""The README says what was measured, and nothing else."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import figures  # noqa: E402


def test_the_readme_quotes_the_figures_that_were_kept():
    readme = figures.README.read_text()
    assert figures.with_figures(readme) == readme, "run: python tools/figures.py"
