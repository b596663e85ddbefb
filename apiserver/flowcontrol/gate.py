"""Every request passes here between being known and being allowed: it is classified, takes its seats, waits for them, or is told to come back later.

The configuration is what the FlowSchemas and priority levels say; :mod:`.controller` follows them. Watches hold a seat only until they have begun; other streams (exec,
logs, proxies) none. Where the scheme is turned off (`--enable-priority-and-fairness=false`), two plain limits stay: one for reading, one for changing requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from kubeling.api import errors
from kubeling.api.meta import Object, spec_of
from kubeling.apiserver.authn.user import MASTERS, User
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.flowcontrol import objects
from kubeling.apiserver.flowcontrol.matching import Asked, Schema
from kubeling.apiserver.flowcontrol.queues import Level, Levels, Refused, Ticket
from kubeling.apiserver.request import ClientGone, Request
from kubeling.daemon.clock import Clock

EXEMPT = "exempt"
#: A list takes a seat for so many objects, up to so many seats.
_OBJECTS_PER_SEAT, _MAX_SEATS = 100, 10
_KNOWN = 4096
#: An administrator may ask for ten million; that many would be of no use.
_MAX_QUEUES = 4096
_READING = frozenset({"get", "list", "watch", "head", "options"})
Headers = tuple[tuple[bytes, bytes], ...]


class Class:
    """Where a kind of request goes: its level (None: it is exempt), its flow, and what the answer says of that."""

    __slots__ = ("dispatched", "flow", "headers", "level", "rejected", "schema")

    def __init__(self, schema: str, level: Level | None, flow: str, headers: Headers) -> None:
        self.schema = schema
        self.level = level
        self.flow = flow
        self.headers = headers


class Gate:
    """Admits requests. :meth:`configure` may be called at any time; requests under way end where they began."""

    def __init__(self, clock: Clock, reading: int, mutating: int, patience: float, fair: bool) -> None:
        self._clock = clock
        self._fair = fair
        self._patience = patience
        self._total = reading + mutating
        self._plain = {False: Level("mutating", mutating or 1 << 30), True: Level("readOnly", reading or 1 << 30)}
        self._schemas: list[Schema] = []
        self._levels: dict[str, Level | None] = {}
        self._uids: dict[str, str] = {}
        self._all = Levels(self._plain.values())
        self._classes: dict[tuple[str, tuple[str, ...], Asked], Class] = {}
        #: (schema, level, reason or empty) → how many requests; for the metrics.
        self.counts: dict[tuple[str, str, str], int] = {}
        self.configure([Schema(each) for each in objects.flow_schemas()], objects.priority_levels())

    @property
    def levels(self) -> Mapping[str, Level | None]:
        """The priority levels by name; None is one without limits."""
        return self._levels if self._fair else {each.name: each for each in self._plain.values()}

    def configure(self, schemas: Iterable[Schema], levels: Iterable[Object]) -> None:
        """Take these from now on. A level that stays as it is keeps its queues."""
        if not self._fair:
            return
        made: dict[str, Level | None] = {}
        levels = list(levels)
        limited = [each for each in levels if spec_of(each).get("type") == "Limited"]
        shares = sum(spec_of(each)["limited"].get("nominalConcurrencyShares") or 0 for each in limited) or 1
        self._uids = {}
        for each in levels:
            name = each["metadata"]["name"]
            self._uids[name] = each["metadata"].get("uid") or ""
            made[name] = None
        for each in limited:
            level = _level(each, self._total, shares)
            before = self._levels.get(level.name)
            made[level.name] = before if before is not None and _same(before, level) else level
        self._levels = made
        self._all = Levels(each for each in made.values() if each is not None)
        self._schemas = sorted(schemas, key=lambda each: (each.precedence, each.name))
        self._classes.clear()

    async def admit(self, request: Request, cache: Cache | None) -> Ticket | None:
        """Seats for a request; None where it needs none. `cache` is of what it lists. Raises 429 and ClientGone."""
        found = self._class(request)
        request.headers = found.headers
        level = found.level
        if level is None:
            return None
        width = self._width(request, cache) if request.verb == "list" else 1
        try:
            ticket = self._all.enter(level, found.flow, width, self._clock.monotonic())
        except Refused as refused:
            self._count(found, str(refused))
            raise errors.too_many_requests("too many requests, please try again later", 1) from None
        if not ticket.seated:
            await self._wait(request, ticket, found)
        self._count(found, "")
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """A request is over."""
        self._all.leave(ticket, self._clock.monotonic())

    async def _wait(self, request: Request, ticket: Ticket, found: Class) -> None:
        turn = asyncio.Event()
        ticket.on_start = turn.set
        connection = request.scope["state"]["connection"]
        connection.when_closed(turn.set)
        try:
            async with asyncio.timeout(self._patience):
                await turn.wait()
        except TimeoutError:
            if not ticket.seated:
                self.leave(ticket)
                self._count(found, "time-out")
                raise errors.too_many_requests("too many requests, please try again later", 1) from None
        except asyncio.CancelledError:
            self.leave(ticket)
            raise
        finally:
            connection.when_closed(None)
        if not ticket.seated or connection.closed:
            self.leave(ticket)
            self._count(found, "cancelled")
            raise ClientGone

    def _count(self, found: Class, reason: str) -> None:
        key = (found.schema, found.level.name if found.level else EXEMPT, reason)
        self.counts[key] = self.counts.get(key, 0) + 1

    def _width(self, request: Request, cache: Cache | None) -> int:
        count = len(cache) if cache is not None else 0
        limit = request.query.get("limit", "")
        if limit.isdigit() and int(limit[:9]):
            count = min(count, int(limit[:9]))
        return max(1, min(_MAX_SEATS, ceil(count / _OBJECTS_PER_SEAT)))

    def _class(self, request: Request) -> Class:
        info, user = request.info, request.user
        if info.resource:
            resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
            asked = Asked(request.verb, info.group, resource, info.namespace)
        else:
            asked = Asked(request.verb, path=info.path)
        if not self._fair:
            exempt = MASTERS in user.groups
            return Class("", None if exempt else self._plain[request.verb in _READING], "", ())
        key = (user.name, user.groups, asked)
        found = self._classes.get(key)
        if found is None:
            if len(self._classes) >= _KNOWN:
                self._classes.clear()
            found = self._classes[key] = self._classify(user, asked)
        return found

    def _classify(self, user: User, asked: Asked) -> Class:
        for schema in self._schemas:
            if schema.level in self._levels and schema.matches(user, asked):
                return self._made(schema, self._levels[schema.level], schema.flow(user, asked))
        # Nothing has to match: a request of nobody at all has no groups.
        return Class("catch-all", self._levels.get("catch-all"), user.name, ())

    def _made(self, schema: Schema, level: Level | None, flow: str) -> Class:
        headers = []
        if schema.uid:
            headers.append((b"x-kubernetes-pf-flowschema-uid", schema.uid.encode()))
            headers.append((b"x-kubernetes-pf-prioritylevel-uid", self._uids.get(schema.level, "").encode()))
        return Class(schema.name, level, flow, tuple(headers))


def _level(obj: Object, total: int, shares: int) -> Level:
    """A priority level with its share of the seats."""
    limited: dict[str, Any] = spec_of(obj)["limited"]
    nominal = max(1, ceil(total * (limited.get("nominalConcurrencyShares") or 0) / shares))
    lendable = round(nominal * (limited.get("lendablePercent") or 0) / 100)
    percent = limited.get("borrowingLimitPercent")
    borrowable = None if percent is None else round(nominal * percent / 100)
    response = limited.get("limitResponse") or {}
    queuing = (response.get("queuing") or {}) if response.get("type") == "Queue" else {}
    queues, hand, length = (queuing.get(each) or 0 for each in ("queues", "handSize", "queueLengthLimit"))
    queues = min(queues, _MAX_QUEUES)
    return Level(obj["metadata"]["name"], nominal, lendable, borrowable, queues, hand, length)


def _same(one: Level, other: Level) -> bool:
    facts = ("nominal", "lendable", "borrowable", "hand", "length")
    return len(one.queues) == len(other.queues) and all(getattr(one, each) == getattr(other, each) for each in facts)
