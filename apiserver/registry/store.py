"""The objects of one kind in the store: reads by way of the cache, and the one loop that every change goes through.

:meth:`Store.change` is optimistic. It starts from the cached object, which is nearly always the newest, and compares its revision in the Txn; where that
fails, the answer brings the newest state and the change is computed again on it. A refusal that was computed from a cached object is never given to the
client before it was checked against the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kubeling.api import errors, resources
from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.entry import Entry, Object, decode, encode, make_entry
from kubeling.apiserver.storage.kv import KV, Commit, Write
from kubeling.daemon.clock import Clock

if TYPE_CHECKING:
    from kubeling.apiserver.admission.chain import Guard

#: The bounds of the conflict loop.
MAX_ATTEMPTS = 256
MAX_SECONDS = 25.0
#: Revisions are int64.
MAX_VERSION = 1 << 63
#: Events are forgotten after an hour.
EVENT_SECONDS = 3600
#: Kinds that other requests are judged by: a write of one is acknowledged when this server's own cache has it.
_JUDGES = frozenset(
    {
        resources.NAMESPACES,
        resources.LIMIT_RANGES,
        resources.PRIORITY_CLASSES,
        resources.RUNTIME_CLASSES,
        resources.STORAGE_CLASSES,
        resources.MUTATING_WEBHOOK_CONFIGURATIONS,
        resources.VALIDATING_WEBHOOK_CONFIGURATIONS,
        resources.VALIDATING_ADMISSION_POLICIES,
        resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
        resources.ROLES,
        resources.ROLE_BINDINGS,
        resources.CLUSTER_ROLES,
        resources.CLUSTER_ROLE_BINDINGS,
    }
)
LEASE_SHARED_SECONDS = 60


class Stored(NamedTuple):
    """An object as it stands in the store; revision 0 means that it never got there (dry run)."""

    raw: bytes
    revision: int


@dataclass(slots=True)
class Change:
    """The outcome of a computation on an object: its next state, None to remove it, and what else is written in the same Txn."""

    obj: Object | None
    writes: Sequence[Write] = field(default_factory=tuple)
    #: Asked, with the Txn's answer, for another proposal when one of `writes` stood in the way of a creation.
    again: Callable[[Commit], Awaitable[Change]] | None = None
    #: More that is written in the same Txn, computed at the last moment: what quotas are charged.
    guard: Guard | None = None


class Result(NamedTuple):
    """`now` is None where the object was removed."""

    now: Stored | None
    before: Entry | None


Mutate = Callable[[Object], Awaitable[Change]]


class Store:
    """One kind's objects. `resource` is the version that is stored."""

    def __init__(self, resource: Resource, prefix: str, kv: KV, cache: Cache, clock: Clock) -> None:
        self.resource = resource
        self.prefix = prefix
        self.kv = kv
        self.cache = cache
        self._clock = clock
        self._lease = 0
        self._lease_until = 0.0

    @property
    def head(self) -> bytes:
        """How stored objects begin."""
        return self.cache.head

    def key(self, namespace: str, name: str) -> str:
        """Where an object is kept."""
        return f"{self.prefix}{namespace}/{name}" if self.resource.namespaced else self.prefix + name

    def collection(self, namespace: str) -> str:
        """The prefix of a namespace's objects, or of all."""
        return f"{self.prefix}{namespace}/" if namespace and self.resource.namespaced else self.prefix

    def missing(self, name: str) -> ApiError:
        """The 404 for an object."""
        return errors.not_found(self.resource.group, self.resource.plural, name)

    async def read(self, namespace: str, name: str, version: str = "") -> Entry:
        """The object: newest for an empty `version`, whatever is cached for "0", at least as new as any other. Raises 404."""
        key = self.key(namespace, name)
        if version == "0":
            await self.cache.ready()
        elif version:
            await self.cache.at_least(parse_version(version))
        else:
            try:
                await self.cache.fresh()
            except ApiError as error:
                if not errors.is_timeout(error):
                    raise
                entry = await self._live(key)
                if entry is None:
                    raise self.missing(name) from None
                return entry
        found = self.cache.get(key)
        if found is None:
            raise self.missing(name)
        return found

    async def peek(self, namespace: str, name: str) -> Entry | None:
        """The cached object, or the store's where the cache has none: good enough to see that something exists."""
        await self.cache.ready()
        key = self.key(namespace, name)
        return self.cache.get(key) or await self._live(key)

    async def live(self, namespace: str, name: str) -> Entry | None:
        """The newest state, straight from the store."""
        return await self._live(self.key(namespace, name))

    async def _live(self, key: str) -> Entry | None:
        found, _ = await self.kv.get(key)
        if found is None:
            return None
        entry = self._entry(key, found.value, found.revision)
        entry.altered = entry.altered or found.stale
        return entry

    def _entry(self, key: str, raw: bytes, revision: int) -> Entry:
        return make_entry(key, raw, revision, self.head, lambda obj: {}, self.cache.settle)

    async def create(self, namespace: str, name: str, change: Change, dry_run: bool = False) -> Stored:
        """Put a new object. Raises 409 AlreadyExists."""
        guard = change.guard
        if guard is None or dry_run:
            return await self._create(namespace, name, change, dry_run, None)
        async with guard:
            return await self._create(namespace, name, change, dry_run, guard)

    async def _create(self, namespace: str, name: str, change: Change, dry_run: bool, guard: Guard | None) -> Stored:
        key = self.key(namespace, name)
        for _ in range(MAX_ATTEMPTS):
            assert change.obj is not None
            raw = encode(change.obj)
            if dry_run:
                found, _ = await self.kv.get(key)
                if found is not None:
                    break
                return Stored(raw, 0)
            writes = [Write(key, raw, 0, lease=await self._lease_of()), *change.writes]
            charged = await guard.writes() if guard is not None else ()
            commit = await self.kv.commit([*writes, *charged])
            stale = guard.learn(commit, len(writes)) if guard is not None else False
            if commit.done:
                await self._settled(commit.revision)
                return Stored(raw, commit.revision)
            if commit.current[0] is not None:
                break
            if stale:
                continue
            if change.again is None:
                break
            change = await change.again(commit)
        raise errors.already_exists(self.resource.group, self.resource.plural, name)

    async def _commit(self, write: Write, change: Change) -> Commit:
        """Write an object's next state, with what goes along. Raises 403 where a quota is in the way."""
        if change.guard is None:
            commit = await self.kv.commit([write, *change.writes])
        else:
            async with change.guard as guard:
                commit = await self.kv.commit([write, *change.writes, *await guard.writes()])
                guard.learn(commit, 1 + len(change.writes))
        if commit.done:
            await self._settled(commit.revision)
        return commit

    async def _settled(self, revision: int) -> None:
        """Return when the cache has what was just written, if that is a kind by which other requests are judged."""
        if self.resource in _JUDGES and self.cache.active:
            try:
                await self.cache.at_least(revision)
            except ApiError as error:
                # It is written all the same; the cache will get there.
                if not errors.is_timeout(error):
                    raise

    async def _lease_of(self) -> int:
        """The lease under which objects of this kind are written. One serves for a minute's worth of them."""
        if self.resource != resources.EVENTS:
            return 0
        now = self._clock.monotonic()
        if now >= self._lease_until:
            self._lease = await self.kv.lease(EVENT_SECONDS + LEASE_SHARED_SECONDS)
            self._lease_until = now + LEASE_SHARED_SECONDS
        return self._lease

    async def change(self, namespace: str, name: str, mutate: Mutate, *, dry_run: bool = False) -> Result:
        """Read, compute, compare-and-set, until it holds. Raises 404, and whatever `mutate` raises on the newest state."""
        key = self.key(namespace, name)
        until = self._clock.monotonic() + MAX_SECONDS
        entry = self.cache.get(key) if self.cache.active else None
        newest = entry is None
        if entry is None:
            entry = await self._live(key)
        for _ in range(MAX_ATTEMPTS):
            if entry is None:
                raise self.missing(name)
            try:
                change = await mutate(entry.object())
            except ApiError:
                if newest:
                    raise
                seen, entry, newest = entry.revision, await self._live(key), True
                if entry is not None and entry.revision == seen:
                    raise
                continue
            raw = encode(change.obj) if change.obj is not None else None
            if raw is not None and not change.writes and not entry.altered and unchanged(raw, change.obj, entry.raw):
                if newest or dry_run:
                    return Result(Stored(entry.raw, entry.revision), entry)
                entry, newest = await self._live(key), True
                continue
            if dry_run:
                return Result(Stored(raw, entry.revision) if raw is not None else None, entry)
            write = Write(key, raw, entry.revision, lease=await self._lease_of())
            commit = await self._commit(write, change)
            if commit.done:
                return Result(Stored(raw, commit.revision) if raw is not None else None, entry)
            found = commit.current[0]
            entry, newest = (self._entry(key, found.value, found.revision) if found else None), True
            if self._clock.monotonic() > until:
                break
        raise errors.conflict(self.resource.group, self.resource.plural, name)


