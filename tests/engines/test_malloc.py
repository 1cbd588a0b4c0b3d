"""Freed memory stays for the next frame; checked in a process of its own, which it affects."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from engines import malloc

kept = len(sys.argv) > 1 and malloc.disable_malloc_trim()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def process_frame():
    # A plane of 4K, and one that is freed last, as processing a frame has them.
    fields = [np.ones(8 << 20, np.uint8) for _ in range(3)]
    del fields

process_frame()
before = faults()
for _ in range(20):
    process_frame()
print(int(kept), faults() - before)
"""


def faults(*arguments: str) -> tuple[bool, int]:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], check=True, capture_output=True, text=True
    ).stdout.split()
    return output[0] == "1", int(output[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's rule")
def test_frames_cause_no_page_faults_once_freed_memory_is_kept():
    kept, few = faults("keep")
    if not kept:
        pytest.skip("this C library has no mallopt")
    _, many = faults()
    assert few < many / 10
