"""The load generator of bench/api measures what it says: its requests are served, all of them, and a change reaches each watcher."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubeling.bench.api import objects, watches
from kubeling.bench.api.load import Clients
from kubeling.bench.api.run import QUICK, Bench
from kubeling.bench.api.servers import OURS, Server
from kubeling.bench.api.wire import Failed, fetch, request
from kubeling.bench.etcd.results import Results

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Server]]:
    server = Server(OURS, tmp_path_factory.mktemp("bench") / "server")
    try:
        server.start()
        made = Bench(QUICK, server, Results([OURS], {}), lambda line: None)
        made.prepare()
        yield made, server
    finally:
        server.stop()


def test_every_verb_is_served(bench: tuple[Bench, Server]):
    made, server = bench
    clients = Clients(server, 4)
    try:
        for make in (
            objects.gets(10),
            objects.creates("creates", "x"),
            objects.updates(10, made.stored),
            objects.patches(10),
            objects.applies(10),
            objects.lists(objects.NAMESPACE),
        ):
            loop = clients.run(make, 0, total=40)
            assert loop.failed == 0
            assert 0 < loop.p50 <= loop.p99
        found = clients.run(objects.gets(10), 0.2)
        assert found.rate > 0
        assert 0.0005 < found.megabytes < 0.01
        assert clients.run(objects.numbered("GET", "/api/v1/namespaces/bench/pods/nobody"), 0, total=3).failed == 3
    finally:
        clients.close()


def test_a_change_reaches_each_watcher(bench: tuple[Bench, Server]):
    told = watches.fan_out(bench[1], watchers=20, events=5)
    assert 0 < told.p50 <= told.p99
    with pytest.raises(Failed):
        fetch(bench[1].url, bench[1].tls, request("GET", "/nowhere"))
