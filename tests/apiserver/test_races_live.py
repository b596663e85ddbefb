"""Three apiservers over one store, and fifty clients that want the same things at once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from tests.apiserver import harness
from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import Server, config_map, service
from tests.apiserver.plain import APPLY, JSON_PATCH, MERGE, Plain, tls_of

pytestmark = pytest.mark.live
CLIENTS = 50


class Three:
    """The servers, and fifty clients spread over them."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self._tls: SSLContext = tls_of(servers[0])

    def namespace(self) -> Namespace:
        with self.servers[0].client() as admin:
            made = make_namespace(admin)
        return Namespace(admin, made.name)

    def client(self, which: int = 0) -> Plain:
        return Plain(self.servers[which % len(self.servers)], self._tls)

    def all_at_once(self, work: Callable[[int, Plain], Any]) -> list[Any]:
        """`work(number, client)` for each client; what they return, in their order."""
        start = threading.Barrier(CLIENTS)

        def run(which: int) -> Any:
            with self.client(which) as client:
                client("GET", "/version")  # Connected before it begins.
                start.wait(60)
                return work(which, client)

        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(run, range(CLIENTS)))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    folder: Path = tmp_path_factory.mktemp("races")
    flags = ("--service-cluster-ip-range", "10.7.0.0/25", "--service-node-port-range", "30000-30039")
    with harness.world(folder) as world:
        yield Three([world.start_server(*flags) for _ in range(3)])


def _put(client: Plain, path: str, which: int) -> int:
    """Read, add one, write on the condition that nobody else has; again until it holds. How often it did not."""
    lost = 0
    while True:
        _, obj = client("GET", path)
        obj["data"]["n"] = str(int(obj["data"]["n"]) + 1)
        status, answer = client("PUT", path, obj)
        if status == 200:
            return lost
        assert (status, answer["reason"]) == (409, "Conflict"), answer
        lost += 1


def _test_and_patch(client: Plain, path: str, which: int) -> int:
    lost = 0
    while True:
        _, obj = client("GET", path)
        seen = obj["data"]["n"]
        patch = [
            {"op": "test", "path": "/data/n", "value": seen},
            {"op": "replace", "path": "/data/n", "value": str(int(seen) + 1)},
        ]
        status, answer = client("PATCH", path, patch, JSON_PATCH)
        if status == 200:
            return lost
        assert status == 422, answer
        lost += 1


def _merge_with_version(client: Plain, path: str, which: int) -> int:
    lost = 0
    while True:
        _, obj = client("GET", path)
        version, count = obj["metadata"]["resourceVersion"], int(obj["data"]["n"])
        patch = {"metadata": {"resourceVersion": version}, "data": {"n": str(count + 1)}}
        status, answer = client("PATCH", path, patch, MERGE)
        if status == 200:
            return lost
        assert (status, answer["reason"]) == (409, "Conflict"), answer
        lost += 1


def test_fifty_clients_lose_no_update(three: Three):
    """Counters, raised by compare-and-set in three ways at once."""
    ns = three.namespace()
    paths = [ns.path("configmaps", f"c{at}") for at in range(5)]
    with three.client() as client:
        for at in range(5):
            assert client("POST", ns.path("configmaps"), config_map(f"c{at}", n="0"))[0] == 201
    ways = (_put, _test_and_patch, _merge_with_version)
    rounds = 4

    def work(which: int, client: Plain) -> int:
        source = random.Random(which)
        return sum(ways[which % 3](client, source.choice(paths), which) for _ in range(rounds))

    lost = sum(three.all_at_once(work))
    for server in range(3):
        with three.client(server) as client:
            total = sum(int(client("GET", path)[1]["data"]["n"]) for path in paths)
            assert total == CLIENTS * rounds
    assert lost > 0, "they never met: this has shown nothing"


def test_what_needs_no_comparison_needs_no_second_try(three: Three):
    """Merge patches and applies of different keys of one object: the server repeats them by itself, none is refused, none is lost."""
    ns = three.namespace()
    with three.client() as client:
        assert client("POST", ns.path("configmaps"), config_map("shared"))[0] == 201
    path = ns.path("configmaps", "shared")

    def work(which: int, client: Plain) -> None:
        for at in range(2):
            name = f"k{which}-{at}"
            if which % 2:
                status, answer = client("PATCH", path, {"data": {name: "1"}}, MERGE)
            else:
                mine = {f"k{which}-{each}": "1" for each in range(at + 1)}
                status, answer = client("PATCH", f"{path}?fieldManager=m{which}", config_map("shared", **mine), APPLY)
            assert status == 200, str(answer)

    three.all_at_once(work)
    with three.client(1) as client:
        found = client("GET", path)[1]
    assert set(found["data"]) == {f"k{which}-{at}" for which in range(CLIENTS) for at in range(2)}
    appliers = {each["manager"] for each in found["metadata"]["managedFields"] if each["operation"] == "Apply"}
    assert appliers == {f"m{which}" for which in range(0, CLIENTS, 2)}


