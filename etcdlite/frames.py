"""The write-ahead log's frames: finding out what of a file was really written.

A frame is: magic (4 bytes), payload length (u32), frame number (u64), CRC-32 of number and payload (u32), payload; big-endian. One frame is one
write and one fsync, so a crash can only spoil the last one. Hence the rule of :func:`scan`: something unreadable with no readable frame after it
is a torn tail, and is cut; with a readable frame after it, it is damage to what was once acknowledged, and is refused.
"""

from __future__ import annotations

import struct
import zlib

MAGIC = b"\xe7kLw"
HEAD = struct.Struct(">4sIQI")
_NUMBER = struct.Struct(">Q")


class CorruptLog(Exception):
    """The log holds damage that no crash explains; the text says where, and what can be done."""


def frame(number: int, parts: list[bytes]) -> bytes:
    """The bytes of one frame, whose payload is `parts` one after another."""
    checksum = zlib.crc32(_NUMBER.pack(number))
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([HEAD.pack(MAGIC, sum(map(len, parts)), number, checksum), *parts])


def read(data: bytes, at: int) -> tuple[int, int, int] | None:
    """The frame at offset `at`: its number and where its payload begins and ends; None where there is no whole, sound frame."""
    if at + HEAD.size > len(data):
        return None
    magic, length, number, checksum = HEAD.unpack_from(data, at)
    start, end = at + HEAD.size, at + HEAD.size + length
    if magic != MAGIC or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[start:end], zlib.crc32(_NUMBER.pack(number))) != checksum:
        return None
    return number, start, end


def scan(data: bytes, name: str, number: int) -> tuple[list[tuple[int, int]], int]:
    """The payloads (begin, end) of the frames from `number` on in the file `name`, and where the sound part ends.

    Raises :class:`CorruptLog` where something unreadable has a sound frame after it, or frames are missing.
    """
    found: list[tuple[int, int]] = []
    at = 0
    while True:
        one = read(data, at)
        if one is None:
            break
        if one[0] != number:
            raise CorruptLog(
                f"{name}: frame {one[0]} at offset {at} where {number} was due: a part of the log is missing. {_REMEDY}"
            )
        found.append((one[1], one[2]))
        number += 1
        at = one[2]
    later = at
    while (later := data.find(MAGIC, later + 1 if later == at else later)) >= 0:
        one = read(data, later)
        # An older frame can be left over in a recycled part of the disk; a later one proves that this one was once whole.
        if one is not None and one[0] >= number:
            raise CorruptLog(f"{name}: frame {number} at offset {at} is damaged, and frame {one[0]} after it is sound. {_REMEDY}")
        later += 1
    return found, at


_REMEDY = (
    "The disk or something else has changed what was written. Restore this member: with others running, empty its data directory and let it "
    "join anew; alone, restore the directory from a backup."
)
