"""Which volume a claim may have."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.controllers import local_provisioner, volume_plan
from kubeling.controllers.ephemeral_volume import claims_wanted

Obj = dict[str, Any]


def volume(name: str, size: str = "1Gi", **spec: Any) -> Obj:
    merged = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c", **spec}
    return {"metadata": {"name": name, "labels": {"tier": name}}, "spec": merged, "status": {"phase": "Available"}}


def claim(size: str = "1Gi", **spec: Any) -> Obj:
    merged = {"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c", **spec}
    return {"metadata": {"namespace": "ns", "name": "claim", "uid": "u1", "resourceVersion": "7"}, "spec": merged}


def chosen(volumes: list[Obj], wanted: Obj, *, delayed: bool = False) -> str | None:
    found = volume_plan.best_match(volumes, wanted, delayed)
    return found["metadata"]["name"] if found else None


def test_the_smallest_that_is_large_enough() -> None:
    assert chosen([volume("big", "9Gi"), volume("small", "1Mi"), volume("right", "2Gi")], claim()) == "right"


@pytest.mark.parametrize(
    ("offer", "want"),
    [
        ({"storageClassName": "other"}, {}),
        ({"accessModes": ["ReadOnlyMany"]}, {}),
        ({"volumeMode": "Block"}, {}),
        ({}, {"selector": {"matchLabels": {"tier": "gold"}}}),
        ({"claimRef": {"namespace": "ns", "name": "somebody"}}, {}),
        ({"claimRef": {"namespace": "ns", "name": "claim", "uid": "of-its-namesake"}}, {}),
    ],
)
def test_what_does_not_fit(offer: Obj, want: Obj) -> None:
    assert chosen([volume("v", **offer)], claim(**want)) is None


def test_a_volume_that_was_set_aside_comes_first_even_where_the_scheduler_is_to_choose() -> None:
    mine = volume("mine", "9Gi", claimRef={"namespace": "ns", "name": "claim"})
    assert chosen([volume("free"), mine], claim()) == "mine"
    assert chosen([volume("free"), mine], claim(), delayed=True) == "mine"
    assert chosen([volume("free")], claim(), delayed=True) is None


def test_a_released_volume_is_not_free() -> None:
    released = volume("v")
    released["status"]["phase"] = "Released"
    assert chosen([released], claim()) is None


def test_both_sides_of_a_binding_can_be_broken_off_and_taken_up() -> None:
    free, wanted = volume("v"), claim()
    held = volume_plan.hold(free, wanted)
    assert held is not None
    assert held["spec"]["claimRef"]["uid"] == "u1"
    assert held["metadata"]["annotations"] == {volume_plan.BOUND_BY_CONTROLLER: "yes"}
    assert volume_plan.hold(held, wanted) is None
    taken = volume_plan.take(wanted, held)
    assert taken is not None
    assert taken["spec"]["volumeName"] == "v"
    assert volume_plan.take(taken, held) is None
    status = volume_plan.claim_status(taken, "Bound", held)
    assert status == {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    assert volume_plan.claim_status({**taken, "status": status}, "Bound", held) is None
    assert "claimRef" not in volume_plan.let_go(held)["spec"]


def test_what_the_administrator_set_aside_stays_so() -> None:
    held = volume_plan.hold(volume("v", claimRef={"namespace": "ns", "name": "claim"}), claim())
    assert held is not None
    assert volume_plan.let_go(held)["spec"]["claimRef"]["name"] == "claim"
    assert "uid" not in volume_plan.let_go(held)["spec"]["claimRef"]


def test_the_newest_default_class_counts() -> None:
    def made(name: str, when: str, mark: str = "true") -> Obj:
        return {"metadata": {"name": name, "creationTimestamp": when, "annotations": {volume_plan.DEFAULT_CLASS[0]: mark}}}

    classes = [
        made("old", "2025-01-01T00:00:00Z"),
        made("new", "2026-01-01T00:00:00Z"),
        made("no", "2027-01-01T00:00:00Z", "false"),
    ]
    found = volume_plan.default_class(classes)
    assert found is not None
    assert found["metadata"]["name"] == "new"


def test_what_our_provisioner_makes_and_removes() -> None:
    wanted = claim()
    wanted["metadata"]["annotations"] = {volume_plan.SELECTED_NODE: "n1"}
    storage_class = {"metadata": {"name": "c"}, "parameters": {"path": "/disks/{node}"}, "reclaimPolicy": "Delete"}
    assert local_provisioner.refusal(wanted, storage_class) == ""
    assert "ReadWriteOnce" in local_provisioner.refusal(claim(accessModes=["ReadWriteMany"]), storage_class)
    made = local_provisioner.volume_for(wanted, storage_class, {"metadata": {"name": "n1"}})
    assert made["spec"]["local"]["path"] == "/disks/n1/pvc-u1_ns_claim"
    assert local_provisioner.node_of_volume(made) == "n1"
    pod = local_provisioner.remover(made, "n1", "image")
    assert pod is not None
    assert pod["spec"]["containers"][0]["command"] == ["rm", "-rf", "--", "/disks/n1/pvc-u1_ns_claim"]
    made["spec"]["local"]["path"] = "/etc"
    assert local_provisioner.remover(made, "n1", "image") is None


def test_the_claim_of_an_ephemeral_volume_belongs_to_its_pod() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    volumes = [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "x", "emptyDir": {}}]
    found = claims_wanted({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"volumes": volumes}})
    assert [each["metadata"]["name"] for each in found] == ["p-v"]
    assert found[0]["metadata"]["labels"] == {"a": "b"}
    assert found[0]["metadata"]["ownerReferences"][0]["uid"] == "u"
