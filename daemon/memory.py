"""Large pieces of memory go back to the machine when they are freed.

glibc takes a large allocation from the kernel and gives it back when it is freed; but each time it does, it raises the size from which on it does so (to 32 MB at
most). So a daemon that was once sent something large keeps that much for good, in pieces between what is small. A fixed threshold ends that.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_THRESHOLD = 256 * 1024


def give_back_large() -> bool:
    """Set the threshold for this process; False where the C library is not glibc, or refuses."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _THRESHOLD))
    except AttributeError:
        return False
