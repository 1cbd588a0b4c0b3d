"""File names made from names that people chose, such as those of cameras."""

import hashlib
import re


def safe_file_name(name: str) -> str:
    """Return *name* as a file name of letters, digits, dots, dashes and underscores.

    Names that have to be changed get a digest, so that two names never share a file or folder.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:100] or "_"
    if safe == name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
