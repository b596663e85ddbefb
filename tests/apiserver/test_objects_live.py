"""create, read, update, patch and delete through the wire."""

from __future__ import annotations

import time

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import config_map, deployment, pod

pytestmark = pytest.mark.live
APPS = "apps/v1"
MERGE = {"content-type": "application/merge-patch+json"}


def patch(ns: Namespace, plural: str, name: str, body: dict, kind: str = "merge-patch+json", group: str = "", **query: str):
    return ns.http.patch(ns.path(plural, name, group), json=body, headers={"content-type": f"application/{kind}"}, params=query)


def test_the_server_fills_in_what_only_it_knows(ns):
    made = ns.create("configmaps", config_map("a", x="1"))
    metadata = made["metadata"]
    assert metadata["uid"]
    assert metadata["creationTimestamp"]
    assert int(metadata["resourceVersion"]) > 0
    assert metadata["namespace"] == ns.name
    assert made == ns.get("configmaps", "a")
    assert metadata["managedFields"][0]["manager"] == "python-httpx"


def test_generated_names_differ(ns):
    body = {"metadata": {"generateName": "web-"}, "data": {}}
    names = {ns.create("configmaps", body)["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


def test_a_stale_update_is_a_conflict_in_upstreams_words(ns):
    made = ns.create("deployments", deployment("x"), APPS)
    assert patch(ns, "deployments", "x", {"spec": {"replicas": 2}}, group=APPS).status_code == 200
    answer = ns.http.put(ns.path("deployments", "x", APPS), json=made)
    assert answer.status_code == 409
    text = (
        'Operation cannot be fulfilled on deployments.apps "x": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert answer.json()["message"] == text
    assert answer.json()["reason"] == "Conflict"


def test_a_write_that_changes_nothing_makes_no_version(ns):
    made = ns.create("configmaps", config_map("a", x="1"))
    assert (
        ns.http.put(ns.path("configmaps", "a"), json=made).json()["metadata"]["resourceVersion"]
        == made["metadata"]["resourceVersion"]
    )
    same = patch(ns, "configmaps", "a", {"data": {"x": "1"}}).json()
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_status_and_spec_have_doors_of_their_own(ns):
    made = ns.create("deployments", {**deployment("x", replicas=2), "status": {"replicas": 9}}, APPS)
    assert made["status"] == {}
    assert made["metadata"]["generation"] == 1
    main = patch(ns, "deployments", "x", {"spec": {"replicas": 3}, "status": {"replicas": 7}}, group=APPS).json()
    assert (main["spec"]["replicas"], main["status"], main["metadata"]["generation"]) == (3, {}, 2)
    other = patch(ns, "deployments", "x/status", {"spec": {"replicas": 8}, "status": {"replicas": 7}}, group=APPS).json()
    assert (other["spec"]["replicas"], other["status"]["replicas"], other["metadata"]["generation"]) == (3, 7, 2)
    assert {each.get("subresource", "") for each in other["metadata"]["managedFields"]} == {"", "status"}


def test_scale_changes_the_replicas_alone(ns):
    ns.create("deployments", deployment("x", replicas=2), APPS)
    assert ns.get("deployments", "x/scale", APPS)["spec"] == {"replicas": 2}
    assert patch(ns, "deployments", "x/scale", {"spec": {"replicas": 5}}, group=APPS).json()["spec"] == {"replicas": 5}
    assert ns.get("deployments", "x", APPS)["spec"]["replicas"] == 5
    refused = patch(ns, "deployments", "x/scale", {"spec": {"replicas": -1}}, group=APPS)
    assert refused.status_code == 422
    assert ns.http.get(ns.path("deployments", "y/scale", APPS)).json()["message"] == 'deployments/scale.apps "y" not found'


def test_a_dry_run_leaves_no_trace(ns):
    answer = ns.http.post(ns.path("configmaps"), json=config_map("a"), params={"dryRun": "All"})
    assert answer.status_code == 201
    ns.get("configmaps", "a", status=404)
    ns.create("configmaps", config_map("a", x="1"))
    assert patch(ns, "configmaps", "a", {"data": {"x": "2"}}, dryRun="All").json()["data"] == {"x": "2"}
    assert ns.http.request("DELETE", ns.path("configmaps", "a"), json={"dryRun": ["All"]}).status_code == 200
    assert ns.get("configmaps", "a")["data"] == {"x": "1"}


def test_finalizers_hold_a_deleted_object_until_the_last_is_gone(ns):
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    ns.create("configmaps", body)
    held = ns.http.delete(ns.path("configmaps", "a")).json()
    assert held["metadata"]["deletionTimestamp"]
    gone = patch(ns, "configmaps", "a", {"metadata": {"finalizers": None}})
    assert gone.status_code == 200
    ns.get("configmaps", "a", status=404)


def test_propagation_is_a_finalizer(ns):
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        ns.create("deployments", deployment(policy.lower()), APPS)
        answer = ns.http.request(
            "DELETE", ns.path("deployments", policy.lower(), APPS), json={"propagationPolicy": policy}
        ).json()
        assert answer["metadata"]["finalizers"] == [finalizer]
    ns.create("deployments", deployment("b"), APPS)
    done = ns.http.request("DELETE", ns.path("deployments", "b", APPS), json={"propagationPolicy": "Background"}).json()
    assert (done["kind"], done["status"], done["details"]["name"]) == ("Status", "Success", "b")


def test_preconditions_guard_a_deletion(ns):
    made = ns.create("configmaps", config_map("a"))
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        answer = ns.http.request("DELETE", ns.path("configmaps", "a"), json={"preconditions": wrong})
        assert answer.status_code == 409, answer.text
    right = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    assert ns.http.request("DELETE", ns.path("configmaps", "a"), json={"preconditions": right}).status_code == 200


def test_a_pod_on_a_node_is_deleted_gracefully_and_one_without_at_once(ns):
    ns.create("pods", pod("free"))
    assert ns.http.delete(ns.path("pods", "free")).json()["metadata"].get("deletionTimestamp") is None
    ns.get("pods", "free", status=404)
    ns.create("pods", pod("bound"))
    target = {"target": {"kind": "Node", "name": "n1"}}
    assert ns.http.post(ns.path("pods", "bound/binding"), json=target).status_code == 201
    twice = ns.http.post(ns.path("pods", "bound/binding"), json={"target": {"kind": "Node", "name": "n2"}})
    assert twice.status_code == 409
    assert 'already assigned to node "n1"' in twice.json()["message"]
    bound = ns.get("pods", "bound")
    assert [each["type"] for each in bound["status"]["conditions"]] == ["PodScheduled"]
    marked = ns.http.delete(ns.path("pods", "bound")).json()
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    ns.http.request("DELETE", ns.path("pods", "bound"), json={"gracePeriodSeconds": 0})
    ns.get("pods", "bound", status=404)


def test_deletecollection_takes_what_the_selector_selects(ns):
    for index in range(6):
        body = config_map(f"c{index}")
        body["metadata"]["labels"] = {"even": str(index % 2 == 0).lower()}
        ns.create("configmaps", body)
    answer = ns.http.delete(ns.path("configmaps"), params={"labelSelector": "even=true"})
    assert len(answer.json()["items"]) == 3
    assert [each["metadata"]["name"] for each in ns.get("configmaps")["items"]] == ["c1", "c3", "c5"]


def test_the_four_patches(ns):
    ns.create("deployments", deployment("x"), APPS)
    more = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "j"}]}}}}
    strategic = patch(ns, "deployments", "x", more, "strategic-merge-patch+json", APPS).json()
    assert {each["name"] for each in strategic["spec"]["template"]["spec"]["containers"]} == {"c", "d"}
    merged = patch(ns, "deployments", "x", more, "merge-patch+json", APPS).json()
    assert [each["name"] for each in merged["spec"]["template"]["spec"]["containers"]] == ["d"]
    operations = [{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "replace", "path": "/spec/replicas", "value": 4}]
    path = ns.path("deployments", "x", APPS)
    answer = ns.http.patch(path, json=operations, headers={"content-type": "application/json-patch+json"})
    assert answer.json()["spec"]["replicas"] == 4
    assert ns.http.patch(path, json=operations, headers={"content-type": "application/json-patch+json"}).status_code == 422
    applied = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, labels: {by: apply}}\n"
    kind = {"content-type": "application/apply-patch+yaml"}
    answer = ns.http.patch(path, content=applied, headers=kind, params={"fieldManager": "m"})
    assert answer.json()["metadata"]["labels"] == {"by": "apply"}
    claims = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 9}\n"
    answer = ns.http.patch(path, content=claims, headers=kind, params={"fieldManager": "m"})
    assert answer.status_code == 409
    assert answer.json()["details"]["causes"][0]["field"] == ".spec.replicas"
    assert ns.http.patch(path, content=claims, headers=kind, params={"fieldManager": "m", "force": "true"}).status_code == 200
    new, bare = ns.path("configmaps", "new"), "apiVersion: v1\nkind: ConfigMap\n"
    assert ns.http.patch(new, content=bare, headers=kind, params={"fieldManager": "m"}).status_code == 201


