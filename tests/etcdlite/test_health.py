"""Health and reflection, as gRPC's own clients ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kubeling.proto import reflection_alpha_pb2, reflection_alpha_pb2_grpc, reflection_pb2, reflection_pb2_grpc

from .members import Member, leader_of, single, trio
from .test_service import refused

pytestmark = pytest.mark.live

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    async with single(tmp_path) as one:
        yield one


async def test_services_that_are_there_are_healthy(member: Member) -> None:
    health = health_pb2_grpc.HealthStub(member.channel)
    for name in ("", "etcdserverpb.KV", "v3lockpb.Lock", "grpc.health.v1.Health"):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)).status == SERVING
    other = health_pb2.HealthCheckRequest(service="some.Other")
    assert await refused(health.Check(other, timeout=10)) == ("NOT_FOUND", "unknown service")
    watch = health.Watch(other)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_a_member_without_a_leader_is_not_healthy_and_says_so(tmp_path: Path) -> None:
    async with trio(tmp_path) as members:
        leader = await leader_of(members)
        last, *others = sorted(members, key=lambda one: one is leader)
        watch = health_pb2_grpc.HealthStub(last.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        for other in others:
            await other.kill()
        async with asyncio.timeout(20):
            assert (await watch.read()).status == NOT_SERVING
        await others[0].start()
        async with asyncio.timeout(20):
            assert (await watch.read()).status == SERVING
        watch.cancel()


@pytest.mark.parametrize(
    ("messages", "stub"),
    [
        (reflection_pb2, reflection_pb2_grpc.ServerReflectionStub),
        (reflection_alpha_pb2, reflection_alpha_pb2_grpc.ServerReflectionStub),
    ],
)
async def test_a_client_without_proto_files_learns_all_it_needs(member: Member, messages: Any, stub: Any) -> None:
    call = stub(member.channel).ServerReflectionInfo()

    async def ask(**what: Any) -> Any:
        await call.write(messages.ServerReflectionRequest(host="h", **what))
        async with asyncio.timeout(10):
            answer = await call.read()
        assert answer.valid_host == "h"
        return answer

    names = [one.name for one in (await ask(list_services="")).list_services_response.service]
    assert {"etcdserverpb.KV", "v3electionpb.Election", "grpc.health.v1.Health"} < set(names)
    # A pool of its own, filled with nothing but what it is told.
    pool = descriptor_pool.DescriptorPool()  # type: ignore[no-untyped-call]
    waiting: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for name in names:
        told = (await ask(file_containing_symbol=name)).file_descriptor_response.file_descriptor_proto
        for one in told:
            file = descriptor_pb2.FileDescriptorProto.FromString(one)
            waiting[file.name] = file
    while waiting:
        ready = next(file for file in waiting.values() if not set(file.dependency) & set(waiting))
        pool.Add(waiting.pop(ready.name))  # type: ignore[no-untyped-call]
    for name in names:
        service = pool.FindServiceByName(name)  # type: ignore[no-untyped-call]
        assert service.methods
    kv = pool.FindServiceByName("etcdserverpb.KV").methods_by_name["Put"]  # type: ignore[no-untyped-call]
    put, answer = (message_factory.GetMessageClass(one) for one in (kv.input_type, kv.output_type))
    assert member.channel is not None
    do = member.channel.unary_unary("/etcdserverpb.KV/Put")
    raw = await do(put(key=b"k", value=b"v").SerializeToString(), timeout=10)  # type: ignore[misc]
    assert answer.FromString(raw).header.revision == 2  # type: ignore[attr-defined]
    by_file = await ask(file_by_filename="kubeling/proto/auth.proto")
    assert len(by_file.file_descriptor_response.file_descriptor_proto) == 1
    assert (await ask(file_containing_symbol="mvccpb.KeyValue.key")).HasField("file_descriptor_response")
    for unknown in ({"file_containing_symbol": "runtime.v1.Nothing"}, {"file_by_filename": "etc/passwd"}):
        assert (await ask(**unknown)).error_response.error_code == 5
    assert (await ask()).error_response.error_code == 3
    call.cancel()
