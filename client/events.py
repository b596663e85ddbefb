"""Events: what happened to an object, for people.

Recording never waits and never fails: events go through a bounded queue to one sender. The same event again within ten minutes raises the `count`
of the one that is there; an object that makes too many has the rest dropped (a burst of 25, then one in five minutes, as client-go does).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

from kubeling.api.errors import ApiError
from kubeling.api.resources import EVENTS
from kubeling.api.times import format_time
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.client.store import Obj
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger

log = get_logger("events")

_QUEUE = 1000
_REMEMBERED = 4096
_BURST = 25.0
_REFILL_PER_SECOND = 1 / 300
_AGGREGATE_SECONDS = 600.0
_MAX_MESSAGE = 1024


@dataclass(slots=True)
class _Seen:
    """The event that was written for a key, and when."""

    namespace: str
    name: str
    count: int
    last: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """``recorder.event(pod, "Warning", "FailedScheduling", "0/3 nodes are available: …")``; :meth:`run` does the sending."""

    def __init__(
        self, client: Client, component: str, *, host: str = "", clock: Clock | None = None, patience: float = 0.0
    ) -> None:
        """Events are sent `patience` seconds after they have happened, so as not to be in the way of what they tell of."""
        self._client = client
        self._patience = patience
        self._source = {"component": component, **({"host": host} if host else {})}
        self._clock = clock or SystemClock()
        self._queue: asyncio.Queue[tuple[float, Obj]] = asyncio.Queue(_QUEUE)
        self._seen: OrderedDict[tuple[str, ...], _Seen] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._made = 0

    def event(self, obj: Obj, kind: Literal["Normal", "Warning"], reason: str, message: str, *, field_path: str = "") -> None:
        """Record an event about `obj` (which needs kind, name and uid; `field_path` such as ``spec.containers{web}`` narrows it)."""
        meta = obj["metadata"]
        about: Obj = {
            "apiVersion": obj.get("apiVersion", ""),
            "kind": obj.get("kind", ""),
            "name": meta["name"],
            "uid": meta.get("uid", ""),
            "resourceVersion": meta.get("resourceVersion", ""),
            **({"namespace": meta["namespace"]} if meta.get("namespace") else {}),
            **({"fieldPath": field_path} if field_path else {}),
        }
        if not self._allowed(f"{about['uid']}/{about['kind']}/{about['name']}"):
            log.debug("too many events about one object, dropped", object=meta["name"], reason=reason)
            return
        now = format_time(self._clock.now())
        event: Obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": meta.get("namespace") or "default"},
            "involvedObject": about,
            "type": kind,
            "reason": reason,
            "message": message[:_MAX_MESSAGE],
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._queue.put_nowait((self._clock.monotonic() + self._patience, event))
        except asyncio.QueueFull:
            log.warning("the event queue is full, dropped", object=meta["name"], reason=reason)

    async def run(self) -> None:
        """Send what is recorded, until cancelled."""
        while True:
            due, event = await self._queue.get()
            wait = due - self._clock.monotonic()
            if wait > 0:
                await self._clock.sleep(wait)
            try:
                await self._send(event)
            except (ApiError, ConnectionFailed) as error:
                log.debug("an event was lost", reason=event["reason"], error=str(error))

    async def _send(self, event: Obj) -> None:
        about = event["involvedObject"]
        key = (
            about.get("namespace", ""),
            about["kind"],
            about["name"],
            about["uid"],
            about.get("fieldPath", ""),
            event["type"],
            event["reason"],
            event["message"],
        )
        now = self._clock.monotonic()
        seen = self._seen.get(key)
        if seen is not None and now - seen.last < _AGGREGATE_SECONDS:
            body: dict[str, Any] = {"count": seen.count + 1, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._client.patch(EVENTS, seen.name, body, seen.namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
            else:
                seen.count, seen.last = seen.count + 1, now
                return
        namespace = event["metadata"]["namespace"]
        self._made += 1
        event["metadata"]["name"] = f"{about['name'][:200]}.{int(self._clock.now().timestamp() * 1e6):x}{self._made:x}"
        await self._client.create(EVENTS, event, namespace)
        self._seen[key] = _Seen(namespace, event["metadata"]["name"], 1, now)
        self._seen.move_to_end(key)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _allowed(self, about: str) -> bool:
        now = self._clock.monotonic()
        bucket = self._buckets.get(about)
        if bucket is None:
            bucket = self._buckets[about] = _Bucket(_BURST, now)
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.at) * _REFILL_PER_SECOND)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