def test_an_apply_says_what_it_is_and_who_wishes_it(ns):
    kind, bare = {"content-type": "application/apply-patch+yaml"}, "apiVersion: apps/v1\nkind: Deployment\n"

    def refused(content, code, **params):
        answer = ns.http.patch(ns.path("deployments", "x", APPS), content=content, headers=kind, params=params)
        assert answer.status_code == code, answer.text
        return answer.json()["message"]

    wrong = "Incorrect version specified in apply patch. Specified patch version: "
    assert refused("{}", 400, fieldManager="m") == f"{wrong}, expected: apps/v1"
    assert refused("apiVersion: v1\nkind: Deployment", 400, fieldManager="m") == f"{wrong}v1, expected: apps/v1"
    assert refused("apiVersion: apps/v1", 400, fieldManager="m").endswith("no corresponding type for apps/v1, Kind=")
    assert refused(bare, 422).endswith("fieldManager: Required value: is required for apply patch")
    assert "invalid rune: 0x1 at 1" in refused(bare, 422, fieldManager="m\x01")
    odd = bare + "spec: {x: 1, template: {spec: {containers: [{name: c, imagee: i}]}}}"
    assert refused(odd, 400, fieldManager="m") == (
        f"failed to create typed patch object ({ns.name}/x; apps/v1, Kind=Deployment): errors:"
        '\n  .spec.x: field not declared in schema\n  .spec.template.spec.containers[name="c"].imagee: field not declared in schema'
    )
    merge = ns.http.patch(
        ns.path("configmaps", "c") + "?force=true", json={}, headers={"content-type": "application/merge-patch+json"}
    )
    assert (merge.status_code, merge.json()["message"]) == (
        422,
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch',
    )


