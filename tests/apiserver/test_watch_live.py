"""list and watch: versions, selectors, bookmarks, resumption, expiry."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tests.apiserver.conftest import Namespace, make_namespace
from tests.apiserver.harness import config_map, pod, wait_until
from tests.apiserver.streams import Client, Stream

pytestmark = pytest.mark.live


def labelled(name: str, **labels: str) -> dict[str, Any]:
    body = config_map(name)
    body["metadata"]["labels"] = labels
    return body


def change(ns: Namespace, name: str, **labels: str | None) -> dict[str, Any]:
    headers = {"content-type": "application/merge-patch+json"}
    return ns.http.patch(ns.path("configmaps", name), json={"metadata": {"labels": labels}}, headers=headers).json()


def test_without_a_version_what_is_there_comes_first(ns):
    ns.create("configmaps", config_map("a"))
    for version in ({}, {"resourceVersion": "0"}):
        stream = Stream(ns.http, ns.path("configmaps"), timeoutSeconds="3", **version)
        assert stream.wait(1) == [("ADDED", "a")]
    ns.create("configmaps", config_map("b"))
    assert stream.wait(2) == [("ADDED", "a"), ("ADDED", "b")]
    assert stream.events[1]["object"]["apiVersion"] == "v1"


def test_a_watch_goes_on_from_a_lists_version_and_can_be_resumed(ns):
    version = ns.get("configmaps")["metadata"]["resourceVersion"]
    for index in range(5):
        ns.create("configmaps", config_map(f"c{index}"))
    ns.http.delete(ns.path("configmaps", "c0"))
    stream = Stream(ns.http, ns.path("configmaps"), resourceVersion=version, timeoutSeconds="3")
    seen = stream.wait(6)
    assert seen == [("ADDED", f"c{index}") for index in range(5)] + [("DELETED", "c0")]
    versions = [int(each["object"]["metadata"]["resourceVersion"]) for each in stream.events]
    assert versions == sorted(set(versions))
    again = Stream(ns.http, ns.path("configmaps"), resourceVersion=str(versions[2]), timeoutSeconds="3")
    assert again.wait(3) == seen[3:]


def test_selectors_turn_changes_into_arrivals_and_departures(ns):
    version = ns.get("configmaps")["metadata"]["resourceVersion"]
    stream = Stream(ns.http, ns.path("configmaps"), resourceVersion=version, labelSelector="on=yes", timeoutSeconds="4")
    ns.create("configmaps", labelled("a"))
    change(ns, "a", on="yes")
    change(ns, "a", more="1")
    left = change(ns, "a", on="no")
    change(ns, "a", on="still")
    assert stream.wait(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    last = stream.events[2]["object"]["metadata"]
    assert last["resourceVersion"] == left["metadata"]["resourceVersion"]
    assert last["labels"]["on"] == "yes"


def test_a_kubelets_watch_sees_its_own_pods_only(ns):
    version = ns.get("pods")["metadata"]["resourceVersion"]
    stream = Stream(ns.http, "/api/v1/pods", resourceVersion=version, fieldSelector="spec.nodeName=n7", timeoutSeconds="4")
    for name, node in (("p", "n7"), ("q", "n8")):
        ns.create("pods", pod(name))
        ns.http.post(ns.path("pods", f"{name}/binding"), json={"target": {"kind": "Node", "name": node}})
    assert stream.wait(1) == [("ADDED", "p")]
    assert ns.http.get("/api/v1/pods", params={"fieldSelector": "spec.nodeName=n8,status.phase!=Running"}).json()["items"]


def test_initial_events_end_with_a_bookmark(ns):
    ns.create("configmaps", config_map("a"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    stream = Stream(ns.http, ns.path("configmaps"), timeoutSeconds="3", **query)
    assert [kind for kind, _ in stream.wait(2)] == ["ADDED", "BOOKMARK"]
    mark = stream.events[1]["object"]["metadata"]
    assert mark["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["resourceVersion"]) > 0
    assert ns.http.get(ns.path("configmaps"), params={"watch": "1", "sendInitialEvents": "true"}).status_code == 422


def test_a_watch_ends_at_its_timeout(ns):
    began = time.monotonic()
    stream = Stream(ns.http, ns.path("configmaps"), timeoutSeconds="1")
    assert stream.ended.wait(5)
    assert 0.8 < time.monotonic() - began < 4


def test_table_and_metadata_watches(ns):
    ns.create("configmaps", config_map("a", x="1"))
    kinds = {"Table": "Table", "PartialObjectMetadata": "PartialObjectMetadata"}
    for transform, kind in kinds.items():
        headers = {"accept": f"application/json;as={transform};v=v1;g=meta.k8s.io,application/json"}
        with ns.http.stream("GET", ns.path("configmaps"), params={"watch": "1"}, headers=headers) as answer:
            first = json.loads(next(answer.iter_lines()))
        assert (first["type"], first["object"]["kind"]) == ("ADDED", kind)


def test_chunks_are_of_one_snapshot(ns):
    for index in range(7):
        ns.create("configmaps", config_map(f"c{index}"))
    first = ns.get("configmaps", limit="3")
    assert first["metadata"]["remainingItemCount"] == 4
    ns.create("configmaps", config_map("c9"))
    ns.http.delete(ns.path("configmaps", "c5"))
    names, token = [each["metadata"]["name"] for each in first["items"]], first["metadata"]["continue"]
    while token:
        page = ns.get("configmaps", **{"limit": "3", "continue": token})
        names += [each["metadata"]["name"] for each in page["items"]]
        token = page["metadata"].get("continue")
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert names == [f"c{index}" for index in range(7)]


def test_exact_and_future_versions(ns):
    made = ns.create("configmaps", config_map("a", x="1"))
    version = made["metadata"]["resourceVersion"]
    ns.http.delete(ns.path("configmaps", "a"))
    exact = ns.get("configmaps", resourceVersion=version, resourceVersionMatch="Exact")
    assert [each["metadata"]["name"] for each in exact["items"]] == ["a"]
    answer = ns.http.get(ns.path("configmaps"), params={"resourceVersion": "999999999"})
    assert answer.status_code == 504
    assert answer.json()["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_what_is_compacted_has_expired(on_real_etcd):
    import subprocess

    server = on_real_etcd.start_server()
    with server.client() as client:
        ns = make_namespace(client)
        for index in range(4):
            ns.create("configmaps", config_map(f"c{index}"))
        page = ns.get("configmaps", limit="2")
        old = page["metadata"]["resourceVersion"]
        ns.create("configmaps", config_map("d"))
        now = ns.get("configmaps")["metadata"]["resourceVersion"]
        subprocess.run(["etcdctl", "--endpoints", on_real_etcd.store_url, "compact", now], check=True, capture_output=True)
        token = {"limit": "2", "continue": page["metadata"]["continue"]}
        expired = client.get(ns.path("configmaps"), params=token)
        assert (expired.status_code, expired.json()["reason"]) == (410, "Expired")
        assert (
            client.get(ns.path("configmaps"), params={"resourceVersion": old, "resourceVersionMatch": "Exact"}).status_code == 410
        )
        # The watch cache still knows what the store has forgotten.
        stream = Stream(client, ns.path("configmaps"), resourceVersion=old, timeoutSeconds="2")
        assert stream.wait(1) == [("ADDED", "d")]
    # One that was started later does not.
    with on_real_etcd.start_server().client() as client:
        answer = client.get(ns.path("configmaps"), params={"watch": "1", "resourceVersion": old})
        assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")


def test_every_watcher_gets_every_event_in_order(http):
    ns = make_namespace(http)
    version = ns.get("configmaps")["metadata"]["resourceVersion"]
    query = {"resourceVersion": version, "timeoutSeconds": "120"}
    limits = httpx.Limits(max_connections=100)
    with Client(base_url=http.base_url, verify=http._transport._pool._ssl_context, limits=limits, timeout=30) as many:
        streams = [Stream(many, ns.path("configmaps"), **query) for _ in range(20)]
        for index in range(200):
            ns.create("configmaps", config_map(f"c{index}"))
        expected = [("ADDED", f"c{index}") for index in range(200)]
        for stream in streams:
            assert stream.wait(200) == expected


def test_a_client_that_does_not_read_is_cut_off(server, ns):
    import socket
    import ssl

    host, port = server.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=str(server.world.authority.path))
    context.load_cert_chain(*server.world.users["admin"])
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((host, int(port)))
    tls = context.wrap_socket(raw, server_hostname=host)
    tls.sendall(f"GET {ns.path('configmaps')}?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert tls.recv(1024)
    ns.create("configmaps", config_map("big", x="y" * 500_000))

    def metric() -> float:
        lines = ns.http.get("/metrics").text.splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith('apiserver_terminated_watchers_total{resource="configmaps"')
        )

    headers = {"content-type": "application/merge-patch+json"}
    for index in range(60):
        ns.http.patch(ns.path("configmaps", "big"), json={"data": {"n": str(index)}}, headers=headers)
        if metric():
            break
    # The last write may be acknowledged before the watcher's share of it has been dealt with.
    wait_until("the client to be cut off", lambda: metric() == 1)
    tls.close()
