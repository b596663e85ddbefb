"""Leases: who holds which keys until when. Pure logic; the time is an argument, in seconds that never go back.

What is granted, revoked and attached is replicated. When a lease runs out is not: only the primary (the leader, or the only member) counts time,
and one that becomes primary gives every lease its full time anew, so that a change of leader or a restart never ends a lease early. Expiry itself
is a proposal to revoke, like a client's.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from kubeling.etcdlite.errors import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE

#: The least time to live in seconds: shorter ones are granted this (etcd's value with its default election timeout).
MIN_TTL = 2
MAX_TTL = 9_000_000_000


class Lease:
    """`ttl` is what was granted, in seconds; `deadline` is infinite where this member is not primary."""

    __slots__ = ("deadline", "id", "keys", "ttl")

    def __init__(self, lease_id: int, ttl: int) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.deadline = math.inf
        self.keys: set[bytes] = set()


class Lessor:
    """All leases of one member."""

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._queue: list[tuple[float, int]] = []
        self._primary = False
        self._revoking: set[int] = set()

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, lease_id: int) -> Lease:
        """The lease, or LEASE_NOT_FOUND."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LEASE_NOT_FOUND
        return lease

    def __contains__(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def clear(self) -> None:
        """Forget everything (a snapshot comes next); whether this member is primary stays."""
        self._leases = {}
        self._queue = []
        self._revoking = set()

    # What is replicated.

    def grant(self, lease_id: int, ttl: int, now: float) -> Lease:
        """Make a lease. Raises LEASE_EXISTS and LEASE_TTL_TOO_LARGE."""
        if ttl > MAX_TTL:
            raise LEASE_TTL_TOO_LARGE
        if lease_id in self._leases:
            raise LEASE_EXISTS
        lease = self._leases[lease_id] = Lease(lease_id, max(ttl, MIN_TTL))
        if self._primary:
            self._start(lease, now)
        return lease

    def revoke(self, lease_id: int) -> list[bytes]:
        """Forget a lease; returns its keys, in order, which are to be deleted. Raises LEASE_NOT_FOUND."""
        lease = self.get(lease_id)
        del self._leases[lease_id]
        self._revoking.discard(lease_id)
        return sorted(lease.keys)

    def attach(self, lease_id: int, key: bytes) -> None:
        self._leases[lease_id].keys.add(key)

    def detach(self, lease_id: int, key: bytes) -> None:
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.keys.discard(key)

    # What only the primary does.

    def promote(self, now: float) -> None:
        """Begin to count time: every lease has its whole time to live from `now`."""
        self._primary = True
        self._queue = []
        self._revoking = set()
        for lease in self._leases.values():
            self._start(lease, now)

    def demote(self) -> None:
        """Stop counting time: another member does."""
        self._primary = False
        self._queue = []
        for lease in self._leases.values():
            lease.deadline = math.inf

    def renew(self, lease_id: int, now: float) -> int:
        """A keep-alive: the whole time to live from `now`. Raises LEASE_NOT_FOUND, also where the lease has run out but is not yet revoked."""
        lease = self.get(lease_id)
        if lease.deadline <= now or lease_id in self._revoking:
            raise LEASE_NOT_FOUND
        self._start(lease, now)
        return lease.ttl

    def remaining(self, lease_id: int, now: float) -> int:
        """Whole seconds left, never below 0. Raises LEASE_NOT_FOUND."""
        lease = self.get(lease_id)
        left = lease.deadline - now
        return lease.ttl if left == math.inf else max(0, math.ceil(left))

    def next_deadline(self) -> float | None:
        """When :meth:`expired` may next have something; None where nothing will run out."""
        while self._queue:
            deadline, lease_id = self._queue[0]
            lease = self._leases.get(lease_id)
            if lease is not None and lease_id not in self._revoking:
                if lease.deadline == deadline:
                    return deadline
                # Renewed since: it is asked about again when its later deadline comes.
                heapq.heapreplace(self._queue, (lease.deadline, lease_id))
            else:
                heapq.heappop(self._queue)
        return None

    def expired(self, now: float, limit: int = 1000) -> list[int]:
        """Leases that have run out and are not yet being revoked; they are marked as being revoked."""
        found: list[int] = []
        while len(found) < limit:
            deadline = self.next_deadline()
            if deadline is None or deadline > now:
                break
            lease_id = heapq.heappop(self._queue)[1]
            self._revoking.add(lease_id)
            found.append(lease_id)
        return found

    def revoke_failed(self, lease_id: int) -> None:
        """The proposal to revoke came to nothing: ask again."""
        if lease_id in self._revoking:
            self._revoking.discard(lease_id)
            lease = self._leases.get(lease_id)
            if lease is not None:
                heapq.heappush(self._queue, (lease.deadline, lease_id))

    def _start(self, lease: Lease, now: float) -> None:
        # A lease has at most one entry in the queue: renewals move only `deadline`, and the entry follows when it comes up.
        queued = lease.deadline != math.inf
        lease.deadline = now + lease.ttl
        if not queued:
            heapq.heappush(self._queue, (lease.deadline, lease.id))
