"""The whole of etcdctl against etcdlite beside real etcd: the same output, in every format, and the same exit codes.

What two clusters cannot agree on is masked: ids, ports, terms, sizes, hashes, times.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .members import START_SECONDS, single
from .test_differential import real_etcd

ETCDCTL = shutil.which("etcdctl")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(ETCDCTL is None, reason="etcdctl is not installed: apt-get install etcd-client"),
]

COMMANDS = Path(__file__).parent / "testdata" / "etcdctl.txt"
FORMATS = ["simple", "json", "fields", "table", "protobuf"]

_MASKS = [
    (r'"ts":(?:"[^"]*"|[0-9.]+)', '"ts":…'),
    (r"took = [0-9.]+[mµn]?s", "took = …"),
    (r'"took":"?[^",}]*"?', '"took":…'),
    (r'"Took" : \S+', '"Took" : …'),
    (r"\| +[0-9.]+[mµ]s +\|", "| … |"),
    (r"remaining\([0-9]+s\)", "remaining(…)"),
    (r'"ttl":[0-9]+', '"ttl":…'),
    (r'"TTL" : [0-9]+', '"TTL" : …'),
    (r'"raft_?[tT]erm":[0-9]+', '"raft_term":…'),
    (r'"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|Hash)" : [0-9]+', r'"\1" : …'),
    (r'"(raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|hash)":[0-9]+', r'"\1":…'),
    (r"[0-9.]+ [kM]B", "… kB"),
    (r"3\.[45]\.[0-9]+", "VERSION"),
    (r"(true|false), [0-9]+, [0-9]+, [0-9]+, $", r"\1, …, …, …, "),
    (r"(true|false) +\| +[0-9]+ +\| +[0-9]+ +\| +[0-9]+ +\|", r"\1 | … | … | … |"),
    (r"(ENDPOINT(?:, | +\| +))[0-9]{4,}", r"\1HASH"),
    (r'"(totalKey|totalSize)":[0-9]+', r'"\1":…'),
    (r'"(Keys|Size)" : [0-9]+', r'"\1" : …'),
    (r"\x12.\x08(MEMBER|NEW)", r"\1"),
    (r"attempt\":[0-9]+", 'attempt":…'),
    (r"target\":\"[^\"]*\"", 'target":…'),
    (r"clientv3/[a-z_]+\.go:[0-9]+", "clientv3/…"),
    (r"127\.0\.0\.1:[0-9]{4,}", "ADDRESS"),
    # Two of its threads write these, in whatever order.
    (r'(?m)^\{"level":"info".*\n', ""),
    # Where etcdctl itself falls over, only that it does.
    (r"(?s)(panic: [^\n]*).*", r"\1"),
    # Keys of locks and elections end with a lease's id.
    (r"\b(lock|race)/[0-9a-f]+", r"\1/LEASE"),
]


@dataclass
class Side:
    """One of the two: where it listens and what is to be masked in what is said of it."""

    endpoint: str
    tmp: Path
    names: dict[str, str] = field(default_factory=dict)
    masked: list[tuple[str, str]] = field(default_factory=list)
    #: The beginning of an answer's header as it is encoded.
    header: bytes = b""
    #: And ids, as they are encoded.
    raw: list[tuple[bytes, bytes]] = field(default_factory=list)
    member: int = 0

    async def _start(self, line: str) -> asyncio.subprocess.Process:
        assert ETCDCTL is not None
        words = [word.format(tmp=self.tmp, endpoint=self.endpoint, **self.names) for word in shlex.split(line)]
        return await asyncio.create_subprocess_exec(
            ETCDCTL,
            f"--endpoints={self.endpoint}",
            *words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
        )

    async def run(self, line: str, given: str = "") -> tuple[int, str, str]:
        """Exit code and what it printed, both ways."""
        process = await self._start(line)
        async with asyncio.timeout(START_SECONDS):
            out, err = await process.communicate(given.encode())
        if line.startswith("lease grant") and process.returncode == 0:
            self._learn_lease(out)
        if line.startswith("member add") and (found := re.match(rb"Member +([0-9a-f]+) added", out)):
            self.names["new"] = found[1].decode()
            self.hide(int(found[1], 16), "NEW")
        return process.returncode or 0, self.mask(out), self.mask(err)

    @contextlib.asynccontextmanager
    async def running(self, line: str, given: str = "") -> AsyncIterator[Running]:
        """A command that goes on until it is interrupted."""
        process = await self._start(line)
        try:
            assert process.stdin is not None
            process.stdin.write(given.encode())
            yield Running(self, process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    def _learn_lease(self, out: bytes) -> None:
        found = re.search(rb'lease ([0-9a-f]{5,16}) granted|"(?:ID|id)"(?: : |:)([0-9]+)', out)
        if found is not None:
            number = int(found[1], 16) if found[1] else int(found[2])
            self.names["lease"] = f"{number:x}"
            self.hide(number, "LEASE")

    def hide(self, number: int, name: str) -> None:
        """Mask a number in every way in which it is printed."""
        self.raw.append((pb.Member(ID=number).SerializeToString()[1:], name.encode()))
        for form in (f"{number:016x}", f"{number:x}", str(number)):
            self.masked.append((form, name))

    def mask(self, said: bytes) -> str:
        if self.header:
            # With its length before it, where it has one, and the term behind it.
            said = re.sub(
                rb"(\n.)?" + re.escape(self.header) + rb"(\x18[\x80-\xff]*.)?\x20.", rb"HEADER\2", said, flags=re.DOTALL
            )
            for raw, name in self.raw:
                said = said.replace(raw, name)
        text = said.decode(errors="backslashreplace").replace(str(self.tmp), "TMP").replace(self.endpoint, "ENDPOINT")
        for form, name in self.masked:
            text = text.replace(form, name)
        for pattern, instead in _MASKS:
            text = re.sub(pattern, instead, text)
        # The columns of a table are as wide as what is in them.
        text = re.sub(r"-{2,}", "--", re.sub(r" {2,}", " ", text))
        # Members come in the order of their ids.
        text = re.sub(r'(INITIAL_CLUSTER=")(.*)"', lambda found: f"{found[1]}{sorted(found[2].split(','))}", text)
        return "".join(sorted(text.splitlines(True))) if "unstarted" in text else text


class Running:
    """A command that goes on, and what it says meanwhile."""

    def __init__(self, side: Side, process: asyncio.subprocess.Process) -> None:
        self._side = side
        self._process = process

    async def lines(self, count: int) -> str:
        """The next lines that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            return self._side.mask(b"".join([await self._process.stdout.readline() for _ in range(count)]))

    async def interrupt(self) -> tuple[int, str, str]:
        """Ctrl-C: exit code and the rest of what it printed."""
        self._process.send_signal(signal.SIGINT)
        async with asyncio.timeout(START_SECONDS):
            out, err = await self._process.communicate()
        return self._process.returncode or 0, self._side.mask(out), self._side.mask(err)