def unchanged(raw: bytes, new: Object | None, old: bytes) -> bool:
    """Whether nothing but the order of keys, or the time of a field's ownership, differs: such a write is not made. `raw` is `new` as it would be stored."""
    if raw == old:
        return True
    if new is None or len(raw) != len(old):
        return False
    before = orjson.loads(old)
    mine, theirs = new["metadata"], before["metadata"]
    return (
        new.keys() == before.keys()
        and mine.keys() - {"resourceVersion"} == theirs.keys()
        and all(mine[each] == value for each, value in theirs.items() if each != "managedFields")
        and all(new[each] == value for each, value in before.items() if each != "metadata")
        and _timeless(mine) == _timeless(theirs)
    )


def _timeless(metadata: Object) -> list[Object]:
    return [{key: value for key, value in each.items() if key != "time"} for each in metadata.get("managedFields") or ()]


def parse_version(text: str) -> int:
    """A resourceVersion parameter. Raises 400."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) >= MAX_VERSION:
        raise errors.bad_request(
            f'resourceVersion: Invalid value: "{text[:64]}": strconv.ParseUint: parsing "{text[:64]}": invalid syntax'
        )
    return int(text)


def parse_integer(text: str) -> int:
    """An int64 parameter. Raises 400."""
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19 or abs(int(text)) >= MAX_VERSION:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text[:64]}": invalid syntax')
    return int(text)


def stored_object(stored: Stored | Entry) -> dict[str, Any]:
    """As a dict; a dry run's has no resourceVersion."""
    if stored.revision:
        return decode(stored.raw, stored.revision)
    return dict(orjson.loads(stored.raw))
