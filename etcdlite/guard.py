"""What an operation needs to be allowed: the permissions that it asks of the user whose it is. Checked by every member when the operation is applied.

Stricter than etcd 3.4 in three points, each of which let a user reach keys without permission: nested transactions, the previous value that a put in a
transaction asks for, and a lease that such a put attaches (who attaches a key to a lease could have others' keys on it deleted).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeling.etcdlite.auth import AuthStore, Who
from kubeling.etcdlite.lease import Lessor
from kubeling.etcdlite.ops import Kind
from kubeling.proto import etcd_pb2 as pb


class Guard:
    """Asks `auth` about requests; all methods raise EtcdError where the user may not do it."""

    def __init__(self, auth: AuthStore, leases: Lessor) -> None:
        self._auth = auth
        self._leases = leases
        self._needs: dict[int, Callable[[Who, Any], None]] = {
            Kind.PUT: self.put,
            Kind.DELETE_RANGE: self.delete_range,
            Kind.TXN: self.txn,
            Kind.LEASE_REVOKE: self.lease_revoke,
        }
        for kind in Kind:
            if kind >= Kind.AUTH_ENABLE and kind != Kind.AUTHENTICATE:
                self._needs[kind] = self._admin

    @property
    def kinds(self) -> list[int]:
        """The operations that are checked when they are applied."""
        return list(self._needs)

    def check(self, who: Who, kind: int, request: Any) -> None:
        """Check an operation of the log."""
        needed = self._needs.get(kind)
        if needed is not None:
            needed(who, request)

    def range(self, who: Who, request: pb.RangeRequest) -> None:
        self._auth.check(who, request.key, request.range_end, write=False)

    def put(self, who: Who, request: pb.PutRequest) -> None:
        self._auth.check(who, request.key, b"", write=True)
        if request.lease:
            self._lease(who, request.lease)
        if request.prev_kv:
            self._auth.check(who, request.key, b"", write=False)

    def delete_range(self, who: Who, request: pb.DeleteRangeRequest) -> None:
        self._auth.check(who, request.key, request.range_end, write=True)
        if request.prev_kv:
            self._auth.check(who, request.key, request.range_end, write=False)

    def txn(self, who: Who, request: pb.TxnRequest) -> None:
        """All comparisons and both branches: what will be done is not known yet, and which branch is taken tells something too."""
        for compare in request.compare:
            self._auth.check(who, compare.key, compare.range_end, write=False)
        for op in (*request.success, *request.failure):
            kind = op.WhichOneof("request")
            if kind == "request_range":
                self.range(who, op.request_range)
            elif kind == "request_put":
                self.put(who, op.request_put)
            elif kind == "request_delete_range":
                self.delete_range(who, op.request_delete_range)
            elif kind == "request_txn":
                self.txn(who, op.request_txn)

    def lease_revoke(self, who: Who, request: pb.LeaseRevokeRequest) -> None:
        """Revoking deletes the lease's keys, so it needs to be allowed to write each of them."""
        self._lease(who, request.ID)

    def lease_keys(self, who: Who, lease: int) -> None:
        """Whether the names of a lease's keys may be told."""
        if lease in self._leases:
            for key in sorted(self._leases.get(lease).keys):
                self._auth.check(who, key, b"", write=False)

    def _lease(self, who: Who, lease: int) -> None:
        if lease in self._leases:
            for key in sorted(self._leases.get(lease).keys):
                self._auth.check(who, key, b"", write=True)

    def _admin(self, who: Who, request: object) -> None:
        self._auth.check_admin(who)
