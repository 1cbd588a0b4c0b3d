"""The table of shipped networks names every file and its digest."""

import hashlib
import re
from pathlib import Path

import engines

ROOT = Path(engines.__file__).parent


def test_every_shipped_file_is_listed_with_its_digest():
    rows = re.findall(r"\| `([\w/.-]+\.onnx)` \| `(\w{64})` \|", (ROOT / "NETWORKS.md").read_text())
    assert dict(rows) == {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in ROOT.glob("**/*.onnx")
    }
