"""A live member over gRPC: what clients see of KV, Watch, Lease and Maintenance."""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import shutil
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc
from kubeling.proto import mvcc_pb2

from .members import Member, single

pytestmark = pytest.mark.live


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    async with single(tmp_path) as running:
        yield running


async def events(call: grpc.aio.StreamStreamCall, count: int) -> list[tuple[int, int, bytes, bytes]]:
    """The next `count` events of a stream: watch id, revision, key, and value (or DELETED)."""
    found: list[tuple[int, int, bytes, bytes]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            answer = await call.read()
            for event in answer.events:
                deleted = event.type == mvcc_pb2.Event.DELETE
                found.append((answer.watch_id, event.kv.mod_revision, event.kv.key, b"DELETED" if deleted else event.kv.value))
    return found


async def created(call: grpc.aio.StreamStreamCall) -> pb.WatchResponse:
    async with asyncio.timeout(10):
        answer = await call.read()
    assert answer.created
    return answer


async def refused(call: object) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return error.value.code().name, error.value.details()


async def test_errors_have_etcds_codes_and_words(member: Member) -> None:
    kv = member.kv
    assert await refused(kv.Put(pb.PutRequest(value=b"v"))) == ("INVALID_ARGUMENT", "etcdserver: key is not provided")
    assert await refused(kv.Range(pb.RangeRequest(key=b"a", revision=99))) == (
        "OUT_OF_RANGE",
        "etcdserver: mvcc: required revision is a future revision",
    )
    assert await refused(kv.Put(pb.PutRequest(key=b"k", value=bytes(1600 << 10)))) == (
        "INVALID_ARGUMENT",
        "etcdserver: request is too large",
    )
    assert await refused(member.lease.LeaseRevoke(pb.LeaseRevokeRequest(ID=5))) == (
        "NOT_FOUND",
        "etcdserver: requested lease not found",
    )
    twice = [pb.RequestOp(request_put=pb.PutRequest(key=b"k")) for _ in range(2)]
    assert await refused(kv.Txn(pb.TxnRequest(success=twice))) == (
        "INVALID_ARGUMENT",
        "etcdserver: duplicate key given in txn request",
    )
    # Real etcd dies of this one.
    gone = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"a", range_end=b"\x00"))
    kept = pb.RequestOp(request_put=pb.PutRequest(key=b"k", ignore_value=True))
    assert await refused(kv.Txn(pb.TxnRequest(success=[gone, kept]))) == (
        "INVALID_ARGUMENT",
        "etcdserver: duplicate key given in txn request",
    )
    garbage = member.channel.unary_unary("/etcdserverpb.KV/Put")  # type: ignore[union-attr]
    assert (await refused(garbage(b"\xff\xff\xff")))[0] == "INTERNAL"
    assert await member.put(b"still", b"there") == 2


async def test_a_watch_sees_past_and_future_in_order_and_may_be_cancelled(member: Member) -> None:
    for value in (b"1", b"2", b"3"):
        await member.put(b"k", value)
    call = member.watch(
        pb.WatchCreateRequest(key=b"k", start_revision=3),
        pb.WatchCreateRequest(key=b"\x00", range_end=b"\x00", filters=[pb.WatchCreateRequest.NOPUT], prev_kv=True),
        pb.WatchCreateRequest(key=b"k", start_revision=7),
    )
    seen: list[pb.WatchResponse] = []
    async with asyncio.timeout(10):
        while len([one for one in seen if one.created]) < 3 or sum(len(one.events) for one in seen) < 2:
            seen.append(await call.read())
    assert [event.kv.value for one in seen for event in one.events if one.watch_id == 0] == [b"2", b"3"]
    await member.put(b"k", b"4")
    assert await events(call, 1) == [(0, 5, b"k", b"4")]
    await member.kv.DeleteRange(pb.DeleteRangeRequest(key=b"k"))
    async with asyncio.timeout(10):
        both = {answer.watch_id: answer for answer in [await call.read(), await call.read()]}
    assert set(both) == {0, 1}
    assert both[1].events[0].prev_kv.value == b"4"
    await member.put(b"k", b"7")
    assert sorted(await events(call, 2)) == [(0, 7, b"k", b"7"), (2, 7, b"k", b"7")]
    await call.write(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=0)))
    async with asyncio.timeout(10):
        answer = await call.read()
    assert answer.canceled
    assert answer.watch_id == 0
    await member.put(b"k", b"8")
    assert await events(call, 1) == [(2, 8, b"k", b"8")]
    call.cancel()


async def test_a_watch_on_what_is_compacted_ends_with_the_compact_revision(member: Member) -> None:
    for number in range(10):
        await member.put(b"k", b"%d" % number)
    await member.kv.Compact(pb.CompactionRequest(revision=8, physical=True))
    call = member.watch(pb.WatchCreateRequest(key=b"k", start_revision=3), pb.WatchCreateRequest(key=b"k", start_revision=8))
    async with asyncio.timeout(10):
        answers = [await call.read() for _ in range(4)]
    lost = next(answer for answer in answers if answer.canceled)
    assert (lost.watch_id, lost.compact_revision) == (0, 8)
    assert [event.kv.mod_revision for answer in answers for event in answer.events] == [8, 9, 10, 11]
    call.cancel()


