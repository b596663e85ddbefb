"""Versions of a custom resource that a webhook converts."""

from __future__ import annotations

import json
import threading

import pytest

from tests.apiserver import definitions, harness, webhook_server
from tests.apiserver.definitions import version

pytestmark = pytest.mark.live
#: v2 calls the size length.
NEWER = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "length": {"type": "integer"},
                "unit": {"type": "string", "default": "cm"},
                "color": {"type": "string"},
            },
        }
    },
}
OLDER = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}, "color": {"type": "string"}}}
    },
}
BARE = {"subresources": {}, "additionalPrinterColumns": []}


def renamed(obj, wanted):
    spec = dict(obj.get("spec") or {})
    old, new = ("size", "length") if wanted.endswith("v2") else ("length", "size")
    if old in spec:
        spec[new] = spec.pop(old)
    return {**obj, "apiVersion": wanted, "spec": spec}


def answer(request, **more):
    objects = [renamed(each, request["desiredAPIVersion"]) for each in request["objects"]]
    response = {"uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}, **more}
    return json.dumps({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}).encode()


@pytest.fixture(scope="module")
def webhook(world):
    with webhook_server.serving(world.authority) as made:
        made.on("convert", answer)
        yield made


def conversion(webhook, path="convert"):
    config = {"url": webhook.url(path), "caBundle": webhook.ca_bundle}
    return {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}


@pytest.fixture
def kind(http, ns, webhook):
    versions = (version("v1", schema=OLDER, **BARE), version("v2", storage=False, schema=NEWER, **BARE))
    with definitions.kind(http, ns.name, *versions) as made:
        made.redefine(lambda spec: spec.update(conversion=conversion(webhook)))
        yield made


def test_each_version_sees_the_object_its_way(kind):
    made = kind.http.post(kind.path(version="v2"), json={"metadata": {"name": "a"}, "spec": {"length": 4}})
    assert made.status_code == 201, made.text
    assert made.json()["spec"] == {"length": 4, "unit": "cm"}
    assert kind.get("a")["spec"] == {"size": 4}
    assert kind.get("a", "v2")["spec"] == {"length": 4, "unit": "cm"}
    assert [each["spec"] for each in kind.get(version="v2")["items"]] == [{"length": 4, "unit": "cm"}]
    kind.merge("a", {"spec": {"size": 5}})
    headers = {"content-type": "application/merge-patch+json"}
    patched = kind.http.patch(kind.path("a", "v2"), json={"spec": {"color": "red"}}, headers=headers).json()
    assert patched["spec"] == {"length": 5, "unit": "cm", "color": "red"}
    assert {each["apiVersion"] for each in patched["metadata"]["managedFields"]} == {f"{kind.group}/v1", f"{kind.group}/v2"}
    assert kind.http.delete(kind.path("a", "v2")).status_code == 200


def test_a_watch_is_converted(kind):
    seen = []

    def follow() -> None:
        query = {"watch": "1", "timeoutSeconds": "20", "allowWatchBookmarks": "true"}
        with kind.http.stream("GET", kind.path(version="v2"), params=query) as stream:
            for line in stream.iter_lines():
                event = json.loads(line)
                seen.append((event["type"], event["object"]["apiVersion"], event["object"]["spec"].get("length")))
                if event["type"] == "DELETED":
                    return

    kind.create("a")
    thread = threading.Thread(target=follow)
    thread.start()
    harness.wait_until("the watch has begun", lambda: seen)
    kind.merge("a", {"spec": {"size": 4}})
    kind.http.delete(kind.path("a"))
    thread.join(20)
    group_version = f"{kind.group}/v2"
    assert seen == [("ADDED", group_version, 3), ("MODIFIED", group_version, 4), ("DELETED", group_version, 4)]


def test_a_new_storage_version_is_written_when_an_object_is(kind):
    kind.create("a")

    def swap(spec):
        for each in spec["versions"]:
            each["storage"] = each["name"] == "v2"

    kind.redefine(swap)
    assert kind.get("a")["spec"] == {"size": 3}
    assert kind.get("a", "v2")["spec"] == {"length": 3, "unit": "cm"}
    kind.create("b")
    assert {each["metadata"]["name"]: each["spec"] for each in kind.get()["items"]} == {"a": {"size": 3}, "b": {"size": 3}}
    before = kind.get("a")
    after = kind.http.put(kind.path("a"), json=before).json()
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]


