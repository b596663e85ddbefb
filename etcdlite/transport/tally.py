"""What is counted of the calls of each method."""

from __future__ import annotations

from collections import Counter


class Tally:
    """One method's: calls begun, calls ended by the name of their gRPC status, and messages. `kind` is as gRPC's own metrics have it."""

    __slots__ = ("ended", "kind", "ok", "received", "sent", "started")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.started = 0
        self.ok = 0
        self.ended: Counter[str] = Counter()
        self.received = 0
        self.sent = 0


#: For paths that nobody serves.
NOBODYS = Tally("unary")
