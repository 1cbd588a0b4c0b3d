"""Keeps freed memory in the process for the next frame.

glibc returns large blocks to the system as soon as they are freed. For work on frame after frame
the same megabytes are then allocated again and again, with a page fault for every 4 KiB: over a
thousand for one interpolated frame at 640x360, a quarter of its time.
"""

import ctypes
import logging
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 128 << 20
"""Free memory at the end of a heap below which nothing is returned. A thread may have a heap of
its own."""
LARGEST_BLOCK_BYTES = 32 << 20
"""Blocks up to this are taken from a heap; more than a plane of 8K. It is glibc's maximum."""
_log = logging.getLogger(__name__)


def disable_malloc_trim() -> bool:
    """Stop glibc from returning freed memory; return whether it did. Call it once per program.

    It affects the whole process. Other C libraries need no such setting. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    results = [
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES),
        mallopt(_M_MMAP_THRESHOLD, LARGEST_BLOCK_BYTES),
    ]
    kept = all(results)
    if not kept:
        _log.debug("the allocator gives freed memory back: every frame costs page faults")
    return kept
