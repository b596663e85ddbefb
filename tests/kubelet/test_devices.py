"""Accounts of devices, and the choice of cpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeling.kubelet.cpus import Place, choose, exclusive, format_cpus, parse_cpus, reserved_cpus
from kubeling.kubelet.devices import DeviceAccounts, Grant, Offer

from .builders import container, pod

GPU = "example.test/gpu"


def accounts(path: Path, *ids: str) -> DeviceAccounts:
    found = DeviceAccounts(path / "checkpoint")
    found.offer(GPU, Offer(dict.fromkeys(ids, True)))
    return found


def test_capacity_allocatable_and_health(tmp_path: Path) -> None:
    found = accounts(tmp_path, "a", "b")
    found.offer(GPU, Offer({"a": True, "b": False}))
    assert (found.capacity(), found.allocatable()) == ({GPU: "2"}, {GPU: "1"})
    found.withdraw(GPU, forget=False)
    assert (found.capacity(), found.allocatable()) == ({GPU: "2"}, {GPU: "0"})
    found.withdraw(GPU, forget=True)
    assert (found.capacity(), found.allocatable()) == ({GPU: "0"}, {GPU: "0"})
    # A new kubelet does not know yet whether they are still there.
    assert DeviceAccounts(tmp_path / "checkpoint").capacity() == {GPU: "0"}


def test_a_device_has_one_owner_who_is_remembered(tmp_path: Path) -> None:
    found = accounts(tmp_path, "a", "b")
    grant = Grant(("a",), {"X": "1"}, {"note": "2"}, (("/in", "/out", True),), (("/dev/a", "/dev/zero", "rw"),), ("v/c=d",))
    found.record("u1", "c", GPU, grant)
    assert found.free(GPU, "u2", []) == ["b"]
    assert found.free(GPU, "u1", ["a"]) == ["a", "b"]
    again = DeviceAccounts(tmp_path / "checkpoint")
    assert again.grants("u1", "c") == {GPU: grant}
    again.keep_only({"u2"})
    assert DeviceAccounts(tmp_path / "checkpoint").grants("u1", "c") == {}


def test_what_a_pod_wants(tmp_path: Path) -> None:
    found = accounts(tmp_path, "a")
    one: dict[str, Any] = {"resources": {"limits": {GPU: "1", "cpu": "1", "unknown.test/x": "1"}}}
    wanting = pod(
        container("main", **one),
        container("none"),
        init=[container("init", **one), container("side", restartPolicy="Always", **one)],
    )
    assert found.wants(wanting) == [("init", GPU, 1, True), ("side", GPU, 1, False), ("main", GPU, 1, False)]


def test_lists_of_cpus() -> None:
    assert parse_cpus("0-2,5") == {0, 1, 2, 5}
    assert format_cpus({5, 0, 1, 2}) == "0-2,5"
    assert format_cpus(()) == ""
    with pytest.raises(ValueError, match="invalid literal"):
        parse_cpus("a")
    assert reserved_cpus("3", 5000, frozenset(range(4))) == {3}
    assert reserved_cpus("", 1500, frozenset(range(4))) == {0, 1}


#: Two sockets with two cores of two threads each: 0 and 4 are one core.
PLACES = {cpu: Place(cpu % 4 // 2, cpu % 4) for cpu in range(8)}


@pytest.mark.parametrize(
    ("available", "count", "chosen"),
    [
        (range(8), 4, "0-1,4-5"),
        (range(8), 2, "0,4"),
        (range(8), 3, "0-1,4"),
        # A core that is begun already is used up before a new one is broken.
        ([1, 2, 3, 5, 6, 7, 0], 1, "0"),
        # The socket with less room is filled first.
        ([1, 2, 3, 5, 6, 7], 2, "1,5"),
        ([0, 1], 2, "0-1"),
    ],
)
def test_which_cpus_are_chosen(available: Any, count: int, chosen: str) -> None:
    assert format_cpus(choose(available, PLACES, count)) == chosen


def test_who_has_cpus_to_itself() -> None:
    def asks(cpu: str, **more: str) -> dict[str, Any]:
        return container("c", resources={"limits": {"cpu": cpu, "memory": "1Gi", **more}})

    assert exclusive(pod(asks("2")), asks("2")) == 2
    assert exclusive(pod(asks("1500m")), asks("1500m")) == 0
    assert exclusive(pod(asks("2"), container("other")), asks("2")) == 0
