"""Two apiservers over three members of the store, of which one after the other is killed or frozen."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.apiserver import harness
from tests.apiserver.harness import Daemon, World, config_map, wait_until
from tests.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.slow]


@dataclass
class Members:
    """Three members of etcdlite."""

    world: World
    argv: list[tuple[str, ...]]
    daemons: list[Daemon]

    def start(self, index: int) -> None:
        self.daemons[index] = harness.spawn(self.world.folder / f"m{index}.log", *self.argv[index])


def three_members(world: World, folder: Path) -> Members:
    ports = [(free_port(), free_port()) for _ in range(3)]
    cluster = ",".join(f"m{index}=http://127.0.0.1:{peer}" for index, (_, peer) in enumerate(ports))
    argv = []
    for index, (client, peer) in enumerate(ports):
        urls = (f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}")
        flags = ("--name", f"m{index}", "--data-dir", str(folder / f"data{index}"), "--initial-cluster", cluster)
        flags += ("--listen-client-urls", urls[0], "--advertise-client-urls", urls[0])
        flags += ("--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1])
        argv.append((sys.executable, "-m", "kubeling.etcdlite", *flags))
    world.store_url = ",".join(f"http://127.0.0.1:{client}" for client, _ in ports)
    daemons = [harness.spawn(folder / f"m{index}.log", *each) for index, each in enumerate(argv)]
    return Members(world, argv, daemons)


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    with harness.world(tmp_path) as world:
        assert world.store is not None
        world.store.stop()
        found = three_members(world, tmp_path)
        try:
            for _ in range(2):
                world.start_server()
            yield found
        finally:
            for server in world.servers:
                server.daemon.stop()
            for daemon in found.daemons:
                daemon.kill()


def test_nothing_acknowledged_is_lost_and_nobody_waits_long(members: Members):
    world = members.world
    acknowledged: list[str] = []
    gaps: list[float] = []
    stop = threading.Event()

    def write(which: int) -> None:
        with world.servers[which % 2].client() as client:
            last, number = time.monotonic(), 0
            while not stop.is_set():
                number += 1
                try:
                    answer = client.post("/api/v1/namespaces/default/configmaps", json=config_map(f"c{which}-{number}"))
                except httpx.HTTPError:
                    continue
                if answer.status_code == 201:
                    acknowledged.append(f"c{which}-{number}")
                    gaps.append(time.monotonic() - last)
                    last = time.monotonic()

    threads = [threading.Thread(target=write, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for index in range(3):
        before = len(acknowledged)
        wait_until("writes are going on", lambda before=before: len(acknowledged) > before + 50)
        members.daemons[index].kill()
        before = len(acknowledged)
        wait_until("writes go on without it", lambda before=before: len(acknowledged) > before + 50)
        members.start(index)
        time.sleep(2)  # Let it catch up: two at a time would be too many for three.
    stop.set()
    for thread in threads:
        thread.join()
    for server in world.servers:
        with server.client() as client:
            found = {each["metadata"]["name"] for each in client.get("/api/v1/namespaces/default/configmaps").json()["items"]}
        assert set(acknowledged) <= found
    assert max(gaps) < 10


def test_a_frozen_member_is_left(members: Members):
    with members.world.servers[0].client() as client:
        for index in range(3):
            os.kill(members.daemons[index].process.pid, signal.SIGSTOP)
            try:
                name = f"f{index}"
                assert client.post("/api/v1/namespaces/default/configmaps", json=config_map(name)).status_code == 201
                names = [each["metadata"]["name"] for each in client.get("/api/v1/namespaces/default/configmaps").json()["items"]]
                assert name in names
            finally:
                os.kill(members.daemons[index].process.pid, signal.SIGCONT)
            time.sleep(1)  # As above.
