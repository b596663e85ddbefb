"""Keys, values and revisions: the little of etcd that the apiserver uses.

Every write is one Txn that compares the mod revision of every key it touches, so a key changes only if it is what the writer saw. A Txn whose answer
got lost is sent again with the same comparisons: they cannot hold twice. If they do not hold and the key has our value, the lost one had succeeded; if it
has another, nobody can tell, and the caller gets :class:`OutcomeUnknown` instead of a guess.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from kubeling.apiserver.storage.client import EtcdClient
from kubeling.apiserver.storage.encryption import Opened, Transformer
from kubeling.apiserver.storage.errors import OutcomeUnknown, Unavailable
from kubeling.daemon.backoff import Backoff
from kubeling.proto import etcd_pb2 as pb

#: A write gets longer than a read: a new leader has to be found before anybody knows what became of the first attempt.
_COMMIT_SECONDS = 15.0
_ROOT = "/registry/"
#: A key that never exists: reading it costs the store nothing, and the answer carries the current revision.
_NOWHERE = b"/registry/-"


@dataclass(frozen=True, slots=True)
class KeyValue:
    """What is under a key, and the revision that put it there."""

    key: str
    value: bytes
    revision: int
    #: Whether it would be stored in another form today: with another key.
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a range, read at `revision`. `count` is that of the whole range."""

    items: list[KeyValue]
    revision: int
    more: bool
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Put `value` (None: delete) if the key's mod revision is `expect` (0: if it does not exist). `check` only compares."""

    key: str
    value: bytes | None
    expect: int
    check: bool = False
    #: Of the lease with which the key goes away; 0 for one that stays.
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """Whether all was written, at which revision; else what stands under each key now."""

    done: bool
    revision: int
    current: list[KeyValue | None]


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return b"\0"


