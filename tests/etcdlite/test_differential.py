"""The same requests, from a seed, to etcdlite and to real etcd: the same answers, revisions, events, error codes and words."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc
from tests.ports import free_ports

from .members import START_SECONDS, single
from .random_auth import AuthRequests, Step
from .random_requests import Request, Requests, events_of, without_identity

pytestmark = pytest.mark.live
#: Others by hand: each takes a quarter of a minute.
SEEDS = [int(each) for each in os.environ.get("KUBELING_DIFFERENTIAL_SEEDS", "1").split()]

ETCD = shutil.which("etcd")
STEPS = 2_500


@contextlib.asynccontextmanager
async def real_etcd(directory: Path, peer_url: str = "", *flags: str) -> AsyncIterator[str]:
    """A single member of the real thing, on what is in directory/etcd; its client address."""
    if ETCD is None:
        pytest.skip("etcd is not installed: apt-get install etcd-server")
    client, other = (f"127.0.0.1:{port}" for port in free_ports(2))
    peer_url = peer_url or f"http://{other}"
    with open(directory / "etcd.log", "wb") as log:
        process = await asyncio.create_subprocess_exec(
            ETCD,
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls=http://{client}",
            f"--advertise-client-urls=http://{client}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--log-level=error",
            *flags,
            stdout=log,
            stderr=log,
        )
    try:
        yield client
    finally:
        process.kill()
        await process.wait()


class Peer:
    """One of the two, with a watch on everything."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        kv, lease = rpc.KVStub(channel), rpc.LeaseStub(channel)
        self.calls: dict[type, Any] = {
            pb.RangeRequest: kv.Range,
            pb.PutRequest: kv.Put,
            pb.DeleteRangeRequest: kv.DeleteRange,
            pb.TxnRequest: kv.Txn,
            pb.CompactionRequest: kv.Compact,
            pb.LeaseGrantRequest: lease.LeaseGrant,
            pb.LeaseRevokeRequest: lease.LeaseRevoke,
            pb.LeaseTimeToLiveRequest: lease.LeaseTimeToLive,
            pb.LeaseLeasesRequest: lease.LeaseLeases,
        }
        self.channel = channel

    async def ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            await self.calls[pb.RangeRequest](pb.RangeRequest(key=b"a"), wait_for_ready=True)

    async def ask(self, request: Request) -> Any:
        """The answer, or the error as (code, words)."""
        try:
            answer = await self.calls[type(request)](request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()
        without_identity(answer)
        if isinstance(answer, pb.LeaseTimeToLiveResponse):
            # The seconds may pass between asking the one and the other.
            answer.TTL = min(answer.TTL, 1)
            keys = sorted(answer.keys)
            del answer.keys[:]
            answer.keys.extend(keys)
        if isinstance(answer, pb.LeaseLeasesResponse):
            ids = sorted(one.ID for one in answer.leases)
            del answer.leases[:]
            answer.leases.extend(pb.LeaseStatus(ID=one) for one in ids)
        return answer

    async def hash(self, request: pb.HashKVRequest) -> Any:
        """The hash of the key space and the compacted revision, or the error's words."""
        try:
            answer = await rpc.MaintenanceStub(self.channel).HashKV(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.details()
        return answer.hash, answer.compact_revision

    async def history(self, start: int, count: int) -> list[Any]:
        """The next `count` events from revision `start` on, as a watch tells them."""
        call = rpc.WatchStub(self.channel).Watch()
        create = pb.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start, prev_kv=True)
        await call.write(pb.WatchRequest(create_request=create))
        told: list[Any] = []
        async with asyncio.timeout(10):
            while len(told) < count:
                answer = await call.read()
                if answer.canceled:
                    told.append(("canceled", answer.compact_revision))
                    break
                told += events_of(answer)
        call.cancel()
        return told


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_same_requests_have_the_same_answers(tmp_path: Path, seed: int) -> None:
    async with (
        real_etcd(tmp_path) as address,
        single(tmp_path) as member,
        grpc.aio.insecure_channel(address) as channel,
        grpc.aio.insecure_channel(member.endpoint) as own,
    ):
        theirs, ours = Peer(channel), Peer(own)
        await asyncio.gather(theirs.ready(), ours.ready())
        requests, compacted = Requests(seed), 0
        for number, request in zip(range(STEPS), requests, strict=False):
            wanted, got = await theirs.ask(request), await ours.ask(request)
            if got != wanted:
                lines = difflib.unified_diff(str(wanted).splitlines(), str(got).splitlines(), "etcd", "etcdlite", lineterm="")
                shown = "\n".join(lines)
                pytest.fail(f"request {number} of seed {seed}: {shown}\n{type(request).__name__} {request}")
            if not isinstance(wanted, tuple):
                requests.revision = wanted.header.revision
                if isinstance(request, pb.CompactionRequest):
                    compacted = request.revision
            if number % 20 == 0:
                revision = requests.revision
                for at in {0, max(0, compacted - 1), compacted + 1, max(0, revision - 7), revision + 1} - {compacted}:
                    # At the compacted revision itself etcd 3.4 refuses, and 3.5 does not.
                    ask = pb.HashKVRequest(revision=at)
                    assert await ours.hash(ask) == await theirs.hash(ask), f"at {at}, step {number} of seed {seed}"
        start = max(compacted + 1, requests.revision - 200)
        for first in (start, max(1, compacted - 1)):
            count = requests.revision - start + 1
            assert await ours.history(first, count) == await theirs.history(first, count)


class NamedPeer:
    """One of the two, with the tokens that it has given."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stubs: dict[str, Any] = {
            "Auth": rpc.AuthStub(channel),
            "KV": rpc.KVStub(channel),
            "Maintenance": rpc.MaintenanceStub(channel),
        }
        self.tokens: dict[str, str] = {}

    async def ask(self, step: Step) -> Any:
        """The answer, or the error as (code, words)."""
        call = getattr(self._stubs[step.service], step.method)
        request = step.request
        if step.method == "RoleList":
            request = pb.AuthRoleListRequest()
        token = "nobody" if step.user == "?" else self.tokens.get(step.user or "")
        try:
            answer = await call(request, timeout=10, wait_for_ready=True, metadata=[("token", token)] if token else None)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()
        without_identity(answer)
        if isinstance(answer, pb.AuthenticateResponse):
            self.tokens[request.name] = answer.token
            answer.ClearField("token")
        elif isinstance(answer, pb.AuthDisableResponse):
            # etcd 3.4 refuses old tokens even then; here they count for nothing.
            self.tokens = {}
        elif isinstance(answer, pb.HashResponse):
            answer.ClearField("hash")
        return answer


@pytest.mark.parametrize("seed", SEEDS)
async def test_users_may_do_the_same_things(tmp_path: Path, seed: int) -> None:
    async with (
        real_etcd(tmp_path, "", "--bcrypt-cost=4") as address,
        single(tmp_path, "--bcrypt-cost=4") as member,
        grpc.aio.insecure_channel(address) as channel,
        grpc.aio.insecure_channel(member.endpoint) as own,
    ):
        theirs, ours = NamedPeer(channel), NamedPeer(own)
        refused = granted = 0
        for number, step in zip(range(1_500), AuthRequests(seed), strict=False):
            if step.user == "?" and not (await ours.ask(Step("Auth", "AuthStatus", pb.AuthStatusRequest(), None))).enabled:
                continue
            wanted, got = await theirs.ask(step), await ours.ask(step)
            assert got == wanted, f"step {number} of seed {seed}: {step}"
            if step.user in ("ann", "bob") and step.service == "KV":
                refused += wanted == ("PERMISSION_DENIED", "etcdserver: permission denied")
                granted += not isinstance(wanted, tuple)
        assert refused > 10
        assert granted > 10
