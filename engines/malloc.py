"""Keeps memory that was freed in the process, for the next picture.

glibc gives large blocks back to the system as soon as they are freed. For work on picture after
picture that means the same megabytes asked for again and again, and a page fault for every 4 KiB of
them: over a thousand for one picture between two at 640x360, a quarter of all the time it takes.
"""

import ctypes
import logging
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 128 << 20
"""Free memory at the end of a heap up to which nothing is given back. A thread may have a heap of
its own: kept is what each of them once needed."""
LARGEST_BLOCK_BYTES = 32 << 20
"""Blocks up to this are taken from a heap; more than a plane of 8K. glibc takes no larger value."""
_log = logging.getLogger(__name__)


def disable_malloc_trim() -> bool:
    """Tell the C library's allocator; whether it listens. Once, when a program starts.

    For whole programs, not for libraries: it concerns everything in the process. Other C libraries
    than glibc have no such rule, and need none. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    told = [mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES), mallopt(_M_MMAP_THRESHOLD, LARGEST_BLOCK_BYTES)]
    kept = all(told)
    if not kept:
        _log.debug("the allocator gives freed memory back: pictures cost page faults")
    return kept
