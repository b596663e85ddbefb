"""Several apiservers over one store, and a store that comes and goes."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.apiserver import harness
from tests.apiserver.conftest import make_namespace
from tests.apiserver.harness import Server, World, config_map, service
from tests.apiserver.streams import Stream

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", params=["etcdlite", "etcd"])
def three(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, list[Server]]]:
    if request.param == "etcd":
        import shutil

        if shutil.which("etcd") is None:
            pytest.skip("etcd is not installed")
    with harness.world(tmp_path_factory.mktemp("several"), request.param) as world:
        yield world, [world.start_server("--service-cluster-ip-range", "10.7.0.0/25") for _ in range(2)]


def test_a_counter_loses_no_increment(three):
    _, servers = three
    with servers[0].client() as admin:
        ns = make_namespace(admin)
        ns.create("configmaps", config_map("counter", n="0"))
    path = ns.path("configmaps", "counter")

    def count(which: int) -> int:
        done = 0
        with servers[which % 2].client() as client:
            while done < 20:
                obj = client.get(path).json()
                obj["data"]["n"] = str(int(obj["data"]["n"]) + 1)
                answer = client.put(path, json=obj)
                assert answer.status_code in (200, 409), answer.text
                done += answer.status_code == 200
        return done

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(count, range(8)))
    with servers[1].client() as client:
        assert int(client.get(path).json()["data"]["n"]) == total == 160


def test_patches_of_different_keys_all_land(three):
    _, servers = three
    with servers[0].client() as admin:
        ns = make_namespace(admin)
        ns.create("configmaps", config_map("shared"))
    path = ns.path("configmaps", "shared")

    def write(which: int) -> None:
        headers = {"content-type": "application/merge-patch+json"}
        with servers[which % 2].client() as client:
            for index in range(15):
                answer = client.patch(path, json={"data": {f"k{which}-{index}": "1"}}, headers=headers)
                assert answer.status_code == 200, answer.text

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with servers[0].client() as client:
        assert len(client.get(path).json()["data"]) == 90


def test_a_read_sees_what_was_written_through_another_server(three):
    _, servers = three
    with servers[0].client() as one, servers[1].client() as two:
        ns = make_namespace(one)
        for index in range(30):
            ns.create("configmaps", config_map(f"c{index}"))
            assert two.get(ns.path("configmaps", f"c{index}")).status_code == 200
            assert len(two.get(ns.path("configmaps")).json()["items"]) == index + 1


def test_addresses_and_ports_are_given_once_and_come_back(three):
    _, servers = three
    with servers[0].client() as admin:
        ns = make_namespace(admin)

        def create(which: int) -> dict:
            with servers[which % 2].client() as client:
                answer = client.post(ns.path("services"), json=service(f"s{which}", type="NodePort"))
                assert answer.status_code == 201, answer.text
                return answer.json()["spec"]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            made = list(pool.map(create, range(60)))
        addresses = [each["clusterIP"] for each in made]
        assert len(set(addresses)) == 60
        assert len({each["ports"][0]["nodePort"] for each in made}) == 60
        taken = admin.post(ns.path("services"), json=service("x", clusterIP=addresses[0]))
        assert taken.status_code == 422
        assert "provided IP is already allocated" in taken.json()["message"]
        outside = admin.post(ns.path("services"), json=service("x", clusterIP="10.9.9.9"))
        assert "is not in the valid range" in outside.json()["message"]
        record = admin.get(f"/apis/networking.k8s.io/v1/ipaddresses/{addresses[0]}").json()
        assert record["spec"]["parentRef"] == {"group": "", "resource": "services", "namespace": ns.name, "name": "s0"}

        # Two want the same address at once: one gets it.
        def same(which: int) -> int:
            with servers[which % 2].client() as client:
                return client.post(ns.path("services"), json=service(f"t{which}", clusterIP="10.7.0.3")).status_code

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(same, range(6))) == [201] + [422] * 5

        admin.delete(ns.path("services", "s0"))
        assert admin.get(f"/apis/networking.k8s.io/v1/ipaddresses/{addresses[0]}").status_code == 404
        assert admin.post(ns.path("services"), json=service("again", clusterIP=addresses[0])).status_code == 201
        headless = admin.post(ns.path("services"), json=service("h", clusterIP="None")).json()
        assert headless["spec"]["clusterIPs"] == ["None"]


def test_a_change_of_type_gives_and_takes(three):
    _, servers = three
    with servers[0].client() as admin:
        ns = make_namespace(admin)
        made = ns.create("services", service("s"))
        headers = {"content-type": "application/merge-patch+json"}
        wide = admin.patch(ns.path("services", "s"), json={"spec": {"type": "NodePort"}}, headers=headers).json()
        port = wide["spec"]["ports"][0]["nodePort"]
        assert wide["spec"]["clusterIP"] == made["spec"]["clusterIP"]
        narrow = admin.patch(ns.path("services", "s"), json={"spec": {"type": "ClusterIP"}}, headers=headers).json()
        assert "nodePort" not in narrow["spec"]["ports"][0]
        other = service("o", type="NodePort", ports=[{"port": 80, "nodePort": port}])
        assert admin.post(ns.path("services"), json=other).status_code == 201
        outside = service("u", type="NodePort", ports=[{"port": 80, "nodePort": 80}])
        assert "provided port is not in the valid range" in admin.post(ns.path("services"), json=outside).json()["message"]


def test_a_watch_on_one_server_goes_on_at_the_other(three):
    _, servers = three
    with servers[0].client() as one, servers[1].client() as two:
        ns = make_namespace(one)
        version = two.get(ns.path("configmaps")).json()["metadata"]["resourceVersion"]
        ns.create("configmaps", config_map("a"))
        ns.create("configmaps", config_map("b"))
        stream = Stream(one, ns.path("configmaps"), resourceVersion=version, timeoutSeconds="3")
        stream.wait(2)
        first = stream.events[0]["object"]["metadata"]["resourceVersion"]
        rest = Stream(two, ns.path("configmaps"), resourceVersion=first, timeoutSeconds="3")
        assert rest.wait(1) == [("ADDED", "b")]


def test_the_store_goes_and_comes_back(three):
    """Nothing acknowledged is lost, watches go on where they were, and meanwhile there is an answer."""
    world, servers = three
    with servers[0].client() as client:
        ns = make_namespace(client)
        version = ns.get("configmaps")["metadata"]["resourceVersion"]
        stream = Stream(client, ns.path("configmaps"), resourceVersion=version, timeoutSeconds="25")
        ns.create("configmaps", config_map("before"))
        stream.wait(1)
        assert world.store is not None
        world.store.kill()
        assert client.get("/livez").status_code == 500
        assert client.get("/readyz").status_code == 500
        began = time.monotonic()
        refused = client.post(ns.path("configmaps"), json=config_map("during"))
        assert refused.status_code in (500, 503, 504), refused.text
        assert refused.json()["kind"] == "Status"
        assert time.monotonic() - began < 20
        cached = client.get(ns.path("configmaps"), params={"resourceVersion": "0"})
        assert [each["metadata"]["name"] for each in cached.json()["items"]] == ["before"]
        # Who watches here would hear nothing, and cannot know it: there may be another apiserver that has a store.
        assert stream.ended.wait(30)
        watching = {"watch": "true", "resourceVersion": version}
        assert client.get(ns.path("configmaps"), params=watching).status_code == 503
        world.start_store()
        harness.wait_until(
            "writes are taken again",
            lambda: client.post(ns.path("configmaps"), json=config_map("after")).status_code in (201, 409),
        )
        harness.wait_until("it is ready again", lambda: client.get("/readyz").status_code == 200)
        seen = stream.events[-1]["object"]["metadata"]["resourceVersion"]
        again = Stream(client, ns.path("configmaps"), resourceVersion=seen)
        assert again.wait(1) == [("ADDED", "after")]
        assert client.get(ns.path("configmaps", "before")).status_code == 200


def test_a_server_that_is_told_to_stop_ends_its_watches_and_finishes_its_writes(three):
    world, _ = three
    server = world.start_server()
    with (
        server.client() as client,
        httpx.Client(base_url=server.url, verify=client._transport._pool._ssl_context, timeout=20) as writer,
    ):
        ns = make_namespace(client)
        version = ns.get("configmaps")["metadata"]["resourceVersion"]
        stream = Stream(client, ns.path("configmaps"), resourceVersion=version)
        acknowledged: list[str] = []

        def write() -> None:
            for index in range(10_000):
                try:
                    answer = writer.post(ns.path("configmaps"), json=config_map(f"c{index}"))
                except httpx.HTTPError:
                    return
                if answer.status_code == 201:
                    acknowledged.append(f"c{index}")

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(write)
            harness.wait_until("writes are going on", lambda: len(acknowledged) > 20)
            began = time.monotonic()
            assert server.daemon.stop() == 0
            assert time.monotonic() - began < 8
            running.result(timeout=10)
        assert stream.ended.wait(5)
    with world.servers[0].client() as other:
        found = {each["metadata"]["name"] for each in other.get(ns.path("configmaps")).json()["items"]}
    assert set(acknowledged) <= found


def test_a_watch_goes_on_where_it_was_at_a_server_that_was_started_anew(three):
    world, servers = three
    with servers[0].client() as old:
        ns = make_namespace(old)
        version = ns.get("configmaps")["metadata"]["resourceVersion"]
        for name in ("a", "b"):
            ns.create("configmaps", config_map(name))
        old.delete(ns.path("configmaps", "a"))
        server = world.start_server()
        with server.client() as fresh:
            stream = Stream(fresh, ns.path("configmaps"), resourceVersion=version, timeoutSeconds="3")
            assert stream.wait(3) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
        server.daemon.stop()