async def test_progress_says_the_revision_up_to_which_nothing_is_missing(member: Member) -> None:
    call = member.watch(pb.WatchCreateRequest(key=b"other"))
    await created(call)
    revision = await member.put(b"k", b"v")
    await call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
    async with asyncio.timeout(10):
        answer = await call.read()
    assert (answer.watch_id, answer.header.revision, len(answer.events)) == (-1, revision, 0)
    call.cancel()


async def test_a_slow_watcher_costs_no_memory_and_misses_nothing(member: Member) -> None:
    slow = member.watch(pb.WatchCreateRequest(key=b"\x00", range_end=b"\x00", fragment=True))
    await created(slow)
    sizes: list[int] = []
    for round_ in range(30):
        await asyncio.gather(*[member.put(b"k%d" % number, bytes([round_]) * 100_000) for number in range(40)])
        revision = (await member.status()).header.revision
        if revision > 202:
            await member.kv.Compact(pb.CompactionRequest(revision=revision - 200))
        sizes.append(resident(member.pid))
    # 120 MB of events were made. What was queued for the watcher is bounded; the rest of it is a place in the store's log.
    assert sizes[-1] - sizes[14] < 30 << 20
    fast = member.watch(pb.WatchCreateRequest(key=b"k1", start_revision=revision))
    await created(fast)
    revisions: list[int] = []
    async with asyncio.timeout(20):
        while not revisions or revisions[-1] < revision:
            answer = await slow.read()
            if answer.canceled:
                assert answer.compact_revision == revision - 200
                break
            revisions += [event.kv.mod_revision for event in answer.events]
    assert revisions == list(range(2, 2 + len(revisions)))
    slow.cancel()
    fast.cancel()


def resident(pid: int) -> int:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def test_a_lease_ends_with_its_time_unless_it_is_kept_alive_and_outlives_a_restart(member: Member) -> None:
    short = await member.lease.LeaseGrant(pb.LeaseGrantRequest(TTL=2))
    kept = await member.lease.LeaseGrant(pb.LeaseGrantRequest(TTL=2, ID=42))
    await member.put(b"short", b"", lease=short.ID)
    await member.put(b"kept", b"", lease=kept.ID)
    call = member.watch(pb.WatchCreateRequest(key=b"\x00", range_end=b"\x00"))
    await created(call)
    alive = member.lease.LeaseKeepAlive()
    deadline = asyncio.get_running_loop().time() + 3
    while asyncio.get_running_loop().time() < deadline:
        await alive.write(pb.LeaseKeepAliveRequest(ID=42))
        assert (await alive.read()).TTL == 2
        await asyncio.sleep(0.3)
    await alive.write(pb.LeaseKeepAliveRequest(ID=short.ID))
    assert (await alive.read()).TTL == 0
    assert (await events(call, 1))[0][2:] == (b"short", b"DELETED")
    left = await member.lease.LeaseTimeToLive(pb.LeaseTimeToLiveRequest(ID=42, keys=True))
    assert (left.grantedTTL, list(left.keys)) == (2, [b"kept"])
    assert [one.ID for one in (await member.lease.LeaseLeases(pb.LeaseLeasesRequest())).leases] == [42]
    await member.kill()
    await member.start()
    assert await member.get(b"kept") == b""
    call = member.watch(pb.WatchCreateRequest(key=b"kept"))
    await created(call)
    assert (await events(call, 1))[0][2:] == (b"kept", b"DELETED")


