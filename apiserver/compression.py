"""gzip of long answers, for clients that ask for it and are elsewhere.

As upstream: from 128 KB on, at the fastest level. A client on this machine gets the answer as it is, since there is no network to save, and packing and unpacking
would cost both of them the same processor.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

_LEAST = 128 * 1024
_LEVEL = 1
_GZIP = 31
HEADERS = ((b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding"))


def wanted(scope: Any, length: int) -> bool:
    """Whether an answer of that length is to be packed."""
    if length < _LEAST or not any(
        name == b"accept-encoding" and accepts(value.decode("latin-1")) for name, value in scope["headers"]
    ):
        return False
    client = scope.get("client")
    return client is None or not _is_here(client[0], scope.get("server"))


def accepts(header: str) -> bool:
    """Whether an Accept-Encoding names gzip, and not to refuse it."""
    for clause in header.split(","):
        coding, *parameters = (part.strip().lower() for part in clause.split(";"))
        if coding == "gzip":
            return not any(each.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for each in parameters)
    return False


def _is_here(address: str, server: Any) -> bool:
    if server and server[0] == address:
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, packed; empty ones are left out."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in pieces:
        if found := packer.compress(piece):
            yield found
    yield packer.flush()
