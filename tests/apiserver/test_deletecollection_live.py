"""DELETE of collections: what is selected goes, as the options say, and is shown."""

from __future__ import annotations

import json

import pytest

from tests.apiserver.conftest import Namespace
from tests.apiserver.harness import config_map, pod

pytestmark = pytest.mark.live


def names(ns: Namespace, plural: str = "configmaps") -> set[str]:
    return {each["metadata"]["name"] for each in ns.get(plural)["items"]} - {"kube-root-ca.crt"}


@pytest.fixture
def filled(ns: Namespace) -> Namespace:
    for index in range(40):
        made = config_map(f"c{index:02}")
        made["metadata"]["labels"] = {"even": str(index % 2 == 0).lower()}
        ns.create("configmaps", made)
    return ns


def test_what_is_selected_goes_and_is_shown(filled: Namespace) -> None:
    answer = filled.http.delete(filled.path("configmaps"), params={"labelSelector": "even=true"}).json()
    assert answer["kind"] == "ConfigMapList"
    assert [each["metadata"]["name"] for each in answer["items"]] == [f"c{index:02}" for index in range(0, 40, 2)]
    assert names(filled) == {f"c{index:02}" for index in range(1, 40, 2)}


def test_nothing_goes_in_a_dry_run(filled: Namespace) -> None:
    answer = filled.http.delete(filled.path("configmaps"), params={"dryRun": "All"}).json()
    assert len(answer["items"]) == 40
    assert len(names(filled)) == 40


def test_a_limit_is_kept_to(filled: Namespace) -> None:
    answer = filled.http.delete(filled.path("configmaps"), params={"limit": "10"}).json()
    assert len(answer["items"]) == 10
    assert len(names(filled)) == 30


def test_preconditions_hold_for_each(filled: Namespace) -> None:
    uid = filled.get("configmaps", "c05")["metadata"]["uid"]
    body = json.dumps({"preconditions": {"uid": uid}})
    answer = filled.http.request("DELETE", filled.path("configmaps"), content=body, params={"fieldSelector": "metadata.name=c05"})
    assert [each["metadata"]["name"] for each in answer.json()["items"]] == ["c05"]
    answer = filled.http.request("DELETE", filled.path("configmaps"), content=body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    assert f"Precondition failed: UID in precondition: {uid}, UID in object meta: " in answer.json()["message"]
    version = json.dumps({"preconditions": {"resourceVersion": "1"}})
    answer = filled.http.request("DELETE", filled.path("configmaps", "c06"), content=version)
    assert answer.status_code == 409
    assert "Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: " in answer.json()["message"]


def test_finalizers_and_propagation_hold(ns: Namespace) -> None:
    for name in ("a", "b"):
        made = pod(name)
        made["metadata"]["finalizers"] = ["example.com/hold"] if name == "a" else []
        ns.create("pods", made)
    answer = ns.http.request("DELETE", ns.path("pods"), content=json.dumps({"propagationPolicy": "Foreground"})).json()
    assert sorted(answer["items"][0]["metadata"]["finalizers"]) == ["example.com/hold", "foregroundDeletion"]
    assert names(ns, "pods") == {"a", "b"}
    assert all(each["metadata"]["deletionTimestamp"] for each in ns.get("pods")["items"])


def test_it_comes_in_the_form_asked_for(filled: Namespace) -> None:
    accept = {"accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    answer = filled.http.delete(filled.path("configmaps"), headers=accept, params={"dryRun": "All"}).json()
    assert answer["kind"] == "PartialObjectMetadataList"
