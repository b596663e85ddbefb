"""The compressions that layers come in, told apart by their first bytes: gzip, zstd (of any number of frames), or none."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from kubeling.crilite.errors import CriError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: zstd's skippable frames: 0x184D2A50 to 0x184D2A5F, little-endian. Chunked images begin with one.
_SKIPPABLE = b"\x2a\x4d\x18"
#: The largest window that a zstd frame may ask memory for, as in `zstd --long=27`.
_WINDOW = 1 << 27


@contextlib.contextmanager
def decompressed(blob: BinaryIO, what: str) -> Iterator[BinaryIO]:
    """A file with the uncompressed content of `blob`. Content that cannot be decompressed is a CriError that names `what`."""
    magic = blob.read(4)
    blob.seek(0)
    broken: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
    if magic[:2] == _GZIP:
        source = cast(BinaryIO, gzip.GzipFile(fileobj=blob))
    elif magic == _ZSTD or magic[1:] == _SKIPPABLE:
        import zstandard

        source = cast(BinaryIO, zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(blob, read_across_frames=True))
        broken = (zstandard.ZstdError,)
    else:
        source = blob
    try:
        yield source
    except broken as error:
        raise CriError(f"{what} cannot be decompressed: {error}") from error