def commands() -> Iterator[tuple[str, str]]:
    """The command lines of the file, with what each reads."""
    lines = COMMANDS.read_text().splitlines()
    for at, line in enumerate(lines):
        if not line or line.startswith(("#", "|")):
            continue
        given = ""
        for more in lines[at + 1 :]:
            if not more.startswith("|"):
                break
            given += more[2:] + "\n"
        if line.startswith("every: "):
            for form in FORMATS:
                yield f"{line[7:]} -w {form}", given
        else:
            yield line, given


@contextlib.asynccontextmanager
async def both(tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    """Real etcd and etcdlite, empty."""
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    async with (
        real_etcd(tmp_path / "theirs", "", "--bcrypt-cost=4") as address,
        single(tmp_path / "ours", "--bcrypt-cost=4", "--name=default") as member,
    ):
        theirs, ours = Side(address, tmp_path / "theirs"), Side(member.endpoint, tmp_path / "ours")
        for side in (theirs, ours):
            async with asyncio.timeout(START_SECONDS):
                status, _, err = await side.run("get x --dial-timeout=30s --command-timeout=30s")
                assert not status, err
            _, out, _ = await side.run("member list -w json")
            found = re.search(r'"cluster_id":([0-9]+),"member_id":([0-9]+)', out)
            assert found is not None
            cluster, me = int(found[1]), int(found[2])
            side.header = pb.ResponseHeader(cluster_id=cluster, member_id=me).SerializeToString()
            side.hide(cluster, "CLUSTER")
            side.hide(me, "MEMBER")
            side.member = me
            side.names["member"] = f"{me:x}"
        yield theirs, ours


async def test_every_command_prints_the_same(tmp_path: Path) -> None:
    wrong: list[str] = []
    async with both(tmp_path) as (theirs, ours):
        for line, given in commands():
            wanted, got = await asyncio.gather(theirs.run(line, given), ours.run(line, given))
            if wanted != got:
                wrong.append(f"> {line}\n  etcd:     {wanted}\n  etcdlite: {got}")
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong)