def test_a_name_is_given_once(three: Three):
    """Ten names that all want, and as many as they like that the servers make up: generateName never gives one that is taken."""
    ns = three.namespace()

    def work(which: int, client: Plain) -> tuple[list[str], list[str]]:
        won = []
        for at in random.Random(which).sample(range(10), 10):
            status, answer = client("POST", ns.path("configmaps"), config_map(f"same-{at}", by=str(which)))
            assert status in (201, 409), answer
            if status == 201:
                won.append(answer["metadata"]["uid"])
            else:
                assert answer["reason"] == "AlreadyExists"
        made = []
        for _ in range(4):
            body = {"metadata": {"generateName": "made-"}, "data": {"by": str(which)}}
            status, answer = client("POST", ns.path("configmaps"), body)
            assert status == 201, answer
            made.append(answer["metadata"]["name"])
        return won, made

    results = three.all_at_once(work)
    won = [uid for each, _ in results for uid in each]
    made = [name for _, each in results for name in each]
    assert len(won) == len(set(won)) == 10
    assert len(made) == len(set(made)) == 4 * CLIENTS
    with three.client(2) as client:
        items = client("GET", ns.path("configmaps"))[1]["items"]
    assert {each["metadata"]["uid"] for each in items if each["metadata"]["name"].startswith("same-")} == set(won)
    assert {each["metadata"]["name"] for each in items} >= set(made)


def test_a_deleted_object_is_deleted_by_one(three: Three):
    """Fifty delete the same ten, each on the condition of its uid: each goes once, and one made anew under its name stays."""
    ns = three.namespace()
    uids = []
    with three.client() as client:
        for at in range(10):
            uids.append(client("POST", ns.path("configmaps"), config_map(f"d{at}"))[1]["metadata"]["uid"])

    def work(which: int, client: Plain) -> list[int]:
        gone = []
        for at in range(10):
            options = {"preconditions": {"uid": uids[at]}}
            status, answer = client("DELETE", ns.path("configmaps", f"d{at}"), options)
            assert status in (200, 404, 409), answer
            if status == 200:
                gone.append(at)
                assert client("POST", ns.path("configmaps"), config_map(f"d{at}", new="1"))[0] == 201
        return gone

    gone = [at for each in three.all_at_once(work) for at in each]
    assert sorted(gone) == list(range(10))
    with three.client(1) as client:
        items = client("GET", ns.path("configmaps"))[1]["items"]
    assert sum(each.get("data") == {"new": "1"} for each in items) == 10


def test_an_address_and_a_port_have_one_owner_at_a_time(three: Three):
    """Services come and go in a range that is nearly full (forty ports). At no time do two have the same address or port, and in the end all are free."""
    ns = three.namespace()
    held: list[tuple[str, float, float]] = []
    lock = threading.Lock()

    def work(which: int, client: Plain) -> Counter[str]:
        source = random.Random(which)
        seen: Counter[str] = Counter()
        for at in range(3):
            name = f"s{which}-{at}"
            spec: dict[str, Any] = {"type": "NodePort"} if which % 2 else {}
            if source.random() < 0.3:
                spec["clusterIP"] = f"10.7.0.{source.randrange(2, 12)}"
            status, answer = client("POST", ns.path("services"), service(name, **spec))
            began = time.monotonic()
            if status != 201:
                full = "range is full" in answer["message"]
                assert full or (status == 422 and "already allocated" in answer["message"]), answer
                seen["full" if full else "taken"] += 1
                continue
            spec = answer["spec"]
            keys = [spec["clusterIP"], *(str(port["nodePort"]) for port in spec["ports"] if port.get("nodePort"))]
            time.sleep(source.random() * 0.02)  # Have it for a while.
            ended = time.monotonic()
            status, answer = client("DELETE", ns.path("services", name))
            assert status == 200, str(answer)
            with lock:
                held.extend((key, began, ended) for key in keys)
            seen["made"] += 1
        return seen

    total: Counter[str] = Counter()
    for each in three.all_at_once(work):
        total += each
    assert total["made"] > CLIENTS
    held.sort()
    for (one, _, ended), (other, began, _) in pairwise(held):
        assert one != other or ended <= began, f"{one} was given to two at once"
    with three.client(1) as client:
        left = client("GET", "/apis/networking.k8s.io/v1/ipaddresses")[1]["items"]
        names = {each["spec"]["parentRef"]["namespace"] for each in left}
        assert ns.name not in names
        # All forty ports can be had again, and no more.
        statuses = [client("POST", ns.path("services"), service(f"p{at}", type="NodePort"))[0] for at in range(41)]
        assert statuses[:40] == [201] * 40
        assert statuses[40] != 201


def test_a_service_that_changes_its_type_under_many_hands_leaks_nothing(three: Three):
    """Twenty Services turned to and fro between ClusterIP and NodePort by all: in the end each port in use is that of a Service."""
    ns = three.namespace()
    with three.client() as client:
        for each in client("GET", "/api/v1/services")[1]["items"]:
            metadata = each["metadata"]
            if metadata["name"] != "kubernetes":
                client("DELETE", f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}")
        for at in range(20):
            assert client("POST", ns.path("services"), service(f"t{at}"))[0] == 201

    def work(which: int, client: Plain) -> None:
        source = random.Random(which)
        for _ in range(3):
            kind = source.choice(("ClusterIP", "NodePort"))
            path = ns.path("services", f"t{source.randrange(20)}")
            status, answer = client("PATCH", path, {"spec": {"type": kind}}, MERGE)
            assert status == 200, str(answer)

    three.all_at_once(work)
    with three.client(1) as client:
        items = client("GET", ns.path("services"))[1]["items"]
        ports = [port["nodePort"] for each in items for port in each["spec"]["ports"] if port.get("nodePort")]
        assert len(ports) == len(set(ports))
        for each in items:
            assert client("DELETE", ns.path("services", each["metadata"]["name"]))[0] == 200
        # Not one port got lost on the way.
        assert [client("POST", ns.path("services"), service(f"p{at}", type="NodePort"))[0] for at in range(40)] == [201] * 40
