"""Check that no retired word stands in the project: one word per concept, the field's own.

The list is `WORDS`; places where a word means something else are in `ALLOWED`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WORDS: Final = {
    # Prose and identifiers alike: snake_case and CamelCase are split into words first.
    r"look(?:s|ed|ing|er)?(?! (?:like|up|ahead|around))": "inference; sampled frame; detect",
    r"told": "notified, reported",
    r"said": "reported, raw",
    r"asked": "requested; options",
    r"usual": "false-positive prior; normal",
    r"pictures?": "frame, image, array",
    r"stamps?": "timestamps",
    r"sounds?": "audio",
    r"coded": "encoded",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"wish(?:es)?": "request, option",
    r"chances?": "rng; probability",
    r"suspected": "pending",
    r"suspects?": "verify_thresholds; candidate",
    r"flavours?": "edition",
    r"changeover": "fallback",
    r"couriers?": "delivery worker",
    r"incidents?": "alarm recorder; alarm",
    r"lanes?": "execution stream",
    r"surest": "top quartile",
    r"rehears(?:e|ed|al)": "estimate the duration",
    r"planarizer": "Converter",
    r"retiming": "frame schedule",
    r"brighten(?:s|ed)?": "low-light filter, enhance",
    r"overtaken": "superseded",
    r"unkept": "discarded",
    r"shortcoming": "missing_reason",
    r"likeness": "image metrics; similarity",
    r"sightings?": "track point",
    r"verdict": "alarm status",
    r"persist s": "confirm_window_s",
    r"persist share": "confirm_ratio",
    r"min looks": "min_hits",
    r"keep ratio": "hysteresis_ratio",
    r"drift limit": "max_drift",
    r"ring max mb": "pre_roll_buffer_mb",
    r"lift dark": "low_light",
    r"second looks?": "zoom verification",
    r"lessons?": "training task",
    r"peers?": "baselines",
    r"fullsize": "full_resolution",
    r"who (?:wants|asks|looks|needs) .{0,40}? has to": "say who does what",
}
"""Retired word (a regular expression over lower-case words) and what to write instead."""

ALLOWED: Final[dict[str, str]] = {
    "CHANGELOG.md": ".*",
    "tools/check_words.py": ".*",
    "streamer/config/renamed_keys.py": ".*",
    "tests/streamer/config/test_renamed_keys.py": ".*",
    # The folder of priors in version 0.1.
    "streamer/detect/README.md": "usual",
    "streamer/store/prior_file.py": "usual",
    "tests/streamer/app/test_detector_builder.py": "usual",
    "tests/streamer/store/test_prior_file.py": "usual",
    "streamer/store/sqlite/migrations.py": "pictures.",  # A column of version 1 of the schema.
    "tests/streamer/store/test_store.py": "pictures.",
    "engines/NETWORKS.md": "lanes.",  # A data set.
    "engines/lowlight/evaluate.py": "lanes.",  # A folder of the development data.
    "streamer/convert/chunk_sink.py": "pictures.",  # PyAV: PictureType, pict_type.
    "tests/e2e/test_convert.py": "coded",  # ffprobe: coded_height.
}
"""File, and the words of `WORDS` that may stand in it."""

SUFFIXES: Final = {".py", ".md", ".yaml", ".toml", ".sh", ".json", ""}
SKIPPED: Final = ("locks/", "LICENSE", "engines/smoke/mislabelled.txt", ".gitignore")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PATTERNS: Final = {
    re.compile(rf"(?<![a-z]){word}(?![a-z])"): (word, better) for word, better in WORDS.items()
}


def findings(root: Path) -> Iterator[str]:
    """Yield `FILE:LINE: word; write ...` for each retired word in a tracked file."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        path = root / name
        if name.startswith(SKIPPED) or path.suffix not in SUFFIXES or not path.is_file():
            continue
        allowed = re.compile(ALLOWED.get(name, r"(?!)"))
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            words = _CAMEL.sub(" ", line).replace("_", " ").lower()
            for pattern, (word, better) in _PATTERNS.items():
                found = pattern.search(words)
                if found and not allowed.fullmatch(word):
                    yield f"{name}:{number}: {found[0]!r} is retired; write: {better}"


def main() -> int:
    """Print the findings, of files that begin with the arguments if any; exit status 1 if any."""
    root = Path(__file__).resolve().parent.parent
    wanted = tuple(sys.argv[1:]) or ("",)
    found = [finding for finding in findings(root) if finding.startswith(wanted)]
    print("\n".join(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
