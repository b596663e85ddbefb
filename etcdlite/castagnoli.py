"""CRC-32 with Castagnoli's polynomial, as etcd's hashes have it.

Python has no fast one, so this goes two bytes at a time through a table that is made when it is first wanted.
"""

from __future__ import annotations

import sys
from array import array
from functools import cache

_POLYNOMIAL = 0x82F63B78


@cache
def _tables() -> tuple[list[int], list[int]]:
    """What one byte does to the checksum, and what two do (the first is the low one)."""
    one = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        one.append(byte)
    return one, [one[one[low] & 0xFF ^ high] ^ one[low] >> 8 for high in range(256) for low in range(256)]


def crc32c(data: bytes, start: int = 0) -> int:
    """The checksum of `data`; `start` is that of what came before."""
    one, two = _tables()
    crc = start ^ 0xFFFFFFFF
    even = len(data) & ~1
    words = array("H", data[:even])
    if sys.byteorder == "big":
        words.byteswap()
    for word in words:
        crc = two[(crc ^ word) & 0xFFFF] ^ crc >> 16
    for byte in data[even:]:
        crc = one[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
