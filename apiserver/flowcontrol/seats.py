"""What one request holds of the server: its seats, and the time that it may take."""

from __future__ import annotations

import re

from kubeling.api import errors
from kubeling.apiserver.flowcontrol.gate import Gate
from kubeling.apiserver.flowcontrol.queues import Ticket
from kubeling.apiserver.registry.kinds import Served
from kubeling.apiserver.request import Request

#: They last as long as somebody wants, and do little.
_STREAMS = frozenset({"log", "exec", "attach", "portforward", "proxy"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Seats:
    """A request's seats: taken once, given back at the end, or when a watch has begun."""

    __slots__ = ("_gate", "_request", "_ticket")

    def __init__(self, gate: Gate, request: Request) -> None:
        self._gate = gate
        self._request = request
        self._ticket: Ticket | None = None

    async def take(self, served: Served | None) -> None:
        """Raises 429 and ClientGone."""
        if self._request.info.subresource in _STREAMS:
            return
        store = served.store if served is not None else None
        self._ticket = await self._gate.admit(self._request, store.cache if store is not None else None)
        if self._ticket is not None and self._request.verb == "watch":
            self._request.on_stream = self.give_back

    def give_back(self) -> None:
        """The seats are free again."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._gate.leave(ticket)


def deadline(request: Request, most: float) -> float:
    """How many seconds a request may take: what it asks for itself (`timeout=32s`), no more than the server allows. Raises 400."""
    text = request.query.get("timeout", "")
    if not text or text == "0":
        return most
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise errors.bad_request("invalid timeout specified in the request URL")
    return min(most, sum(float(number) * _UNITS[unit] for number, unit in parts) or most)
