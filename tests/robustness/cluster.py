"""The store under test: one or three members as live processes, each in a network namespace of its own, and what can be done to a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import grpc.aio

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .clock import Clock, build
from .network import Network
from .storage import Storage

READY_SECONDS = 40.0
CLIENT_PORT, PEER_PORT = 2379, 2380
#: Small, so that a run of seconds sees logs cut and snapshots made and shipped.
SNAPSHOT_LOG_BYTES = 120_000
SNAPSHOT_COUNT = 300


class Member:
    """One member: its process, its address, its disk."""

    def __init__(self, name: str, address: str, netns: str, directory: Path) -> None:
        self.name, self.address, self.directory = name, address, directory
        self.data = directory / "disk" / "data"
        self.flags: list[str] = []
        self.environment: dict[str, str] = {}
        #: Commands before the member's own, each ending where the next begins.
        self.wrappers: list[list[str]] = [["nsenter", f"--net={netns}", "--"]]
        self.process: asyncio.subprocess.Process | None = None
        self.paused = False
        #: A disk that can fail; None: the machine's own.
        self.storage: Storage | None = None
        #: Clocks that can jump.
        self.clock: Clock | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.address}:{PEER_PORT}"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Start the process; returns at once."""
        assert not self.running
        command = [part for wrapper in self.wrappers for part in wrapper] + self.flags
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            environment: Mapping[str, str] = os.environ | self.environment
            self.process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)
        finally:
            os.close(log)
        self.paused = False

    async def kill(self) -> None:
        """kill -9, and gone."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            await self.process.wait()
        self.paused = False

    async def stop(self) -> int:
        """A planned stop."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        return await self.process.wait()

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.signal(signal.SIGCONT)
        self.paused = False

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens where the process is gone. (Not by way of the Process: that would reap it behind the event loop's back.)"""
        if self.running:
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own to this member."""
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 300),
            ("grpc.max_receive_message_length", 64 << 20),
        ]
        return grpc.aio.insecure_channel(self.endpoint, options=options)


class Cluster:
    """All members, on one network."""

    def __init__(
        self, store: str, network: Network, directory: Path, size: int, flags: Sequence[str] = (), broken: str = ""
    ) -> None:
        self.store, self.network, self.directory = store, network, directory
        self.extra, self.broken = list(flags), broken
        self.members: list[Member] = []
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._plugged = 0
        self.members += [self.plug() for _ in range(size)]
        names = ",".join(f"{one.name}={one.peer_url}" for one in self.members)
        for member in self.members:
            member.flags = self.flags_of(member, names, "new")

    def plug(self) -> Member:
        """One more machine, on the network, with nothing on it."""
        self._plugged += 1
        address, netns = self.network.attach(self._plugged)
        directory = self.directory / f"m{self._plugged}"
        (directory / "disk").mkdir(parents=True)
        return Member(f"m{self._plugged}", address, netns, directory)

    def join(self, member: Member, names: str) -> None:
        """Make a plugged machine a member of the running cluster, not yet started; `names` is what --initial-cluster says of the others."""
        member.flags = self.flags_of(member, f"{names},{member.name}={member.peer_url}", "existing")
        self.members.append(member)

    def flags_of(self, member: Member, names: str, state: str) -> list[str]:
        """The command of a member."""
        own = ["-m", "tests.robustness.broken", self.broken] if self.broken else ["-m", "kubeling.etcdlite"]
        command = ["etcd"] if self.store == "etcd" else [sys.executable, *own]
        limits = (
            [f"--snapshot-count={SNAPSHOT_COUNT}", "--logger=zap", "--enable-v2=false"]
            if self.store == "etcd"
            else [f"--snapshot-log-bytes={SNAPSHOT_LOG_BYTES}"]
        )
        return [
            *command,
            f"--name={member.name}",
            f"--data-dir={member.data}",
            f"--listen-client-urls=http://{member.address}:{CLIENT_PORT}",
            f"--advertise-client-urls=http://{member.address}:{CLIENT_PORT}",
            f"--listen-peer-urls={member.peer_url}",
            f"--initial-advertise-peer-urls={member.peer_url}",
            f"--initial-cluster={names}",
            f"--initial-cluster-state={state}",
            "--heartbeat-interval=60",
            "--election-timeout=600",
            *limits,
            *self.extra,
        ]

    def channel(self, member: Member) -> grpc.aio.Channel:
        """The run's own connection to a member, for status and the like."""
        if member.name not in self._channels:
            self._channels[member.name] = member.channel()
        return self._channels[member.name]

    async def mount(self) -> None:
        """Give every member a disk that can fail, before the start."""
        for member in self.members:
            await self.mount_one(member)

    async def mount_one(self, member: Member) -> None:
        # Real etcd trusts a file system to keep the name of a new file that it fsyncs, as ext4 does; we trust it with nothing.
        member.storage = await Storage.mount(member.data.parent, names_follow_files=self.store == "etcd")

    def wind(self) -> None:
        """Give every member clocks that can jump, before the start."""
        library = build(self.directory)
        for member in self.members:
            member.clock = Clock(member.directory / "clock", library)
            member.environment = member.clock.environment

    async def start(self) -> None:
        """Start all, and wait until each of them serves."""
        for member in self.members:
            await member.start()
        await self.ready()

    async def ready(self, members: Sequence[Member] = (), seconds: float = READY_SECONDS) -> None:
        """Wait until each of these (default: all) answers a linearizable read. Raises AssertionError with the end of its log."""
        for member in members or self.members:
            try:
                async with asyncio.timeout(seconds):
                    await self._ready(member)
            except TimeoutError:
                tail = member.log.read_text(errors="replace")[-1500:]
                raise AssertionError(f"{member.name} does not serve after {seconds} s; its log ends:\n{tail}") from None

    async def _ready(self, member: Member) -> None:
        kv = rpc.KVStub(self.channel(member))
        while True:
            try:
                await kv.Range(pb.RangeRequest(key=b"\x00"), timeout=1.5, wait_for_ready=True)
            except grpc.aio.AioRpcError:
                if member.process is not None and member.process.returncode is not None:
                    tail = member.log.read_text(errors="replace")[-1500:]
                    raise AssertionError(f"{member.name} ended with {member.process.returncode}; its log ends:\n{tail}") from None
                await asyncio.sleep(0.05)
            else:
                return

    async def status(self, member: Member, timeout: float = 1.0) -> pb.StatusResponse | None:
        """What a member says of itself; None where it does not answer."""
        try:
            return await rpc.MaintenanceStub(self.channel(member)).Status(pb.StatusRequest(), timeout=timeout)
        except grpc.aio.AioRpcError:
            return None

    async def leader(self, among: Sequence[Member] = (), seconds: float = 15.0) -> Member:
        """The member that leads according to itself and in the highest term that anybody knows."""
        async with asyncio.timeout(seconds):
            while True:
                said = [(one, await self.status(one, 0.5)) for one in among or self.members if one.running and not one.paused]
                known = [
                    (status.header.raft_term, one) for one, status in said if status and status.leader == status.header.member_id
                ]
                top = max((status.header.raft_term for _, status in said if status), default=0)
                for term, member in known:
                    if term == top:
                        return member
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Kill what runs."""
        for channel in self._channels.values():
            await channel.close()
        for member in self.members:
            await member.kill()
            if member.storage is not None:
                await member.storage.close()
