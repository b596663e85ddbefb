"""Live members for the tests: real processes on loopback ports of their own, talked to over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import grpc.aio

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc
from tests.ports import free_ports

START_SECONDS = 30.0


class Member:
    """One member's process and a channel to it."""

    def __init__(self, name: str, directory: Path, port: int, peer_port: int, flags: Sequence[str]) -> None:
        self.name = name
        self.directory = directory
        self.data = directory / name
        self.port, self.peer_port = port, peer_port
        self.metrics_port = free_ports(1)[0]
        self._flags = list(flags)
        self._process: asyncio.subprocess.Process | None = None
        self.channel: grpc.aio.Channel | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    @property
    def cluster(self) -> rpc.ClusterStub:
        return rpc.ClusterStub(self.channel)

    @property
    def log(self) -> str:
        return (self.directory / f"{self.name}.log").read_text()

    async def launch(self, *more: str) -> None:
        """Start the process, without waiting for anything."""
        own = [f"--name={self.name}", f"--data-dir={self.data}", f"--listen-metrics-urls=http://127.0.0.1:{self.metrics_port}"]
        log = os.open(self.directory / f"{self.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kubeling.etcdlite", *own, *self._flags, *more, stdout=log, stderr=log
            )
        finally:
            os.close(log)

    async def start(self, *more: str) -> Member:
        """Start the process, with `more` flags, and wait until it answers."""
        await self.launch(*more)
        await self.wait_ready()
        return self

    async def wait_ready(self) -> None:
        await self.connect()
        async with asyncio.timeout(START_SECONDS):
            while True:
                if self._process is not None and self._process.returncode is not None:
                    raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.log}")
                try:
                    await self.kv.Range(pb.RangeRequest(key=b"\x00"), timeout=2, wait_for_ready=True)
                    return
                except grpc.aio.AioRpcError as error:
                    # With auth enabled: it has looked who asks, so it is there.
                    if error.details() == "etcdserver: user name is empty":
                        return

    async def connect(self) -> None:
        if self.channel is not None:
            return  # It finds the new process by itself, and others may be using it.
        options: list[tuple[str, int]] = [("grpc.max_receive_message_length", 64 << 20), ("grpc.use_local_subchannel_pool", 1)]
        options += [("grpc.max_reconnect_backoff_ms", 200), ("grpc.enable_retries", 0)]
        self.channel = grpc.aio.insecure_channel(self.endpoint, options=options)

    @property
    def kv(self) -> rpc.KVStub:
        return rpc.KVStub(self.channel)

    @property
    def lease(self) -> rpc.LeaseStub:
        return rpc.LeaseStub(self.channel)

    @property
    def maintenance(self) -> rpc.MaintenanceStub:
        return rpc.MaintenanceStub(self.channel)

    def watch(self, *requests: pb.WatchCreateRequest) -> grpc.aio.StreamStreamCall:
        """A watch stream with these watches on it."""
        call = rpc.WatchStub(self.channel).Watch()
        self._opening = asyncio.ensure_future(self._open(call, requests))
        return call

    @staticmethod
    async def _open(call: grpc.aio.StreamStreamCall, requests: Sequence[pb.WatchCreateRequest]) -> None:
        for request in requests:
            await call.write(pb.WatchRequest(create_request=request))

    async def put(self, key: bytes, value: bytes = b"", **more: int) -> int:
        """Put; returns the revision."""
        answer = await self.kv.Put(pb.PutRequest(key=key, value=value, **more), timeout=10)
        return answer.header.revision

    async def get(self, key: bytes, *, serializable: bool = False) -> bytes | None:
        answer = await self.kv.Range(pb.RangeRequest(key=key, serializable=serializable), timeout=10)
        return answer.kvs[0].value if answer.kvs else None

    async def all(self) -> dict[bytes, bytes]:
        answer = await self.kv.Range(pb.RangeRequest(key=b"\x00", range_end=b"\x00"), timeout=20)
        return {kv.key: kv.value for kv in answer.kvs}

    async def status(self) -> pb.StatusResponse:
        return await self.maintenance.Status(pb.StatusRequest(), timeout=5)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(START_SECONDS):
            return await self._process.wait()

    async def stop(self) -> None:
        """A planned stop."""
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.log

    async def kill(self) -> None:
        """kill -9 and gone."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def close(self) -> None:
        if self.channel is not None:
            await self.channel.close()
        if self._process is not None and self._process.returncode is None:
            await self.kill()


@contextlib.asynccontextmanager
async def single(directory: Path, *flags: str) -> AsyncIterator[Member]:
    """A cluster of one, running."""
    port, peer = free_ports(2)
    own = [f"--listen-client-urls=http://127.0.0.1:{port}", f"--listen-peer-urls=http://127.0.0.1:{peer}"]
    member = Member("solo", directory, port, peer, [*own, *flags])
    try:
        yield await member.start()
    finally:
        await member.close()


@contextlib.asynccontextmanager
async def trio(directory: Path, *flags: str, scheme: str = "http") -> AsyncIterator[list[Member]]:
    """A cluster of three, running and with a leader."""
    ports = free_ports(6)
    names = ["a", "b", "c"]
    cluster = ",".join(f"{name}={scheme}://127.0.0.1:{ports[3 + i]}" for i, name in enumerate(names))
    members = [
        Member(
            name,
            directory,
            ports[i],
            ports[3 + i],
            [
                f"--listen-client-urls=http://127.0.0.1:{ports[i]}",
                f"--listen-peer-urls={scheme}://127.0.0.1:{ports[3 + i]}",
                f"--initial-cluster={cluster}",
                *flags,
            ],
        )
        for i, name in enumerate(names)
    ]
    try:
        for member in members:
            await member.launch()
        for member in members:
            await member.wait_ready()
        yield members
    finally:
        for member in members:
            await member.close()


def joining(directory: Path, name: str, others: Sequence[Member], *flags: str) -> Member:
    """A member that is to join others, once it was added; not started."""
    port, peer = free_ports(2)
    cluster = ",".join(f"{one.name}={one.peer_url}" for one in others)
    own = [
        f"--listen-client-urls=http://127.0.0.1:{port}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster={cluster},{name}=http://127.0.0.1:{peer}",
        "--initial-cluster-state=existing",
    ]
    return Member(name, directory, port, peer, [*own, *flags])


async def leader_of(members: Sequence[Member]) -> Member:
    """The member that all who answer call the leader."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            said: dict[int, Member] = {}
            leaders = set()
            for member in members:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    status = await member.status()
                    said[status.header.member_id] = member
                    leaders.add(status.leader)
            if len(leaders) == 1 and (leader := leaders.pop()) in said:
                return said[leader]
            await asyncio.sleep(0.05)


