"""The multi-version store: every key's past since the last compaction, in memory, without any I/O.

Each write makes a :class:`Record` that links to the record that it replaced, so a key's history is a chain from the newest record back; the
same records in the order in which they were made are the log that watchers read. Both views share one object a version, which holds the encoded
``mvccpb.KeyValue`` that clients are sent. Reading at a revision walks the chain (one that proves long is kept as a list, and searched); what changed
since a revision is the end of the log. Compaction cuts chains and drops the front of the log, in slices (:meth:`Store.scrub`), while what was compacted is refused from the first moment.

Writes of one transaction are staged by :meth:`Store.put` and :meth:`Store.delete_range` and get their one revision from :meth:`Store.commit`.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from kubeling.etcdlite import wire
from kubeling.etcdlite.errors import COMPACTED, FUTURE_REVISION
from kubeling.etcdlite.keys import SortedKeys
from kubeling.proto import mvcc_pb2

#: What a record costs beside its bytes (measured with tracemalloc), for the size that quotas look at.
RECORD_OVERHEAD = 240

#: Take an object out of what the cyclic garbage collector looks through.
_untrack = ctypes.pythonapi.PyObject_GC_UnTrack
_untrack.argtypes, _untrack.restype = [ctypes.py_object], None

#: The range_end that means "to the end of all keys".
UNBOUNDED = b"\x00"

#: A key whose chain was walked this far back gets an index, and so many keys have one.
_LONG_WALK = 64
_MAX_HOT = 64

#: A page looks at this many keys at a time, or more.
_MIN_LOOK = 64


class Record:
    """One version of one key, the `sub`-th written in its transaction. `version` 0 is a tombstone. `prev` is the version before, as far as it is not compacted."""

    __slots__ = ("create", "key", "lease", "mod", "prev", "sub", "version", "wire")

    def __init__(
        self, key: bytes, encoded: bytes, create: int, mod: int, version: int, lease: int, prev: Record | None, sub: int = 0
    ) -> None:
        self.key = key
        self.wire = encoded
        self.create = create
        self.mod = mod
        self.version = version
        self.lease = lease
        self.prev = prev
        self.sub = sub
        # A record points to nothing but bytes, numbers and an older record, so it is never part of a cycle; but looking through half a million of them
        # again and again would be a pause of 0.2 s each time.
        _untrack(self)

    @property
    def value(self) -> bytes:
        """The value, decoded from the wire form (seldom wanted: answers send the wire form as it is)."""
        return mvcc_pb2.KeyValue.FromString(self.wire).value

    @property
    def live_prev(self) -> Record | None:
        """The version before, unless it is compacted or a tombstone."""
        prev = self.prev
        return prev if prev is not None and prev.version else None

    @classmethod
    def decode(cls, encoded: bytes, prev: Record | None) -> Record:
        """The record of an encoded ``mvccpb.KeyValue``."""
        kv = mvcc_pb2.KeyValue.FromString(encoded)
        key = prev.key if prev is not None else kv.key
        return cls(key, encoded, kv.create_revision, kv.mod_revision, kv.version, kv.lease, prev)


def _mod(record: Record) -> int:
    return record.mod


def _order(record: Record) -> tuple[int, int]:
    return record.mod, record.sub


class Store:
    """The key space. An empty store is at revision 1, as etcd's is."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Be empty."""
        self.revision = 1
        #: -1 until the first compaction, as etcd has it: compacting at revision 0 is then allowed once.
        self.compact_revision = -1
        self.size = 0
        self._heads: dict[bytes, Record] = {}
        self._keys = SortedKeys()
        # Those of them that are deleted and not yet compacted.
        self._dead = SortedKeys()
        self._log: list[Record] = []
        self._staged: list[Record] = []
        self._scrubbed = 0
        # The chains, oldest first, of keys that were asked for far back in a long past; forgotten when a chain is cut.
        self._hot: dict[bytes, list[Record]] = {}

    def __len__(self) -> int:
        return len(self._heads)

    @property
    def pending_revision(self) -> int:
        """The revision at which what was done so far will be seen: the next one if anything is staged."""
        return self.revision + 1 if self._staged else self.revision

    # Reading.

    def check_revision(self, revision: int) -> None:
        """Raise where `revision` (0: the newest) is compacted or still to come."""
        if revision > self.revision:
            raise FUTURE_REVISION
        if 0 < revision < self.compact_revision:
            raise COMPACTED

    def get(self, key: bytes) -> Record | None:
        """The newest version of `key`, with what is staged; None where it does not exist."""
        head = self._heads.get(key)
        return head if head is not None and head.version else None

    def get_at(self, key: bytes, revision: int) -> Record | None:
        """`key` as it was at `revision`."""
        past = self._hot.get(key) if self._hot else None
        if past is not None:
            at = bisect_right(past, revision, key=_mod)
            record = past[at - 1] if at else None
        else:
            record = self._heads.get(key)
            steps = 0
            while record is not None and record.mod > revision:
                record = record.prev
                steps += 1
            if steps > _LONG_WALK:
                self._index(key)
        return record if record is not None and record.version else None

    def _index(self, key: bytes) -> None:
        """Keep the whole chain of a key as a list from now on, since walking it takes long."""
        chain: list[Record] = []
        record = self._heads.get(key)
        while record is not None:
            chain.append(record)
            record = record.prev
        chain.reverse()
        if len(self._hot) >= _MAX_HOT:
            del self._hot[next(iter(self._hot))]
        self._hot[key] = chain

    def range(self, key: bytes, range_end: bytes, revision: int = 0) -> list[Record]:
        """What exists in [key, range_end) at `revision` (0: now, with what is staged), in key order.

        An empty range_end is the one key; ``b"\\0"`` is everything from `key` on. Raises COMPACTED and FUTURE_REVISION.
        """
        self.check_revision(revision)
        past = 0 < revision < self.revision or (revision == self.revision and bool(self._staged))
        if not range_end:
            one = self.get_at(key, revision) if past else self.get(key)
            return [] if one is None else [one]
        heads = self._heads
        keys = self._keys.between(key, None if range_end == UNBOUNDED else range_end)
        if past:
            return [record for each in keys if (record := self.get_at(each, revision)) is not None]
        return [record for each in keys if (record := heads[each]).version]

    def first(self, key: bytes, range_end: bytes, limit: int, revision: int = 0) -> tuple[list[Record], int]:
        """Of what existed at `revision` (0: now) in [key, range_end), which is not a single key, the first `limit` records, and the number of all.

        A page of a large range costs what the page costs and, at an old revision, what has been written since. Raises COMPACTED and FUTURE_REVISION.
        """
        self.check_revision(revision)
        end = None if range_end == UNBOUNDED else range_end
        past = 0 < revision < self.revision or (revision == self.revision and bool(self._staged))
        total = self._count_at(key, end, revision) if past else self._keys.count(key, end) - self._dead.count(key, end)
        found: list[Record] = []
        wanted = min(limit, total)
        while len(found) < wanted:
            # Deleted keys among them make it look further.
            count = max(wanted - len(found), _MIN_LOOK)
            keys = self._keys.between(key, end, count)[:count]
            if past:
                found += [record for each in keys if (record := self.get_at(each, revision)) is not None]
            else:
                heads = self._heads
                found += [record for each in keys if (record := heads[each]).version]
            key = keys[-1] + b"\0"
        return found[:limit], total

    def _count_at(self, key: bytes, end: bytes | None, revision: int) -> int:
        """How many keys existed in [key, end) at a `revision` of the past: seen from what was written since, or from every key, whichever is less."""
        log, known = self._log, self._keys.count(key, end)
        start = bisect_right(log, revision, key=_mod)
        if len(log) - start > known:
            return sum([self.get_at(each, revision) is not None for each in self._keys.between(key, end)])
        since = log[start:] + self._staged
        changed = {each for record in since if key <= (each := record.key) and (end is None or each < end)}
        # Keys that a compaction has buried already were deleted before the revisions that may be asked for.
        appeared = sum([(self.get(each) is not None) - (self.get_at(each, revision) is not None) for each in changed])
        return known - self._dead.count(key, end) - appeared

    def events_from(self, revision: int, limit: int) -> list[Record]:
        """What was written at `revision` and later, oldest first: at least `limit` records where there are as many, and never a part of a revision."""
        log = self._log
        low = bisect_left(log, revision, key=_mod)
        high = min(low + limit, len(log))
        while 0 < high < len(log) and log[high].mod == log[high - 1].mod:
            high += 1
        return log[low:high]

    # Writing.

    def put(self, key: bytes, value: bytes, lease: int) -> Record:
        """Stage a new version of `key`; its ``live_prev`` is what it replaces."""
        mod = self.revision + 1
        prev = self._heads.get(key)
        if prev is not None and prev.version:
            create, version = prev.create, prev.version + 1
        else:
            create, version = mod, 1
        if prev is None:
            self._keys.add(key)
        else:
            key = prev.key
            if not prev.version:
                self._dead.remove(key)
        encoded = wire.key_value(key, create, mod, version, value, lease)
        record = Record(key, encoded, create, mod, version, lease, prev, len(self._staged))
        self.size += len(encoded) + RECORD_OVERHEAD
        self._heads[key] = record
        self._staged.append(record)
        if self._hot and key in self._hot:
            self._hot[key].append(record)
        return record

    def delete_range(self, key: bytes, range_end: bytes) -> list[Record]:
        """Stage the deletion of what exists in [key, range_end); returns what is deleted, in key order."""
        gone = self.range(key, range_end)
        mod = self.revision + 1
        for old in gone:
            tombstone = Record(old.key, wire.key_value(old.key, 0, mod, 0, b"", 0), 0, mod, 0, 0, old, len(self._staged))
            self._heads[old.key] = tombstone
            self._dead.add(old.key)
            self.size += len(tombstone.wire) + RECORD_OVERHEAD
            self._staged.append(tombstone)
            if self._hot and old.key in self._hot:
                self._hot[old.key].append(tombstone)
        return gone

    def commit(self) -> list[Record]:
        """Give what is staged its revision; returns it (empty where nothing was written: the revision stays)."""
        staged = self._staged
        if staged:
            self.revision += 1
            self._log += staged
            self._staged = []
        return staged

    # Compaction.

    def compact(self, revision: int) -> None:
        """From now on refuse to read before `revision`; :meth:`scrub` frees the memory. Raises COMPACTED and FUTURE_REVISION."""
        if revision <= self.compact_revision:
            raise COMPACTED
        if revision > self.revision:
            raise FUTURE_REVISION
        self.compact_revision = revision

    @property
    def scrub_pending(self) -> bool:
        """Whether compacted records are still to be freed."""
        return self._scrubbed < len(self._log) and self._log[self._scrubbed].mod <= self.compact_revision

    def scrub(self, budget: int) -> bool:
        """Free up to `budget` records of what was compacted; True where more is left."""
        log, boundary = self._log, self.compact_revision
        self._hot.clear()
        at = self._scrubbed
        stop = min(at + budget, bisect_right(log, boundary, key=_mod))
        while at < stop:
            record = log[at]
            at += 1
            older, record.prev = record.prev, None
            while older is not None:
                self.size -= len(older.wire) + RECORD_OVERHEAD
                older = older.prev
            if not record.version:
                self._bury(record)
        self._scrubbed = at
        if stop < len(log) and log[stop].mod <= boundary:
            return True
        # What happened at the compacted revision itself may still be watched, so it stays in the log.
        keep_from = bisect_left(log, boundary, key=_mod)
        del log[:keep_from]
        self._scrubbed = stop - keep_from
        return False

    def _bury(self, tombstone: Record) -> None:
        """Forget a compacted tombstone; where its key came back, cut it off the end of the chain."""
        newer = self._heads.get(tombstone.key)
        if newer is tombstone:
            del self._heads[tombstone.key]
            self._keys.remove(tombstone.key)
            self._dead.remove(tombstone.key)
        else:
            while newer is not None and newer.prev is not tombstone:
                newer = newer.prev
            if newer is None:
                return  # Only in the log, for watchers: restored from a snapshot made after its burial.
            newer.prev = None
        self.size -= len(tombstone.wire) + RECORD_OVERHEAD

    # Snapshots and checks.

    def records(self) -> list[Record]:
        """Every record that a snapshot needs, in an order from which :meth:`restore` makes the same store."""
        boundary = self.compact_revision
        old: list[Record] = []
        for record in self._heads.values():
            older: Record | None = record
            while older is not None and older.mod >= boundary:
                older = older.prev
            if older is not None and older.version:
                old.append(older)
        return old + self._log[bisect_left(self._log, boundary, key=_mod) :]

    def restore(
        self, revision: int, compact_revision: int, encoded: Iterable[bytes], subs: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Become the store whose :meth:`records` had these wire forms, and at these positions a `sub` other than 0."""
        self.clear()
        self.revision, self.compact_revision = revision, compact_revision
        heads, log, sub_at = self._heads, self._log, dict(subs)
        for at, one in enumerate(encoded):
            record = Record.decode(one, None)
            record.sub = sub_at.get(at, 0)
            prev = heads.get(record.key)
            if prev is not None:
                record.key, record.prev = prev.key, prev
            elif record.version:
                self._keys.add(record.key)
            if prev is not None or record.version:
                if prev is not None and not prev.version:
                    self._dead.remove(record.key)
                if not record.version:
                    self._dead.add(record.key)
                heads[record.key] = record
                self.size += len(one) + RECORD_OVERHEAD
            if record.mod >= compact_revision:
                log.append(record)
        while self.scrub(100_000):
            pass

    def hashed(self, revision: int) -> list[Record]:
        """What etcd's hash of the key space at `revision` goes over, in the order of the revisions.

        That is all that was written behind the compacted revision, and of what is older the versions that still are the newest ones at `revision`; where
        nothing exists at `revision`, those that were at the compacted one.
        """
        boundary, log = self.compact_revision, self._log
        existing = [record for key in self._keys if (record := self.get_at(key, revision)) is not None]
        if not existing:
            existing = [record for key in self._keys if (record := self.get_at(key, boundary)) is not None]
        old = sorted([record for record in existing if record.mod <= boundary], key=_order)
        return old + log[bisect_right(log, boundary, key=_mod) : bisect_right(log, revision, key=_mod)]