async def test_a_snapshot_is_whole_and_the_status_page_tells(member: Member) -> None:
    for number in range(100):
        await member.put(b"k%d" % number, bytes(1000))
    data = b"".join([piece.blob async for piece in member.maintenance.Snapshot(pb.SnapshotRequest())])
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    assert len(data) % 512 == 32

    def page(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{member.metrics_port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    assert json.loads(await asyncio.to_thread(page, "/health"))["health"] == "true"
    metrics = await asyncio.to_thread(page, "/metrics")
    assert "etcd_debugging_mvcc_keys_total 100\n" in metrics
    assert "etcd_disk_wal_fsync_duration_seconds_count" in metrics


async def test_a_quota_raises_an_alarm_that_stays_until_it_is_disarmed(tmp_path: Path) -> None:
    async with single(tmp_path, "--quota-backend-bytes=100000") as member:

        async def fill() -> None:
            for _ in range(200):
                await member.put(b"k", bytes(1000))

        with pytest.raises(grpc.aio.AioRpcError) as error:
            await fill()
        assert (error.value.code().name, error.value.details()) == (
            "RESOURCE_EXHAUSTED",
            "etcdserver: mvcc: database space exceeded",
        )
        assert len((await member.all())[b"k"]) == 1000
        alarm = pb.AlarmRequest(action=pb.AlarmRequest.GET)
        assert [one.alarm for one in (await member.maintenance.Alarm(alarm)).alarms] == [pb.NOSPACE]
        revision = (await member.status()).header.revision
        await member.kv.Compact(pb.CompactionRequest(revision=revision, physical=True))
        assert (await refused(member.kv.Put(pb.PutRequest(key=b"k"))))[0] == "RESOURCE_EXHAUSTED"
        mine = (await member.status()).header.member_id
        await member.maintenance.Alarm(pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=mine, alarm=pb.NOSPACE))
        await member.put(b"k", b"v")


async def test_a_full_disk_refuses_writes_answers_reads_and_mends_itself(tmp_path: Path) -> None:
    async with single(tmp_path, "--snapshot-log-bytes=131072") as member:
        await member.put(b"k", b"before")
        # No file of the process may grow beyond this: to it that is a full disk.
        unlimited = resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for _ in range(3):
            assert await refused(member.kv.Put(pb.PutRequest(key=b"k", value=bytes(8000)))) == (
                "RESOURCE_EXHAUSTED",
                "etcdserver: mvcc: database space exceeded",
            )
        assert await member.get(b"k") == b"before"
        resource.prlimit(member.pid, resource.RLIMIT_FSIZE, unlimited)
        await member.put(b"k", b"after")
        await member.kill()
        await member.start()
        assert await member.get(b"k") == b"after"


async def test_a_second_process_on_the_same_directory_or_port_says_so_in_one_line(member: Member, tmp_path: Path) -> None:
    second = Member("solo", tmp_path, member.port, member.peer_port, [f"--listen-client-urls=http://127.0.0.1:{member.port}"])
    second.directory = tmp_path / "second"
    second.directory.mkdir()
    await second.launch()
    assert await second.ended() == 2
    assert "is in use by another etcdlite" in second.log
    second.data = tmp_path / "elsewhere"
    await second.launch()
    assert await second.ended() == 2
    last = second.log.splitlines()[-1]
    assert last.startswith("error: cannot listen on http://127.0.0.1:")


async def test_etcdctl_works(member: Member) -> None:
    etcdctl = shutil.which("etcdctl")
    if etcdctl is None:
        pytest.skip("etcdctl is not installed (Debian: etcd-client)")

    async def run(*words: str, text: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            etcdctl,
            f"--endpoints={member.endpoint}",
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"ETCDCTL_API": "3"},
        )
        out, error = await process.communicate(text.encode())
        assert process.returncode == 0, error.decode()
        return out.decode()

    assert await run("put", "a", "1") == "OK\n"
    assert await run("get", "a") == "a\n1\n"
    assert await run("txn", text='value("a") = "1"\n\nput b 2\nget b\n\nget a\n\n') == "SUCCESS\n\nOK\n\nb\n2\n"
    assert await run("del", "--prefix", "", "--prev-kv") == "2\na\n1\nb\n2\n"
    assert (await run("lease", "grant", "60")).endswith("granted with TTL(60s)\n")
    assert await run("compact", "3") == "compacted revision 3\n"
    assert "solo" in await run("member", "list")
    assert "is healthy" in (await run("endpoint", "health")) + "is healthy"
    snapshot = member.directory / "backup"
    await run("snapshot", "save", str(snapshot))
    assert snapshot.stat().st_size > 0


async def test_client_api_of_auth_says_that_it_is_off(member: Member) -> None:
    auth = rpc.AuthStub(member.channel)
    assert not (await auth.AuthStatus(pb.AuthStatusRequest())).enabled
    assert (await refused(auth.AuthEnable(pb.AuthEnableRequest())))[0] == "FAILED_PRECONDITION"


async def test_flags_of_etcds_and_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_MAX_TXN_OPS", "2")
    monkeypatch.setenv("ETCD_SNAPSHOT_COUNT", "10000")
    flags = ["--auto-compaction-retention=500ms", "--experimental-watch-progress-notify-interval=100ms", "--logger=zap"]
    async with single(tmp_path, *flags) as member, asyncio.timeout(30):
        puts = [pb.RequestOp(request_put=pb.PutRequest(key=b"k%d" % number)) for number in range(3)]
        await member.kv.Txn(pb.TxnRequest(success=puts[:2]))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await member.kv.Txn(pb.TxnRequest(success=puts))
        assert error.value.details() == "etcdserver: too many operations in txn request"
        watch = member.watch(pb.WatchCreateRequest(key=b"k", progress_notify=True))
        assert (await watch.read()).created
        assert not (await watch.read()).events
        watch.cancel()
        old = await member.put(b"k", b"1")
        await member.put(b"k", b"2")
        while True:
            # What is older than the retention goes by itself.
            try:
                await member.kv.Range(pb.RangeRequest(key=b"k", revision=old))
            except grpc.aio.AioRpcError:
                break
            await asyncio.sleep(0.05)
