"""JSON for people: indented where `?pretty` asks for it, and for clients behind which somebody sits and reads, as upstream does it.

An answer that is long stays as it is: indenting takes it apart and puts it together again, all at once, and nobody reads that much.
"""

from __future__ import annotations

from typing import Any

import orjson

#: The longest answer that is indented.
LONGEST = 1024 * 1024
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_READERS = (b"curl", b"Wget", b"Mozilla/5.0")


def wanted(scope: Any, query: dict[str, str]) -> bool:
    """Whether the client wants it. What is said in the query counts before what the client is."""
    if said := query.get("pretty"):
        return said in _TRUE
    return any(name == b"user-agent" and value.startswith(_READERS) for name, value in scope["headers"])


def indented(body: bytes) -> bytes:
    """The same value, by two blanks a level."""
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
