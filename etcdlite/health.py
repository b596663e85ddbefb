"""grpc.health.v1.Health: whether this member can answer, asked once or watched. Any service may be asked about; all are as well as the member is."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection

from kubeling.etcdlite.errors import EtcdError
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.rpc import Context, Service, server_stream, service, unary

NAME = "grpc.health.v1.Health"
UNKNOWN_SERVICE = EtcdError("NOT_FOUND", "unknown service")

# A ``HealthCheckResponse`` has one field, the status.
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


def handler(member: Member, names: Collection[str]) -> Service:
    """The Health service; `names` are those of the services that may be asked about."""

    def now() -> bytes:
        return _SERVING if member.problem() is None else _NOT_SERVING

    def known(raw: bytes) -> bool:
        from grpc_health.v1 import health_pb2

        name = health_pb2.HealthCheckRequest.FromString(raw).service
        return not name or name == NAME or name in names

    async def check(raw: bytes, context: Context) -> bytes:
        if not known(raw):
            raise UNKNOWN_SERVICE
        return now()

    async def watch(raw: bytes, context: Context) -> AsyncIterator[bytes]:
        if not known(raw):
            # It might come, says the protocol; here it never does.
            yield _SERVICE_UNKNOWN
            await member.engine.until(lambda: False, math.inf)
        while True:
            said = now()
            yield said
            await member.engine.until(lambda said=said: now() != said, math.inf)  # type: ignore[misc]

    return service(NAME, {"Check": unary(check), "Watch": server_stream(watch)})
