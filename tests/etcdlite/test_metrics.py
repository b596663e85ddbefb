"""What monitoring sees: etcd's own names, figures that move, and text that the Prometheus library reads."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import grpc.aio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kubeling.proto import etcd_pb2 as pb

from .members import Member, leader_of, single, trio

pytestmark = pytest.mark.live

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def figures(member: Member) -> Figures:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{member.metrics_port}/metrics")).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Figures, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


async def test_calls_writes_and_sizes_are_counted(tmp_path: Path) -> None:
    async with single(tmp_path) as member:
        before = await figures(member)
        for number in range(5):
            await member.put(b"k%d" % number, bytes(100))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await member.kv.Put(pb.PutRequest())
        after = await figures(member)
        put = {"grpc_service": "etcdserverpb.KV", "grpc_method": "Put", "grpc_type": "unary"}
        assert of(after, "grpc_server_handled_total", grpc_code="OK", **put) == 5
        assert of(after, "grpc_server_handled_total", grpc_code="InvalidArgument", **put) == 1
        assert of(after, "grpc_server_started_total", **put) == 6
        for name, by in (
            ("etcd_mvcc_put_total", 5),
            ("etcd_debugging_mvcc_keys_total", 5),
            ("etcd_server_proposals_applied_total", 5),
            ("etcd_disk_wal_fsync_duration_seconds_count", 5),
        ):
            assert of(after, name) - of(before, name) == by, name
        assert of(after, "etcd_server_has_leader") == of(after, "etcd_server_is_leader") == 1
        assert of(after, "etcd_mvcc_db_total_size_in_bytes") > 500
        assert of(after, "process_resident_memory_bytes") > 1 << 20


async def test_a_leader_that_goes_and_peers_that_talk_are_seen(tmp_path: Path) -> None:
    async with trio(tmp_path) as members, asyncio.timeout(60):
        leader = await leader_of(members)
        rest = [member for member in members if member is not leader]
        await leader.put(b"k", bytes(1000))
        changes = of(await figures(rest[0]), "etcd_server_leader_changes_seen_total")
        peer = f"{(await rest[0].status()).header.member_id:x}"
        found = await figures(leader)
        assert of(found, "etcd_network_peer_sent_bytes_total", To=peer) > 1000
        assert of(found, "etcd_network_active_peers") == 2
        await leader.kill()
        await leader_of(rest)
        found = await figures(rest[0])
        assert of(found, "etcd_server_leader_changes_seen_total") == changes + 1
        assert of(found, "etcd_network_disconnected_peers") == 1
