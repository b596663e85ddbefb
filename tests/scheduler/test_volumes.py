"""Volumes: where they can be used, which are chosen, who may share them; in both forms."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.scheduler.algorithm import decide
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.config import Profile, build
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.nodeinfo import PodInfo
from kubeling.scheduler.plugins.volumes import VolumeBinding
from kubeling.scheduler.verdicts import FitError
from tests.scheduler.test_decisions import node, pod

Obj = dict[str, Any]
ZONE = "topology.kubernetes.io/zone"


def claim(name: str, *, volume: str = "", size: str = "1Gi", mode: str = "ReadWriteOnce", storage_class: str = "later") -> Obj:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {
            "accessModes": [mode],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
            **({"volumeName": volume} if volume else {}),
        },
        "status": {"phase": "Bound" if volume else "Pending"},
    }


def volume(name: str, *, size: str = "1Gi", on: str = "", labels: dict[str, str] | None = None, **spec: Any) -> Obj:
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}]}]
    return {
        "metadata": {"name": name, "labels": labels or {}, "resourceVersion": "1"},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "later",
            **({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if on else {}),
            **spec,
        },
        "status": {"phase": "Available"},
    }


def wanting(name: str, *claims: str) -> Obj:
    return pod(name, volumes=[{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims])


class World:
    """Nodes a, b and c in zones 1, 2 and 3, and volumes."""

    def __init__(self, vector: bool, claims: list[Obj], volumes: list[Obj], limit: int = 0, provisioner: str = "") -> None:
        self.claims = {each["metadata"]["name"]: each for each in claims}
        self.volumes = {each["metadata"]["name"]: each for each in volumes}
        drivers = [{"name": "csi.test", "allocatable": {"count": limit}}] if limit else []
        later = {"volumeBindingMode": "WaitForFirstConsumer", "provisioner": provisioner or "kubernetes.io/no-provisioner"}
        self.handle = Handle(
            get_claim=lambda _namespace, name: self.claims.get(name),
            get_volume=self.volumes.get,
            volumes=self.volumes.values,
            get_class={"later": later, "now": {"volumeBindingMode": "Immediate"}}.get,
            get_csi_node=lambda _name: {"spec": {"drivers": drivers}},
        )
        self.framework = build(Profile(), self.handle)
        self.cache = Cache(vector_from=1 if vector else None)
        for number, name in enumerate("abc", 1):
            self.cache.set_node(node(name, labels={ZONE: str(number)}))

    def fits(self, obj: Obj) -> set[str] | str:
        cycle = self.cache.cycle(PodInfo(obj))
        try:
            return {each.name for each in decide(self.framework, cycle, rand=lambda: 0.0).feasible.nodes}
        except FitError as error:
            return str(error)


@pytest.fixture(params=[False, True], ids=["plain", "vector"])
def vector(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_bound_volume_demands_its_nodes_and_zones(vector: bool) -> None:
    local, zonal = volume("local", on="b"), volume("zonal", labels={ZONE: "1__3"})
    world = World(vector, [claim("l", volume="local"), claim("z", volume="zonal")], [local, zonal])
    assert world.fits(wanting("p", "l")) == {"b"}
    assert world.fits(wanting("p", "z")) == {"a", "c"}
    assert "node(s) had" in str(world.fits(wanting("p", "l", "z")))


def test_a_claim_must_be_there_and_bound_or_wait_for_its_consumer(vector: bool) -> None:
    world = World(vector, [claim("now", storage_class="now")], [])
    assert 'persistentvolumeclaim "none" not found' in str(world.fits(wanting("p", "none")))
    assert "pod has unbound immediate PersistentVolumeClaims" in str(world.fits(wanting("p", "now")))


def test_the_smallest_volume_that_is_large_enough_is_chosen_where_the_node_reaches_it(vector: bool) -> None:
    volumes = [volume("small", size="1Gi", on="a"), volume("fit", size="2Gi", on="b"), volume("large", size="9Gi", on="b")]
    world = World(vector, [claim("c", size="2Gi")], volumes)
    wanted = wanting("p", "c")
    assert world.fits(wanted) == {"b"}
    cycle = world.cache.cycle(PodInfo(wanted))
    found = decide(world.framework, cycle, rand=lambda: 0.0)
    binding = next(each for each in world.framework.plugins if isinstance(each, VolumeBinding))
    assert binding.reserve(cycle, found.node) is None
    assert [each["metadata"]["name"] for each in cycle.state["VolumeBinding"].volumes.values()] == ["fit"]
    # What is set aside for one claim is not given to another.
    world.claims["d"] = claim("d", size="2Gi")
    world.volumes.pop("large")
    assert "didn't find available persistent volumes to bind" in str(world.fits(wanting("q", "d")))
    binding.unreserve(cycle, found.node)
    assert world.fits(wanting("q", "d")) == {"b"}


def test_a_provisioner_makes_what_is_not_there(vector: bool) -> None:
    world = World(vector, [claim("c")], [], provisioner="csi.test")
    assert world.fits(wanting("p", "c")) == {"a", "b", "c"}


def test_a_single_pod_claim_has_one_user(vector: bool) -> None:
    only = claim("c", volume="v", mode="ReadWriteOncePod")
    world = World(vector, [only], [volume("v")])
    assert world.fits(wanting("p", "c")) == {"a", "b", "c"}
    world.cache.assume(PodInfo(wanting("p", "c")), "a")
    assert "ReadWriteOncePod access mode" in str(world.fits(wanting("q", "c")))


def test_a_node_holds_as_many_volumes_as_its_driver_says(vector: bool) -> None:
    claims = [claim(name, volume=name) for name in ("x", "y", "z")]
    world = World(
        vector, claims, [volume(name, csi={"driver": "csi.test", "volumeHandle": name}) for name in ("x", "y", "z")], limit=1
    )
    assert world.fits(wanting("p", "x")) == {"a", "b", "c"}
    world.cache.assume(PodInfo(wanting("p", "x")), "a")
    assert world.fits(wanting("q", "y")) == {"b", "c"}
    assert world.fits(wanting("r", "x")) == {"a", "b", "c"}  # The same volume once more is no more volumes.
    assert "exceed max volume count" in str(world.fits(wanting("s", "y", "z")))
