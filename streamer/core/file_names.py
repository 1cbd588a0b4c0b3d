"""File names made from names that people chose, such as those of cameras."""

import hashlib
import re
import unicodedata


def safe_file_name(name: str) -> str:
    """Return *name* as a file name of ASCII letters, digits, dots, dashes and underscores.

    Names that have to be changed get a digest, so that two names never share a file or folder.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", without_accents(name)).lstrip(".")[:100] or "_"
    if safe == name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def without_accents(text: str) -> str:
    """Return *text* with "u" for "ü" and so on; letters that are not made of others stay."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