def test_what_is_no_object_of_the_store_as_a_table(ns):
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    ns.create("deployments", deployment("x"), APPS)
    scale = ns.http.get(ns.path("deployments", "x/scale", APPS), headers=accept).json()
    assert [each["name"] for each in scale["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert scale["rows"][0]["cells"][:3] == ["x", 1, 0]
    assert scale["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    answer = ns.http.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=review, headers=accept)
    assert (answer.status_code, answer.json()["reason"]) == (406, "NotAcceptable")


def test_pods_get_account_token_tolerations_and_priority(ns):
    made = ns.create("pods", pod("p"))
    spec = made["spec"]
    assert (spec["serviceAccountName"], spec["priority"], spec["preemptionPolicy"]) == ("default", 0, "PreemptLowerPriority")
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert {each["key"] for each in spec["tolerations"]} == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    critical = ns.create("pods", pod("q", priorityClassName="system-node-critical", automountServiceAccountToken=False))
    assert critical["spec"]["priority"] == 2_000_001_000
    assert "volumes" not in critical["spec"]
    assert ns.http.post(ns.path("pods"), json=pod("r", serviceAccountName="nobody")).status_code == 403
    assert ns.http.post(ns.path("pods"), json=pod("r", priorityClassName="nothing")).status_code == 403


def test_a_pod_waits_a_moment_for_the_default_account(http, server):
    """The account's controller may be a little later than the pod's."""
    import threading
    import uuid

    name = f"t-{uuid.uuid4().hex[:8]}"
    http.post("/api/v1/namespaces", json={"metadata": {"name": name}})

    def later() -> None:
        time.sleep(0.3)
        with server.client() as other:
            other.post(f"/api/v1/namespaces/{name}/serviceaccounts", json={"metadata": {"name": "default"}})

    thread = threading.Thread(target=later)
    thread.start()
    answer = http.post(f"/api/v1/namespaces/{name}/pods", json=pod("p"))
    thread.join()
    assert answer.status_code == 201, answer.text


def test_namespaces_live_and_die(http, ns):
    assert (
        http.post("/api/v1/namespaces/nowhere/configmaps", json=config_map("a")).json()["message"]
        == 'namespaces "nowhere" not found'
    )
    assert http.delete("/api/v1/namespaces/default").status_code == 403
    gone = http.delete(f"/api/v1/namespaces/{ns.name}").json()
    assert gone["status"]["phase"] == "Terminating"
    refused = http.post(ns.path("configmaps"), json=config_map("a"))
    assert refused.status_code == 403
    assert refused.json()["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    gone["spec"]["finalizers"] = []
    assert http.put(f"/api/v1/namespaces/{ns.name}/finalize", json=gone).status_code == 200
    assert http.get(f"/api/v1/namespaces/{ns.name}").status_code == 404


def test_eviction_asks_the_budget(ns):
    body = pod("p")
    body["metadata"]["labels"] = {"app": "p"}
    ns.create("pods", body)
    ns.http.post(ns.path("pods", "p/binding"), json={"target": {"kind": "Node", "name": "n1"}})
    patch(ns, "pods", "p/status", {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}}
    ns.create("poddisruptionbudgets", budget, "policy/v1")
    evict = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    refused = ns.http.post(ns.path("pods", "p/eviction"), json=evict)
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    status = {
        "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}
    }
    assert patch(ns, "poddisruptionbudgets", "b/status", status, group="policy/v1").status_code == 200
    assert ns.http.post(ns.path("pods", "p/eviction"), json=evict).status_code == 201
    assert ns.get("pods", "p")["metadata"]["deletionTimestamp"]
    left = ns.get("poddisruptionbudgets", "b", "policy/v1")["status"]
    assert left["disruptionsAllowed"] == 0
    assert "p" in left["disruptedPods"]


def test_two_versions_of_a_kind_are_one_object(ns):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
    old = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70}}
    ns.create("horizontalpodautoscalers", old, "autoscaling/v1")
    new = ns.get("horizontalpodautoscalers", "h", "autoscaling/v2")
    assert new["apiVersion"] == "autoscaling/v2"
    assert new["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    again = ns.get("horizontalpodautoscalers", "h", "autoscaling/v1")
    assert again["spec"]["targetCPUUtilizationPercentage"] == 70
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "namespace": ns.name, "name": "p"},
        "message": "hello",
        "type": "Normal",
    }
    ns.create("events", event)
    found = ns.get("events", group="events.k8s.io/v1", fieldSelector="regarding.name=p")["items"]
    assert [each["note"] for each in found] == ["hello"]


def test_fields_are_owned_in_the_version_that_they_were_written_in(ns):
    """KEP-555: what a manager owns has the names of its own version; a write in another one is looked at in that."""
    plural, target = "horizontalpodautoscalers", {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}

    def apply(version, manager, force=False, **spec):
        sent = {
            "apiVersion": f"autoscaling/{version}",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"},
            "spec": spec,
        }
        answer = ns.http.patch(
            ns.path(plural, "h", f"autoscaling/{version}"),
            json=sent,
            headers={"content-type": "application/apply-patch+yaml"},
            params={"fieldManager": manager, "force": str(force).lower()},
        )
        return answer.json() if answer.status_code < 300 else [each["field"] for each in answer.json()["details"]["causes"]]

    def owned(obj):
        entries = obj["metadata"]["managedFields"]
        return {each["manager"]: (each["apiVersion"], sorted(each["fieldsV1"].get("f:spec", {}))) for each in entries}

    def cpu(percent):
        target = {"type": "Utilization", "averageUtilization": percent}
        return [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]

    first = apply("v1", "old", scaleTargetRef=target, maxReplicas=3, targetCPUUtilizationPercentage=70)
    v1 = ["f:maxReplicas", "f:scaleTargetRef", "f:targetCPUUtilizationPercentage"]
    assert owned(first) == {"old": ("autoscaling/v1", v1)}
    # The same wish in the other version is no conflict, another one is, at the field of the version of who owns it.
    both = apply("v2", "new", maxReplicas=3, metrics=cpu(70))
    assert owned(both) == {"old": ("autoscaling/v1", v1), "new": ("autoscaling/v2", ["f:maxReplicas", "f:metrics"])}
    assert apply("v2", "new", maxReplicas=3, metrics=cpu(60)) == [".spec.targetCPUUtilizationPercentage"]
    forced = apply("v2", "new", True, maxReplicas=3, metrics=cpu(60))
    assert owned(forced)["old"] == ("autoscaling/v1", v1[:2])
    assert apply("v1", "old", scaleTargetRef=target, maxReplicas=3, targetCPUUtilizationPercentage=70) == [".spec.metrics"]
    # Who goes over to another version keeps one entry.
    moved = apply("v2", "old", scaleTargetRef=target, maxReplicas=3)
    assert owned(moved)["old"] == ("autoscaling/v2", v1[:2])
    assert moved["metadata"]["resourceVersion"] != forced["metadata"]["resourceVersion"]
    # What it alone had applied goes (to the default), and what both had stays.
    left = apply("v1", "new", maxReplicas=3)
    assert left["spec"]["targetCPUUtilizationPercentage"] == 80
    assert owned(left)["new"] == ("autoscaling/v1", ["f:maxReplicas"])
    # An update counts in its own version too, and takes what others hold in theirs.
    left["spec"]["maxReplicas"] = 5
    answer = ns.http.put(ns.path(plural, "h", "autoscaling/v1"), json=left, params={"fieldManager": "hand"})
    assert owned(answer.json()) == {
        "old": ("autoscaling/v2", ["f:scaleTargetRef"]),
        "hand": ("autoscaling/v1", ["f:maxReplicas"]),
    }
    event = {"metadata": {"name": "o"}, "involvedObject": {"namespace": ns.name, "name": "p"}, "message": "m", "type": "Normal"}
    ns.create("events", event)
    change = {"metadata": {"labels": {"a": "b"}}}
    headers = {"content-type": "application/merge-patch+json"}
    answer = ns.http.patch(ns.path("events", "o", "events.k8s.io/v1"), json=change, headers=headers)
    entries = {each["apiVersion"]: each["fieldsV1"] for each in answer.json()["metadata"]["managedFields"]}
    assert "f:message" in entries["v1"]
    assert list(entries["events.k8s.io/v1"]) == ["f:metadata"]


def test_events_are_leased(on_real_etcd):
    """They go by themselves after an hour: the store is asked for the lease that the key hangs on."""
    import json
    import subprocess

    server = on_real_etcd.start_server()
    with server.client() as client:
        client.post(
            "/api/v1/namespaces/default/events", json={"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}
        )
        client.post("/api/v1/namespaces/default/configmaps", json=config_map("c"))
    for key, leased in (("events/default/e", True), ("configmaps/default/c", False)):
        command = ["etcdctl", "--endpoints", on_real_etcd.store_url, "get", f"/registry/{key}", "-w", "json"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["kvs"][0]
        assert bool(found.get("lease")) == leased
