"""gRPC channels to the store's members: failover, deadlines, and the meaning of each failure.

One channel a member. A call goes to the member that answered last; when that fails in a way that is sure to have done nothing, the next is asked, with
a short back-off, until the deadline. A call that may have been executed is repeated only where the caller says that it is a read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc
import grpc.aio

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
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.proto import etcd_pb2_grpc

log = get_logger("store")

Method = Literal["Range", "Txn", "Compact", "Status", "LeaseGrant"]

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A member that vanished without a word is noticed within seconds, also by an idle watch.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    # Sub-channels must not be shared with a dead sibling's back-off.
    ("grpc.use_local_subchannel_pool", 1),
]
#: How long one member may take to answer before the next is tried (reads) or the outcome is called unknown (writes).
ATTEMPT_SECONDS = 3.0
DEADLINE_SECONDS = 10.0

#: Texts of UNAVAILABLE with which the request is known not to have been executed.
_NOT_DONE = (
    "failed to connect",
    "connections to all backends failing",
    "no leader",
    "Connection refused",
    "DNS resolution failed",
    "server is not ready",
    "not leader",
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; empty strings where the store is reached without TLS."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Endpoint:
    """One member: its channel and stubs."""

    def __init__(self, url: str, credentials: grpc.ChannelCredentials | None) -> None:
        scheme, _, rest = url.rpartition("://")
        self.target = rest.rstrip("/")
        if scheme == "https" and credentials is not None:
            self.channel = grpc.aio.secure_channel(self.target, credentials, options=_OPTIONS)
        else:
            self.channel = grpc.aio.insecure_channel(self.target, options=_OPTIONS)
        kv = etcd_pb2_grpc.KVStub(self.channel)  # type: ignore[no-untyped-call]
        maintenance = etcd_pb2_grpc.MaintenanceStub(self.channel)  # type: ignore[no-untyped-call]
        lease = etcd_pb2_grpc.LeaseStub(self.channel)  # type: ignore[no-untyped-call]
        self.methods: dict[str, Any] = {
            "Range": kv.Range,
            "Txn": kv.Txn,
            "Compact": kv.Compact,
            "Status": maintenance.Status,
            "LeaseGrant": lease.LeaseGrant,
        }
        self.watch: Any = etcd_pb2_grpc.WatchStub(self.channel).Watch  # type: ignore[no-untyped-call]


class EtcdClient:
    """All members of one store. Made inside a running event loop; :meth:`close` it."""

    def __init__(self, urls: Sequence[str], tls: TlsFiles | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        credentials = _credentials(tls) if tls is not None and tls.ca else None
        self.endpoints = [Endpoint(url, credentials) for url in urls]
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
        backoff = Backoff(base=0.02, limit=0.5)
        while True:
            endpoint = self.endpoint
            left = until - self.clock.monotonic()
            began = self.clock.monotonic()
            try:
                return await endpoint.methods[method](request, timeout=max(0.05, min(ATTEMPT_SECONDS, left)))
            except grpc.aio.AioRpcError as error:
                failed = _meaning(error)
                if failed is None:
                    raise StoreError(f"{method}: {error.code().name}: {error.details()}") from error
                if not isinstance(failed, Unavailable | OutcomeUnknown):
                    raise failed from error
                self.rotate(endpoint)
                if isinstance(failed, OutcomeUnknown) and not read:
                    raise failed from error
                delay = backoff.next()
                if self.clock.monotonic() + delay >= until:
                    raise Unavailable(str(failed)) from error
                if backoff.failures == 1:
                    log.warning("a member of the store failed, asking the next", member=endpoint.target, error=str(failed))
            finally:
                metrics.observe_store(method, self.clock.monotonic() - began)
            await self.clock.sleep(delay)


def _meaning(error: grpc.aio.AioRpcError) -> StoreError | None:
    """None for what should not happen."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.OUT_OF_RANGE:
        return FutureRevision(details) if "future" in details else Compacted(details)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "space exceeded" in details:
            return NoSpace(details)
        return TooLarge(details) if "larger than max" in details else Unavailable(details)
    if code is grpc.StatusCode.INVALID_ARGUMENT and "too large" in details:
        return TooLarge(details)
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(details) if any(text in details for text in _NOT_DONE) else OutcomeUnknown(details)
    if code in (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
    ):
        return OutcomeUnknown(details)
    return None


def _credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    def read(path: str) -> bytes | None:
        return Path(path).read_bytes() if path else None

    return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.cert))
