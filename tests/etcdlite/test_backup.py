"""Backups: etcd's own format, both ways, and back into a store."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import grpc.aio
import pytest

from kubeling.etcdlite import bolt
from kubeling.etcdlite.castagnoli import crc32c
from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc
from tests.ports import free_ports

from .members import Member, single, trio
from .test_differential import Peer, real_etcd

ETCDCTL = shutil.which("etcdctl")


async def tool(
    *args: object, program: tuple[str, ...] = (sys.executable, "-m", "kubeling.etcdlite.backup_tool")
) -> tuple[int, str]:
    """Exit status and everything that was printed."""
    process = await asyncio.create_subprocess_exec(
        *program,
        *map(str, args),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.parametrize("count", [0, 1, 50, 5000])
def test_what_is_written_is_read(count: int) -> None:
    rand = random.Random(count)
    items = {b"%08d" % number: rand.randbytes(rand.choice([0, 5, 300, 9000])) for number in range(count)}
    database = bolt.Database({b"key": sorted(items.items()), b"none": []})
    data = b"".join(database)
    assert len(data) == database.size
    assert len(data) % bolt.PAGE == 0
    assert dict(bolt.read(data, b"key")) == items
    assert list(bolt.read(data, b"key")) == sorted(items.items())
    assert bolt.names(data) == [b"key", b"none"]
    assert list(bolt.read(data, b"none")) == list(bolt.read(data, b"other")) == []


def test_damage_is_told_and_never_more_than_an_error() -> None:
    data = b"".join(bolt.Database({b"key": [(b"%06d" % number, b"v" * 40) for number in range(2000)]}))
    with pytest.raises(bolt.BoltError, match="cut off"):
        list(bolt.read(data[: -bolt.PAGE], b"key"))
    rand = random.Random(1)
    for _ in range(300):
        spoilt = bytearray(data)
        for _ in range(rand.randrange(1, 30)):
            spoilt[rand.randrange(len(spoilt))] = rand.randrange(256)
        try:
            list(bolt.read(bytes(spoilt), b"key"))
        except bolt.BoltError:
            pass


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    for middle in range(10):
        assert crc32c(b"123456789"[middle:], crc32c(b"123456789"[:middle])) == 0xE3069283


async def fill(member: Member) -> None:
    """Versions, deletions, a transaction with several writes, leases and a compaction."""
    await member.lease.LeaseGrant(pb.LeaseGrantRequest(ID=77, TTL=5000))
    for number in range(300):
        await member.put(b"k/%d" % (number % 90), b"v%d" % number, lease=77 if number % 10 == 0 else 0)
    await member.kv.DeleteRange(pb.DeleteRangeRequest(key=b"k/1", range_end=b"k/2"))
    puts = [pb.RequestOp(request_put=pb.PutRequest(key=b"t/%d" % number, value=b"x" * 6000)) for number in range(20)]
    await member.kv.Txn(pb.TxnRequest(success=puts))
    await member.kv.Compact(pb.CompactionRequest(revision=200, physical=True))
    await member.put(b"k/5", b"last")
    await member.kv.DeleteRange(pb.DeleteRangeRequest(key=b"t/3"))


async def contents(kv: rpc.KVStub, revision: int) -> list[bytes]:
    answer = await kv.Range(pb.RangeRequest(key=b"\0", range_end=b"\0", revision=revision))
    return [each.SerializeToString() for each in answer.kvs]


@pytest.mark.live
async def test_a_backup_comes_back_in_a_new_cluster_of_three(tmp_path: Path) -> None:
    file = tmp_path / "b.db"
    async with single(tmp_path) as member:
        await fill(member)
        assert (await tool("save", file, "--endpoints", member.endpoint))[0] == 0
        revision = (await member.status()).header.revision
        wanted = [await contents(member.kv, at) for at in (200, 250, revision)]
    kubeling = (sys.executable, "-m", "kubeling.cli", "etcd", "snapshot")
    code, said = await tool("status", file, "-w", "json", program=kubeling)
    assert (code, json.loads(said)["revision"]) == (0, revision)
    (tmp_path / "new").mkdir()
    for name in ("a", "b", "c"):
        code, said = await tool("restore", file, "--name", name, "--data-dir", tmp_path / "new" / name)
        assert code == 0, said
    async with trio(tmp_path / "new") as members:
        for one in members:
            assert (await one.status()).header.revision == revision
            assert [await contents(one.kv, at) for at in (200, 250, revision)] == wanted
        leases = (await members[0].lease.LeaseTimeToLive(pb.LeaseTimeToLiveRequest(ID=77, keys=True))).keys
        assert b"k/0" in leases
        assert await members[1].put(b"after", b"it") == revision + 1
    code, said = await tool("restore", file, "--data-dir", tmp_path / "new" / "a")
    assert (code, "is not empty" in said) == (1, True)
    assert not list(tmp_path.glob("*.part"))


async def test_what_is_no_backup_is_refused_with_its_name(tmp_path: Path) -> None:
    data = b"".join(bolt.Database({b"key": [], b"meta": []}))
    cases = {
        "short": (b"", "no checksum"),
        "spoilt": (data + hashlib.sha256(b"other").digest(), "SHA-256"),
        "other": (bytes(4096 * 3) + hashlib.sha256(bytes(4096 * 3)).digest(), "not a backup of etcd"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        code, said = await tool("restore", tmp_path / name, "--data-dir", tmp_path / "d")
        assert code == 1, said
        assert words in said, said
        assert str(tmp_path / name) in said
        assert "Traceback" not in said
        assert not (tmp_path / "d").exists()
    code, said = await tool("status", tmp_path / "nowhere")
    assert (code, "No such file" in said) == (1, True)
    port = free_ports(1)[0]
    code, said = await tool("save", tmp_path / "x", "--endpoints", f"127.0.0.1:{port}")
    assert (code, f"no backup from 127.0.0.1:{port}" in said) == (1, True)
    assert not list(tmp_path.glob("x*"))


async def hashes(channel: grpc.aio.Channel, revision: int) -> list[int]:
    """The hashes of the key space at several revisions."""
    stub = rpc.MaintenanceStub(channel)
    return [(await stub.HashKV(pb.HashKVRequest(revision=at))).hash for at in (revision - 60, revision - 1, revision)]


@pytest.mark.live
@pytest.mark.skipif(ETCDCTL is None, reason="etcdctl is not installed: apt-get install etcd-client")
async def test_real_etcd_takes_our_backup_and_we_take_its(tmp_path: Path) -> None:
    ctl = (ETCDCTL or "",)
    ours, theirs, restored = tmp_path / "ours.db", tmp_path / "theirs.db", tmp_path / "etcd"
    async with single(tmp_path) as member:
        await fill(member)
        revision = (await member.status()).header.revision
        wanted = [await contents(member.kv, at) for at in (200, 250, revision)]
        hashed = await hashes(member.channel, revision)
        assert (await tool("--endpoints", member.endpoint, "snapshot", "save", ours, program=ctl))[0] == 0
    # The same summary, hash included.
    code, said = await tool("snapshot", "status", ours, "-w", "json", program=ctl)
    assert code == 0, said
    assert json.loads((await tool("status", ours, "-w", "json"))[1]) == json.loads(said)
    peer = f"http://127.0.0.1:{free_ports(1)[0]}"
    flags = ("--data-dir", restored, "--initial-cluster", f"default={peer}", "--initial-advertise-peer-urls", peer)
    code, said = await tool("snapshot", "restore", ours, *flags, program=ctl)
    assert code == 0, said
    async with real_etcd(tmp_path, peer) as address, grpc.aio.insecure_channel(address) as channel:
        await Peer(channel).ready()
        kv = rpc.KVStub(channel)
        assert [await contents(kv, at) for at in (200, 250, revision)] == wanted
        assert await hashes(channel, revision) == hashed
        await kv.Put(pb.PutRequest(key=b"from", value=b"etcd"))
        assert (await tool("--endpoints", address, "snapshot", "save", theirs, program=ctl))[0] == 0
        wanted = await contents(kv, 0)
    code, said = await tool("restore", theirs, "--data-dir", tmp_path / "back" / "solo")
    assert code == 0, said
    async with single(tmp_path / "back") as member:
        assert (await member.status()).header.revision == revision + 1
        assert await contents(member.kv, 0) == wanted