class Writers:
    """Writers that never stop: each puts numbered keys one after another and keeps what was acknowledged. Errors are allowed, lies are not."""

    def __init__(self, members: Sequence[Member], count: int) -> None:
        self._members = list(members)
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._goal, self._reached = 0, asyncio.Event()
        self.acknowledged: dict[bytes, bytes] = {}
        self.errors = 0

    async def __aenter__(self) -> Writers:
        self._tasks = [asyncio.ensure_future(self._write(number)) for number in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self, writer: int) -> None:
        number = 0
        while not self._stopping:
            key, value = b"/w/%d/%d" % (writer, number), b"%d." % number + bytes(300)
            number += 1
            member = self._members[(writer + number) % len(self._members)]
            try:
                await member.kv.Put(pb.PutRequest(key=key, value=value), timeout=3)
                self.acknowledged[key] = value
                if len(self.acknowledged) >= self._goal:
                    self._reached.set()
            except grpc.aio.AioRpcError:
                self.errors += 1
                await asyncio.sleep(0.01)

    async def progress(self, more: int = 100, seconds: float = 20.0) -> float:
        """Wait until `more` further writes are acknowledged; how long that took."""
        loop = asyncio.get_running_loop()
        began, goal = loop.time(), len(self.acknowledged) + more
        self._goal, self._reached = goal, asyncio.Event()
        async with asyncio.timeout(seconds):
            await self._reached.wait()
        return loop.time() - began
