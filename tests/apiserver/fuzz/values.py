"""What programs stumble over: values, strings, and how to put them into an object."""

from __future__ import annotations

import json
from random import Random
from typing import Any

STRINGS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "\ud800",
    "\ufeff",
    "\u202e",
    "ﬀ",
    "é" * 300,
    "a" * 64,
    "a" * 254,
    "a" * 70_000,
    "../../etc/passwd",
    "%2e%2e%2f",
    "$patch",
    "__proto__",
    "-1",
    "0",
    "1e999",
    "9223372036854775808",
    "true",
    "null",
    "None",
    "*",
    "/",
    "a/b",
    "a/b/c",
    ".",
    "..",
    "A_b",
    "-a",
    "a-",
    "2021-01-01T00:00:00Z",
    "2021-13-45T99:99:99Z",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "1.2.3.4",
    "999.1.1.1",
    "::1",
    "::ffff:1.2.3.4",
    "10.0.0.0/33",
    "fe80::1%eth0",
    "100m",
    "1e9999999999",
    "1Ei",
    "-5Gi",
    "99999999999999999999Ei",
    "0x10",
    "1_000",
    "١٢٣",
    "50%",
    "101%",
    "http://[::1",
    "(((((((((((a*)*)*)*)*",
    "{{.}}",
    "@every 1s",
    "*/0 * * * *",
    "TZ=Nowhere 0 0 * * *",
    "=",
    "$(A)",
]
NUMBERS: list[Any] = [
    0,
    -1,
    1,
    2**31,
    2**31 - 1,
    -(2**31) - 1,
    2**63,
    2**63 - 1,
    -(2**63),
    2**64,
    10**30,
    0.5,
    -0.0,
    1e308,
    1e-320,
    65536,
]


def string(source: Random) -> str:
    """Mostly one of the list, sometimes made up."""
    if source.random() < 0.7:
        return source.choice(STRINGS)
    return "".join(
        chr(source.choice((source.randrange(32, 127), source.randrange(0x20), source.randrange(0xD7FF))))
        for _ in range(source.randrange(1, 40))
    )


def value(source: Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = source.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return None
    if kind == 1:
        return source.random() < 0.5
    if kind in (2, 3):
        return source.choice(NUMBERS)
    if kind in (4, 5):
        return string(source)
    count = source.randrange(4)
    if kind == 6:
        return [value(source, depth + 1) for _ in range(count)]
    if kind == 7:
        # A list of the same, as lists by key and sets do not like it.
        return [value(source, depth + 1)] * count
    return {string(source): value(source, depth + 1) for _ in range(count)}


def bend(source: Random, obj: Any) -> Any:
    """A copy with one place replaced, removed, doubled or renamed."""
    made = json.loads(json.dumps(obj))
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    if not isinstance(made, dict | list):
        return value(source)
    visit(made)
    if not places:
        return value(source)
    node, key = source.choice(places)
    what = source.randrange(6)
    if what == 0:
        del node[key]
    elif what == 1 and isinstance(node, list):
        node.extend([node[key]] * source.choice((1, 2, 50)))
    elif what == 1:
        node[string(source)] = node[key]
    elif what == 2:
        node[key] = [node[key]]
    elif what == 3:
        node[key] = {string(source): node[key]}
    else:
        node[key] = value(source)
    return made


def dumps(obj: Any) -> bytes:
    """JSON, with lone surrogates spelt out and NaN let through."""
    return json.dumps(obj).encode()


def mangle(source: Random, raw: bytes) -> bytes:
    """A few bytes changed, dropped, doubled or cut off."""
    made = bytearray(raw)
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        if not made:
            return bytes(source.randrange(256) for _ in range(source.randrange(20)))
        at = source.randrange(len(made))
        what = source.randrange(7)
        if what == 0:
            del made[at:]
        elif what == 1:
            made[at] = source.randrange(256)
        elif what == 2:
            made[at] ^= 1 << source.randrange(8)
        elif what == 3:
            del made[at : at + source.randrange(1, 16)]
        elif what == 4:
            end = at + source.randrange(1, 64)
            made[at:at] = made[at:end] * source.choice((1, 2, 20))
        elif what == 5:
            made[at:at] = bytes(source.randrange(256) for _ in range(source.randrange(1, 12)))
        else:
            other = source.randrange(len(made))
            made[at : at + 8] = made[other : other + 8]
    return bytes(made)