WRONG = {
    "short": (lambda request: answer(request, convertedObjects=[]), "returned 0 objects, expected 1"),
    "sorry": (lambda request: answer(request, result={"status": "Failed", "message": "no way"}), "no way"),
    "other": (
        lambda request: answer(request, convertedObjects=[{**request["objects"][0], "metadata": {"name": "x"}}]),
        "returned invalid converted object",
    ),
    "noise": (lambda request: b"{", "the answer is no JSON"),
    "error": (lambda request: (500, b"oops"), "oops"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_webhook_gets_wrong_is_an_internal_error_and_nothing_is_stored(kind, webhook, what):
    function, words = WRONG[what]
    webhook.on(what, function)
    kind.redefine(lambda spec: spec.update(conversion=conversion(webhook, what)))
    failed = kind.http.post(kind.path(version="v2"), json={"metadata": {"name": "a"}, "spec": {"length": 4}})
    assert failed.status_code == 500
    assert f"conversion webhook for {kind.group}/v2, Kind=Widget failed: " in failed.json()["message"]
    assert words in failed.json()["message"]
    assert kind.get()["items"] == []


def test_a_webhook_that_is_away(kind):
    kind.redefine(lambda spec: spec["conversion"]["webhook"]["clientConfig"].update(url="https://127.0.0.1:1/x"))
    failed = kind.http.post(kind.path(version="v2"), json={"metadata": {"name": "a"}, "spec": {"length": 4}})
    assert "dial tcp 127.0.0.1:1: connect" in failed.json()["message"]
    assert kind.create("b")["spec"] == {"size": 3}


def test_the_webhook_is_not_asked_twice_for_the_same(kind, webhook):
    kind.create("a")
    kind.get("a", "v2")
    asked = len(webhook.requests("convert"))
    assert kind.get("a", "v2")["spec"]["length"] == 3
    assert kind.get(version="v2")["items"][0]["spec"]["length"] == 3
    assert len(webhook.requests("convert")) == asked
    kind.merge("a", {"spec": {"size": 4}})
    assert kind.get("a", "v2")["spec"]["length"] == 4
    assert len(webhook.requests("convert")) == asked + 1


def test_owners_are_found_across_versions(kind):
    def applied(name, number, manager, spec, force=False):
        body = {"apiVersion": f"{kind.group}/{number}", "kind": "Widget", "metadata": {"name": name}, "spec": spec}
        query = {"fieldManager": manager, "force": str(force).lower()}
        headers = {"content-type": "application/apply-patch+yaml"}
        return kind.http.patch(kind.path(name, number), content=json.dumps(body), params=query, headers=headers)

    assert applied("o", "v1", "a", {"size": 4, "color": "red"}).status_code == 201
    refused = applied("o", "v2", "b", {"length": 5})
    assert refused.status_code == 409, refused.text
    assert [(each["field"], each["message"]) for each in refused.json()["details"]["causes"]] == [
        (".spec.size", 'conflict with "a"')
    ]
    assert applied("o", "v2", "b", {"length": 5}, force=True).status_code == 200
    owned = {each["manager"]: each["fieldsV1"]["f:spec"] for each in kind.get("o")["metadata"]["managedFields"]}
    assert owned == {"a": {"f:color": {}}, "b": {"f:length": {}}}
    assert applied("o", "v2", "a", {}).json()["spec"] == {"length": 5, "unit": "cm"}
    kind.merge("o", {"spec": {"size": 6}})
    assert "b" not in {each["manager"] for each in kind.get("o")["metadata"]["managedFields"]}
