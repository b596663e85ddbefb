"""The load generator of bench/etcd counts what it should: it is a second client, which knows HTTP/2 and no gRPC library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubeling.bench.etcd import calls, servers, throughput, volume, watches
from kubeling.bench.etcd.h2 import Failed, Unary, header_blocks
from kubeling.proto import etcd_pb2 as pb


@pytest.fixture(scope="module", params=servers.COMMANDS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Cluster]:
    if request.param not in servers.available():
        pytest.skip(f"{request.param} is not installed")
    cluster = servers.Cluster(request.param, tmp_path_factory.mktemp("bench") / "data", 1)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def ask(cluster: servers.Cluster, path: str, request: bytes) -> bytes:
    call = Unary(cluster.urls[0], path)
    try:
        return call(request)
    finally:
        call.close()


def test_every_request_that_is_counted_was_done(cluster: servers.Cluster) -> None:
    before = calls.revision(cluster.urls[0])
    loop = throughput.ClosedLoop(cluster.urls, calls.PUT, calls.puts(range(50), 256), 16).run(0, total=400)
    assert loop.failed == 0
    assert 0 < loop.p50 <= loop.p99
    assert calls.revision(cluster.urls[0]) - before >= 400
    page = pb.RangeResponse.FromString(
        ask(cluster, calls.RANGE, pb.RangeRequest(key=calls.key(0), range_end=b"\0").SerializeToString())
    )
    assert [kv.key for kv in page.kvs] == [calls.key(number) for number in range(50)]
    assert {kv.value for kv in page.kvs} == {calls.value(256)}


def test_what_is_refused_is_not_counted_as_done(cluster: servers.Cluster) -> None:
    with pytest.raises(Failed):
        ask(cluster, calls.PUT, pb.PutRequest().SerializeToString())


def test_fan_out_hears_every_watcher_and_snapshots_come_whole(cluster: servers.Cluster) -> None:
    told = watches.fan_out(cluster.urls[0], watchers=60, connections=3, events=5)
    assert 0 < told.p50 <= told.p99
    assert throughput.keep_alives(cluster.urls[0], 4, 0.2).rate > 0
    volume.write_gaps(cluster, keys=50, size=256, seconds=1)


def test_the_three_header_blocks_say_the_same() -> None:
    path, authority = b"/etcdserverpb.KV/Put", b"127.0.0.1:2379"
    first, later, plain = header_blocks(path, authority)
    for block in (first, plain):
        assert path in block
        assert authority in block
    # Both fixed fields, then the four entries that the first block made, the oldest with the highest number.
    assert later == bytes([0x83, 0x86, 0xC1, 0xC0, 0xBF, 0xBE])


def test_too_much_for_one_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        throughput.ClosedLoop([], calls.PUT, calls.puts(range(1), 8192), 64)