class KV:
    """Reads and compare-and-set writes over an :class:`EtcdClient`."""

    def __init__(self, client: EtcdClient) -> None:
        self.client = client
        #: Whether a read of the store's revision is under way, who waits for the next, and the task that makes it.
        self._reading = False
        self._waiting: list[asyncio.Future[int]] = []
        self._round: asyncio.Task[None] | None = None
        #: What is encrypted in the store, by key prefix.
        self._transformers: dict[str, Transformer] = {}

    def protect(self, prefix: str, transformer: Transformer | None) -> None:
        """Encrypt from now on what is under a prefix (`/registry/secrets/`, `/registry/example.com/widgets/`)."""
        if transformer is not None:
            self._transformers[prefix] = transformer
        else:
            self._transformers.pop(prefix, None)

    def _transformer(self, key: str) -> Transformer | None:
        first = key.find("/", len(_ROOT)) + 1
        found = self._transformers.get(key[:first])
        return found or self._transformers.get(key[: key.find("/", first) + 1])

    def open(self, key: str, stored: bytes) -> Opened:
        """What a value in the store says. Raises Undecryptable."""
        transformer = self._transformer(key) if self._transformers else None
        return transformer.open(key, stored) if transformer is not None else Opened(stored, False)

    def _seal(self, key: str, value: bytes) -> bytes:
        transformer = self._transformer(key) if self._transformers else None
        return transformer.seal(key, value) if transformer is not None else value

    def _found(self, key: str, stored: bytes, revision: int) -> KeyValue:
        opened = self.open(key, stored)
        return KeyValue(key, opened.value, revision, opened.stale)

    async def get(self, key: str, revision: int = 0) -> tuple[KeyValue | None, int]:
        """The newest value (or that at `revision`) and the store's revision."""
        answer = await self.client.call("Range", pb.RangeRequest(key=key.encode(), revision=revision), read=True)
        found = answer.kvs[0] if answer.kvs else None
        return (self._found(key, found.value, found.mod_revision) if found else None), answer.header.revision

    async def list(self, prefix: str, *, revision: int = 0, limit: int = 0, start: str = "") -> Page:
        """Keys in order under `prefix`, from `start` on."""
        first = prefix.encode()
        request = pb.RangeRequest(
            key=start.encode() if start else first, range_end=prefix_end(first), revision=revision, limit=limit
        )
        answer = await self.client.call("Range", request, read=True)
        items = [self._found(each.key.decode(), each.value, each.mod_revision) for each in answer.kvs]
        return Page(items, revision or answer.header.revision, answer.more, answer.count)

    async def list_all(self, prefix: str, revision: int = 0, chunk: int = 2000) -> Page:
        """Everything under `prefix` as of one revision (the newest for 0), read in chunks."""
        page = await self.list(prefix, revision=revision, limit=chunk)
        items, revision = page.items, page.revision
        while page.more:
            page = await self.list(prefix, revision=revision, limit=chunk, start=items[-1].key + "\0")
            items += page.items
        return Page(items, revision, False, len(items))

    async def revision(self) -> int:
        """A revision that includes every write acknowledged before this call.

        Callers that arrive while a read is under way share the next one, so a thousand consistent reads a second cost a few round trips.
        """
        if self._reading:
            waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            return await waiter
        self._reading = True
        try:
            return await self._read_revision()
        finally:
            if self._waiting:
                self._round = asyncio.ensure_future(self._read_for_others())
            else:
                self._reading = False

    async def _read_for_others(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            try:
                revision = await self._read_revision()
            except Exception as error:
                for each in waiting:
                    if not each.done():
                        each.set_exception(error)
            else:
                for each in waiting:
                    if not each.done():
                        each.set_result(revision)
        self._reading = False

    async def _read_revision(self) -> int:
        request = pb.RangeRequest(key=_NOWHERE, count_only=True)
        answer = await self.client.call("Range", request, read=True)
        return int(answer.header.revision)

    async def check_revision(self, revision: int) -> None:
        """Return if the state of that revision can still be read; raise Compacted, or what else is wrong with it, otherwise."""
        await self.client.call("Range", pb.RangeRequest(key=_NOWHERE, count_only=True, revision=revision), read=True)

    async def ping(self, deadline: float) -> None:
        """Return if the store answers a consistent read within `deadline` seconds; raise a StoreError otherwise."""
        await self.client.call("Range", pb.RangeRequest(key=_NOWHERE, count_only=True), read=True, deadline=deadline)

    async def commit(self, writes: Sequence[Write], deadline: float = _COMMIT_SECONDS) -> Commit:
        """All of `writes` or none. Raises :class:`OutcomeUnknown` where nobody can tell."""
        request = pb.TxnRequest()
        for each in writes:
            key = each.key.encode()
            request.compare.add(key=key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=each.expect)
            if not each.check:
                if each.value is None:
                    request.success.add().request_delete_range.key = key
                else:
                    put = request.success.add().request_put
                    put.key, put.value, put.lease = key, self._seal(each.key, each.value), each.lease
            request.failure.add().request_range.key = key
        unknown: OutcomeUnknown | None = None
        clock = self.client.clock
        until = clock.monotonic() + deadline
        backoff = Backoff(base=0.02, limit=0.5)
        while True:
            try:
                answer = await self.client.call("Txn", request, read=False, deadline=max(0.1, until - clock.monotonic()))
            except OutcomeUnknown as error:
                unknown = error
                delay = backoff.next()
                if clock.monotonic() + delay >= until:
                    raise
                await clock.sleep(delay)
                continue
            except Unavailable:
                if unknown is not None:
                    raise unknown from None
                raise
            if answer.succeeded:
                return Commit(True, answer.header.revision, [])
            current = [self._first(each.key, got.response_range) for each, got in zip(writes, answer.responses, strict=True)]
            if unknown is None:
                return Commit(False, answer.header.revision, current)
            if all(_is_ours(each, found) for each, found in zip(writes, current, strict=True)):
                return Commit(True, max((each.revision for each in current if each), default=answer.header.revision), [])
            raise unknown

    def _first(self, key: str, answer: pb.RangeResponse) -> KeyValue | None:
        return self._found(key, answer.kvs[0].value, answer.kvs[0].mod_revision) if answer.kvs else None

    async def lease(self, seconds: int) -> int:
        """A new lease that ends after `seconds`."""
        # Asking twice leaves at worst a lease that nothing hangs on.
        answer = await self.client.call("LeaseGrant", pb.LeaseGrantRequest(TTL=seconds), read=True)
        return int(answer.ID)

    async def compact(self, revision: int) -> None:
        """Forget what was superseded at or before `revision`."""
        await self.client.call("Compact", pb.CompactionRequest(revision=revision), read=True)


def _is_ours(write: Write, found: KeyValue | None) -> bool:
    """Whether what is there is what a lost answer would have left."""
    if write.check:
        return True
    if write.value is None:
        return found is None
    return found is not None and found.value == write.value
