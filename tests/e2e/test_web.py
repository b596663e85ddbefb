"""The newcomer's example on a real cluster: it serves everywhere, scales, heals, rolls and goes back."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubeling.tests.e2e.support import EXAMPLES, Bench, balancer, fetch

pytestmark = pytest.mark.live

ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode(), end='')"


def ready(bench: Bench, count: int) -> bool:
    status = bench.get("deployment", "web").get("status") or {}
    return bool(status.get("readyReplicas", 0) == count and status.get("replicas", 0) == count)


@pytest.fixture
def web(bench: Bench) -> Bench:
    bench.cli("apply", "-f", str(EXAMPLES / "web.yaml"))
    assert "successfully rolled out" in bench.cli("rollout", "status", "deployment/web", "--timeout=90s")
    return bench


def answers(url: str, wanted: int, tries: int = 200) -> Counter[str]:
    """Who answered, asked until `wanted` different pods have."""
    seen: Counter[str] = Counter()
    for _ in range(tries):
        seen[fetch(url).split()[2]] += 1
        if len(seen) >= wanted:
            break
    return seen


def test_all_pods_answer_at_every_address(web: Bench) -> None:
    names = {pod["metadata"]["name"] for pod in web.pods("app=web")}
    url = balancer(web)
    web.until("the balancer answers", lambda: _try(url), 30)
    assert set(answers(url, 3)) == names
    by_name = web.run_once("by-name", "python3", "-c", ASK, f"http://web.{web.namespace}.svc.cluster.local/")
    assert by_name.startswith("hello from web-")
    short = web.run_once("by-short-name", "python3", "-c", ASK, "http://web/")
    assert short.startswith("hello from web-")
    service = web.get("service", "web")
    node = web.get("node")["items"][0]
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    by_node = web.run_once("by-node", "python3", "-c", ASK, f"http://{address}:{service['spec']['ports'][0]['nodePort']}/")
    assert by_node.startswith("hello from web-")


def _try(url: str) -> bool:
    try:
        return bool(fetch(url))
    except OSError:
        return False


def test_scales_up_and_down(web: Bench) -> None:
    web.cli("scale", "deployment/web", "--replicas=30")
    web.until("30 pods are ready", lambda: ready(web, 30), 120)
    web.cli("scale", "deployment/web", "--replicas=2")
    web.until("2 pods are left", lambda: ready(web, 2) and len(web.pods("app=web")) == 2, 90)


@pytest.mark.xdist_group("cluster")  # Not while others kill kubelets, runtimes and nodes of the shared cluster.
def test_a_rolling_update_loses_no_request_and_undo_goes_back(web: Bench) -> None:
    url = balancer(web)
    web.until("the balancer answers", lambda: _try(url), 30)
    stop = threading.Event()
    versions: Counter[str] = Counter()
    lost: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                versions[fetch(url).split()[-1]] += 1
            except OSError as error:
                lost.append(str(error))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        env = {"spec": {"template": {"spec": {"containers": [{"name": "web", "env": [{"name": "VERSION", "value": "2"}]}]}}}}
        web.cli("patch", "deployment/web", "-p", json.dumps(env))
        assert "successfully rolled out" in web.cli("rollout", "status", "deployment/web", "--timeout=90s")
        web.until("only the new version answers", lambda: fetch(url).split()[-1] == "2", 30)
        web.cli("rollout", "undo", "deployment/web")
        assert "successfully rolled out" in web.cli("rollout", "status", "deployment/web", "--timeout=90s")
        web.until("the old version is back", lambda: fetch(url).split()[-1] == "1", 30)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not lost, f"{len(lost)} of {sum(versions.values())} requests were lost: {lost[:3]}"
    assert set(versions) == {"1", "2"}


def test_a_deleted_pod_is_replaced(web: Bench) -> None:
    victim = web.pods("app=web")[0]["metadata"]["name"]
    web.cli("delete", "pod", victim)
    web.until(
        "three others are ready",
        lambda: ready(web, 3) and victim not in {pod["metadata"]["name"] for pod in web.pods("app=web")},
        60,
    )


def test_a_killed_container_is_restarted_in_place_with_back_off(bench: Bench) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs to see the processes of the cluster")
    marker = f"marker-{bench.namespace}"
    container = {
        "name": "main",
        "image": "kubeling.local/host",
        "command": ["sh", "-c", f"echo {marker}; sleep 1000; echo {marker}"],
    }
    bench.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "victim"}, "spec": {"containers": [container]}})

    def state() -> Any:
        return ((bench.get("pod", "victim").get("status") or {}).get("containerStatuses") or [{}])[0]

    def runs_after(restarts: int) -> Callable[[], bool]:
        return lambda: state().get("restartCount") == restarts and bool(state().get("started"))

    def waits() -> bool:
        return bool((state()["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff")

    bench.until("it runs", runs_after(0), 30)
    assert kill_by_words(marker) == 1
    bench.until("it was restarted at once", runs_after(1), 30)
    assert state()["lastState"]["terminated"]["exitCode"] == 137
    assert kill_by_words(marker) == 1
    bench.until("it waits before the next start", waits, 30)
    bench.until("it runs again after its back-off", runs_after(2), 30)
    pod = bench.get("pod", "victim")
    assert pod["status"]["phase"] == "Running"


def kill_by_words(words: str) -> int:
    """SIGKILL the processes of a shell whose command line holds `words`; returns how many there were."""
    killed = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[:2] == [b"sh", b"-c"] and words.encode() in arguments[2]:
            os.kill(int(folder.name), signal.SIGKILL)
            killed += 1
    return killed
