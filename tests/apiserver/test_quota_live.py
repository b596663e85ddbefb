"""ResourceQuota and LimitRange at live apiservers."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

import pytest

from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import Obj, config_map, pod, service

pytestmark = pytest.mark.live


def make_quota(ns: Namespace, name: str = "q", used: Obj | None = None, **hard: str) -> None:
    """A quota with the status that the controller would give it."""
    named = {key.replace("__", "/").replace("_", "."): value for key, value in hard.items()}
    ns.create("resourcequotas", {"metadata": {"name": name}, "spec": {"hard": named}})
    status = {"hard": named, "used": {**dict.fromkeys(named, "0"), **(used or {})}}
    patch = ns.http.patch(
        ns.path("resourcequotas", name) + "/status",
        json={"status": status},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert patch.status_code == 200, patch.text


def used_of(ns: Namespace, name: str = "q") -> Obj:
    return ns.get("resourcequotas", name)["status"]["used"]


def sized(name: str, **resources: Obj) -> Obj:
    made = pod(name)
    made["spec"]["containers"][0]["resources"] = resources
    return made


def test_a_quota_is_charged_with_what_is_created_and_with_nothing_else(ns):
    make_quota(ns, pods="2", requests_cpu="1", count__configmaps="1")
    ns.create("pods", sized("a", requests={"cpu": "600m"}))
    assert used_of(ns) == {"pods": "1", "requests.cpu": "600m", "count/configmaps": "0"}
    message = ns.create("pods", sized("b", requests={"cpu": "500m"}), status=403)
    assert message["message"] == (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1'
    )
    assert message["reason"] == "Forbidden"
    message = ns.create("pods", pod("c"), status=403)["message"]
    assert message == 'pods "c" is forbidden: failed quota: q: must specify requests.cpu for: c'
    # What does not come about is not charged: a name that is taken, a dry run, an invalid object.
    ns.create("pods", sized("a", requests={"cpu": "100m"}), status=409)
    answer = ns.http.post(ns.path("pods"), json=sized("d", requests={"cpu": "100m"}), params={"dryRun": "All"})
    assert answer.status_code == 201
    ns.create("pods", sized("NO", requests={"cpu": "100m"}), status=422)
    ns.create("configmaps", config_map("x"))
    ns.create("configmaps", config_map("y"), status=403)
    assert used_of(ns) == {"pods": "1", "requests.cpu": "600m", "count/configmaps": "1"}


def test_a_service_that_changes_its_type_is_charged_for_its_ports(ns):
    make_quota(ns, services="5", services_nodeports="1")
    ns.create("services", service("s"))
    assert used_of(ns) == {"services": "1", "services.nodeports": "0"}
    change: dict[str, Any] = {"spec": {"type": "NodePort"}}
    answer = ns.http.patch(ns.path("services", "s"), json=change, headers={"content-type": "application/merge-patch+json"})
    assert answer.status_code == 200, answer.text
    assert used_of(ns) == {"services": "1", "services.nodeports": "1"}
    message = ns.create("services", service("t", type="NodePort"), status=403)["message"]
    assert message.endswith(
        "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1"
    )


def test_a_quota_is_never_exceeded_by_many_clients_at_two_servers(world, server):
    """Each of the two servers is asked for more than there is room for, all at once."""
    other = world.start_server()
    with server.client() as admin:
        ns = make_namespace(admin)
        make_quota(ns, pods="25", count__configmaps="10")
    barrier = threading.Barrier(12)

    def work(number: int) -> list[int]:
        with (server if number % 2 else other).client() as client:
            barrier.wait()
            made = []
            for at in range(6):
                made.append(client.post(ns.path("pods"), json=pod(f"p-{number}-{at}")).status_code)
                client.post(ns.path("configmaps"), json=config_map(f"c-{number}-{at}"))
            return made

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        codes = [code for made in pool.map(work, range(12)) for code in made]
    assert {*codes} == {201, 403}
    with server.client() as admin:
        ns.http = admin
        counts = {plural: len(ns.get(plural)["items"]) for plural in ("pods", "configmaps")}
        assert counts == {"pods": 25, "configmaps": 10}
        assert codes.count(201) == 25
        assert used_of(ns) == {"pods": "25", "count/configmaps": "10"}
    other.daemon.stop()


def test_limits(ns):
    item = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}
    ns.create("limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [item]}})
    made = ns.create("pods", pod("plain"))
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    )
    message = ns.create("pods", sized("big", limits={"cpu": "2"}, requests={"cpu": "1"}), status=403)["message"]
    assert message == 'pods "big" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