async def test_an_alarm_looks_the_same(tmp_path: Path) -> None:
    async with both(tmp_path) as sides:
        for side in sides:
            await side.run("put a 1")
            async with grpc.aio.insecure_channel(side.endpoint) as channel:
                alarm = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=side.member, alarm=pb.NOSPACE)
                await rpc.MaintenanceStub(channel).Alarm(alarm)
        for line in (
            *(f"alarm list -w {form}" for form in ("simple", "json", "table", "protobuf")),
            "put a 1",
            "lease grant 100",
            "del a",
            "get a",
            "endpoint status -w json",
            "endpoint status -w fields",
            "endpoint health",
            "alarm disarm",
            "alarm disarm",
            "alarm list",
            "put a 1",
        ):
            wanted, got = await asyncio.gather(*(side.run(line) for side in sides))
            assert got == wanted, line


async def test_what_goes_on_until_it_is_interrupted(tmp_path: Path) -> None:
    async with both(tmp_path) as sides:
        for line in ("put w/1 one", "put w/2 two", "put w/1 three", "del w/2", "put other 1", "lease grant 600"):
            for side in sides:
                await side.run(line)
        # What is to come, and how many lines of it: all of them, so that it does not matter when it is interrupted.
        watches = {
            "watch w/ --prefix --rev=2": 12,
            "watch w/ --prefix --rev=2 --prev-kv": 16,
            "watch w/1 --rev=3": 3,
            "watch w/1 w/9 --rev=2 -w json": 1,
            "watch w/ --prefix --rev=3 --prev-kv -w fields": 37,
            "watch w/2 --rev=2 --hex": 6,
            "watch w/2 --rev=3 -- echo told": 8,
            "lease keep-alive {lease}": 1,
            "lease keep-alive {lease} -w json": 1,
        }
        for line, count in watches.items():
            told = []
            for side in sides:
                async with side.running(line) as one:
                    told.append((await one.lines(count), await one.interrupt()))
            assert told[0] == told[1], line
        told = []
        for side in sides:
            async with side.running("watch -i", "watch w/1 --rev=2\nnonsense\n") as one:
                told.append((await one.lines(3), (await one.interrupt())[0]))
        assert told[0] == told[1]


async def test_locks_elections_and_mirrors(tmp_path: Path) -> None:
    async with both(tmp_path) as sides:
        told: list[list[object]] = []
        for side in sides:
            said: list[object] = []
            told.append(said)
            async with side.running("lock lock") as holder, side.running("lock lock echo mine") as waiter:
                said += [await holder.lines(1), await holder.interrupt()]
                said += [await waiter.lines(1)]
            async with side.running("elect race one") as leader:
                said += [await leader.lines(2)]
                async with side.running("elect -l race") as observer, side.running("elect race two") as second:
                    said += [await observer.lines(2), await leader.interrupt()]
                    said += [await second.lines(2), await observer.lines(2), await second.interrupt()]
            said += [await side.run("get --prefix race/ --keys-only"), await side.run("elect race one two three")]
            for key in ("src/1", "src/2"):
                await side.run(f"put {key} v")
            mirror = side.running("make-mirror --prefix src/ --dest-prefix dst/ {endpoint}")
            async with mirror, side.running("watch dst/ --prefix --rev=1") as watch:
                said += [await watch.lines(6)]
            said += [await side.run("get --prefix dst/")]
        assert told[0] == told[1]


async def test_a_backup_is_taken_and_looked_at(tmp_path: Path) -> None:
    async with both(tmp_path) as sides:
        for side in sides:
            await side.run("put a 1")
        for line in (
            "snapshot save {tmp}/backup.db",
            "snapshot save {tmp}/nowhere/backup.db",
            *(f"snapshot status {{tmp}}/backup.db -w {form}" for form in ("json", "fields")),
            "snapshot restore {tmp}/backup.db --data-dir {tmp}/restored",
            "snapshot restore {tmp}/backup.db --data-dir {tmp}/restored",
        ):
            wanted, got = await asyncio.gather(*(side.run(line) for side in sides))
            assert got == wanted, line
