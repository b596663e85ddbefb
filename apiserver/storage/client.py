"""Calls to the store's members over gRPC: failover, deadlines, and the meaning of each failure.

One channel a member. A call goes to the member that answered last; when that fails in a way that is sure to have done nothing, the next is asked, with
a short back-off, until the deadline. A call that may have been executed is repeated only where the caller says that it is a read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kubeling.apiserver import metrics
from kubeling.apiserver.storage.errors import (
    Compacted,
    FutureRevision,
    NoSpace,
    OutcomeUnknown,
    StoreError,
    TooLarge,
    Unavailable,
)
from kubeling.apiserver.storage.rpc import Channel, Code, Messages, RpcError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.proto import etcd_pb2 as pb

log = get_logger("store")

Method = Literal["Range", "Txn", "Compact", "Status", "LeaseGrant"]

#: Of each method: its path, and the answer's type.
_METHODS: dict[str, tuple[str, Any]] = {
    "Range": ("/etcdserverpb.KV/Range", pb.RangeResponse),
    "Txn": ("/etcdserverpb.KV/Txn", pb.TxnResponse),
    "Compact": ("/etcdserverpb.KV/Compact", pb.CompactionResponse),
    "Status": ("/etcdserverpb.Maintenance/Status", pb.StatusResponse),
    "LeaseGrant": ("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse),
}
#: How long one member may take to answer before the next is tried (reads) or the outcome is called unknown (writes).
ATTEMPT_SECONDS = 3.0
DEADLINE_SECONDS = 10.0

#: Texts of UNAVAILABLE with which the request is known not to have been executed.
_NOT_DONE = ("no leader", "server is not ready", "not leader")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; empty strings where the store is reached without TLS."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Endpoint:
    """One member."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self.target = url.rpartition("://")[2].rstrip("/")
        self.channel = Channel(url, tls)

    async def watch(self) -> Messages:
        """A stream of watches. A member that has lost its leader ends it rather than keep silent."""
        return await self.channel.stream("/etcdserverpb.Watch/Watch", ATTEMPT_SECONDS, ("hasleader", "true"))


class EtcdClient:
    """All members of one store. Made inside a running event loop; :meth:`close` it."""

    def __init__(self, urls: Sequence[str], tls: TlsFiles | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        context = _context(tls) if tls is not None and tls.ca else None
        self.endpoints = [Endpoint(url, context) for url in urls]
        self._current = 0

    async def close(self) -> None:
        """Close every channel."""
        await asyncio.gather(*(each.channel.close() for each in self.endpoints))

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked first."""
        return self.endpoints[self._current]

    def rotate(self, failed: Endpoint) -> None:
        """Ask another member from now on, unless somebody already moved away from `failed`."""
        if self.endpoints[self._current] is failed:
            self._current = (self._current + 1) % len(self.endpoints)

    async def call(self, method: Method, request: Any, *, read: bool, deadline: float = DEADLINE_SECONDS) -> Any:
        """One unary call. Raises a :class:`StoreError`; :class:`OutcomeUnknown` only where `read` is false."""
        until = self.clock.monotonic() + deadline
        backoff: Backoff | None = None
        path, kind = _METHODS[method]
        sent = request.SerializeToString()
        while True:
            endpoint = self.endpoint
            left = until - self.clock.monotonic()
            began = self.clock.monotonic()
            try:
                return kind.FromString(await endpoint.channel.unary(path, sent, max(0.05, min(ATTEMPT_SECONDS, left))))
            except RpcError as error:
                failed = _meaning(error)
                if failed is None:
                    raise StoreError(f"{method}: {error}") from error
                if not isinstance(failed, Unavailable | OutcomeUnknown):
                    raise failed from error
                self.rotate(endpoint)
                if isinstance(failed, OutcomeUnknown) and not read:
                    raise failed from error
                backoff = backoff or Backoff(base=0.02, limit=0.5)
                delay = backoff.next()
                if self.clock.monotonic() + delay >= until:
                    raise Unavailable(str(failed)) from error
                if backoff.failures == 1:
                    log.warning("a member of the store failed, asking the next", member=endpoint.target, error=str(failed))
            finally:
                metrics.observe_store(method, self.clock.monotonic() - began)
            await self.clock.sleep(delay)


def _meaning(error: RpcError) -> StoreError | None:
    """None for what should not happen."""
    code, details = error.code, error.details
    if not error.sent:
        return Unavailable(details)
    if code is Code.OUT_OF_RANGE:
        return FutureRevision(details) if "future" in details else Compacted(details)
    if code is Code.RESOURCE_EXHAUSTED:
        if "space exceeded" in details:
            return NoSpace(details)
        return TooLarge(details) if "larger than max" in details else Unavailable(details)
    if code is Code.INVALID_ARGUMENT and "too large" in details:
        return TooLarge(details)
    if code is Code.UNAVAILABLE:
        return Unavailable(details) if any(text in details for text in _NOT_DONE) else OutcomeUnknown(details)
    if code in (Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL, Code.UNKNOWN, Code.ABORTED):
        return OutcomeUnknown(details)
    return None


def _context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key or None)
    context.set_alpn_protocols(["h2"])
    return context
