"""Thresholds, ranks and words of evictions."""

from __future__ import annotations

from typing import Any

import pytest

from kubeling.daemon.main import UsageError
from kubeling.kubelet import configfile
from kubeling.kubelet.__main__ import config_of, parse
from kubeling.kubelet.ranking import (
    Usage,
    eviction_message,
    has_storage_limit,
    local_storage_excess,
    pressure_refusal,
    rank,
)
from kubeling.kubelet.thresholds import DEFAULT_HARD, Observation, Pressure, Threshold, amount, look
from kubeling.kubelet.thresholds import parse as thresholds

GI = 1 << 30
MI = 1 << 20


def seen(available: int, capacity: int = 10 * GI) -> dict[str, Observation]:
    return {"memory.available": Observation(available, capacity)}


def test_defaults_are_upstreams() -> None:
    found = {each.signal: each.below.text for each in thresholds(DEFAULT_HARD, {}, {}, {})}
    assert found == {
        "memory.available": "100Mi",
        "nodefs.available": "10%",
        "nodefs.inodesFree": "5%",
        "imagefs.available": "15%",
        "imagefs.inodesFree": "5%",
    }


@pytest.mark.parametrize(
    ("hard", "soft", "words"),
    [
        ({"nonsense": "1"}, {}, "no signal"),
        ({"memory.available": "120%"}, {}, "between 0% and 100%"),
        ({"memory.available": "-1"}, {}, "negative"),
        ({}, {"memory.available": "1Gi"}, "no grace period"),
    ],
)
def test_thresholds_that_make_no_sense(hard: dict[str, str], soft: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        thresholds(hard, soft, {}, {})


def test_zero_is_no_threshold() -> None:
    assert thresholds({"memory.available": "0", "nodefs.available": "0%"}, {}, {}, {}) == ()


def test_hard_acts_at_once_soft_after_its_grace_period() -> None:
    both = thresholds({"memory.available": "1Gi"}, {"memory.available": "2Gi"}, {"memory.available": 30.0}, {})
    now = look(Pressure(), both, seen(3 * GI), 0, 60)
    assert not now.conditions
    assert not now.acting
    now = look(now, both, seen(2 * GI - 1), 10, 60)
    assert now.conditions == {"MemoryPressure"}
    assert now.acting == ()
    now = look(now, both, seen(2 * GI - 1), 40, 60)
    assert [each.grace for each in now.acting] == [30]
    now = look(now, both, seen(GI - 1), 50, 60)
    assert [each.grace for each in now.acting] == [0, 30]
    # Enough for a moment: the soft one begins anew.
    now = look(look(now, both, seen(3 * GI), 60, 60), both, seen(2 * GI - 1), 70, 60)
    assert now.acting == ()


def test_the_condition_stays_for_the_transition_period() -> None:
    hard = thresholds({"memory.available": "1Gi"}, {}, {}, {})
    now = look(Pressure(), hard, seen(0), 100, 60)
    now = look(now, hard, seen(2 * GI), 110, 60)
    assert not now.acting
    assert now.conditions == {"MemoryPressure"}
    assert look(now, hard, seen(2 * GI), 159, 60).conditions == {"MemoryPressure"}
    assert look(now, hard, seen(2 * GI), 160, 60).conditions == frozenset()


def test_the_minimum_reclaim_must_be_free_as_well() -> None:
    hard = thresholds({"memory.available": "1Gi"}, {}, {}, {"memory.available": "10%"})
    now = look(Pressure(), hard, seen(GI - 1), 0, 0)
    assert look(now, hard, seen(2 * GI - 1), 1, 0).acting
    assert not look(now, hard, seen(2 * GI), 1, 0).acting
    assert not look(Pressure(), hard, seen(2 * GI - 1), 1, 0).acting


def pod(name: str, *, request: str = "", limit: str = "", level: int = 0, **spec: Any) -> dict[str, Any]:
    resources: dict[str, Any] = {"requests": {"memory": request}} if request else {}
    if limit:
        resources["limits"] = {"ephemeral-storage": limit}
    containers = [{"name": "c", "resources": resources}]
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"containers": containers, "priority": level, **spec},
    }


def test_who_goes_first() -> None:
    pods = [
        pod("critical", level=2_000_000_000),
        pod("modest", request="100Mi"),
        pod("greedy", request="10Mi"),
        pod("greedier", request="10Mi"),
        pod("important", request="10Mi", level=10),
        pod("none"),
    ]
    sizes = {"critical": 999, "modest": 90, "greedy": 50, "greedier": 60, "important": 900, "none": 20}
    usage = {name: Usage(memory={"c": size * MI}) for name, size in sizes.items()}
    order = [each["metadata"]["name"] for each in rank("memory.available", pods, lambda each: usage[each["metadata"]["uid"]])]
    assert order == ["greedier", "greedy", "none", "important", "modest"]
    files = {name: Usage(disk={"c": size * MI}, inodes=-size, pids=size) for name, size in sizes.items()}
    by_disk = [each["metadata"]["name"] for each in rank("nodefs.available", pods, lambda each: files[each["metadata"]["uid"]])]
    assert by_disk == ["modest", "greedier", "greedy", "none", "important"]
    by_inodes = rank("nodefs.inodesFree", pods, lambda each: files[each["metadata"]["uid"]])
    assert by_inodes[0]["metadata"]["name"] == "none"
    by_pids = rank("pid.available", pods, lambda each: files[each["metadata"]["uid"]])
    assert by_pids[0]["metadata"]["name"] == "modest"


def test_the_words() -> None:
    threshold = Threshold("memory.available", amount("100Mi"))
    words = eviction_message(threshold, Observation(50 * MI, GI), pod("p", request="1Mi"), Usage(memory={"c": 3 * MI + 4096}))
    assert words == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container c was using 3076Ki, request is 1Mi, has larger consumption of memory. "
    )


def test_limits_of_local_storage() -> None:
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    limited = pod("p", volumes=volumes)
    assert has_storage_limit(limited)
    assert not has_storage_limit(pod("q", volumes=[{"name": "v", "emptyDir": {}}]))
    assert local_storage_excess(limited, Usage(volumes={"v": MI})) == ""
    assert local_storage_excess(limited, Usage(volumes={"v": MI + 1})) == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    strict = pod("p", limit="2Mi")
    assert has_storage_limit(strict)
    assert "total limit of containers 2Mi" in local_storage_excess(strict, Usage(disk={"c": MI}, volumes={"v": MI + 1}))
    strict["spec"]["containers"].append({"name": "d"})
    assert (
        local_storage_excess(strict, Usage(disk={"c": 3 * MI}))
        == 'Container c exceeded its local ephemeral storage limit "2Mi". '
    )


def test_whom_a_node_under_pressure_takes() -> None:
    memory, disk = frozenset({"MemoryPressure"}), frozenset({"DiskPressure"})
    assert pressure_refusal(pod("p"), frozenset()) is None
    assert pressure_refusal(pod("p"), memory) == ("Evicted", "The node had condition: [MemoryPressure]. ")
    assert pressure_refusal(pod("p", request="1Mi"), memory) is None
    assert pressure_refusal(pod("p", request="1Mi"), disk) == ("Evicted", "The node had condition: [DiskPressure]. ")
    assert pressure_refusal(pod("p", level=2_000_000_000), disk) is None
    tolerant = pod("p", tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}])
    assert pressure_refusal(tolerant, memory) is None
    assert pressure_refusal(tolerant, disk) is not None


def test_configuration_files_are_merged_and_flags_win(tmp_path: Any) -> None:
    head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    (tmp_path / "10.conf").write_text(
        head + "maxPods: 5\nevictionHard: {memory.available: 1Gi, pid.available: '7'}\nclusterDNS: [10.0.0.1]\n"
    )
    (tmp_path / "20.conf").write_text(head + "evictionHard: {memory.available: 2Gi}\nsystemReserved: {cpu: 100m}\nnonsense: 1\n")
    logs = "containerLogMaxSize: 1Mi\ncontainerLogMaxFiles: 3\nallowedUnsafeSysctls: [net.core.*, kernel.msg*]\n"
    (tmp_path / "25.conf").write_text(head + logs)
    (tmp_path / "other.txt").write_text("not read")
    config = config_of(parse(["--kubeconfig=x", f"--config-dir={tmp_path}", "--max-pods=9"]))
    assert {each.signal: each.below.text for each in config.thresholds} == {"memory.available": "2Gi", "pid.available": "7"}
    assert (config.max_pods, config.cluster_dns, config.system_reserved) == (9, ("10.0.0.1",), {"cpu": "100m"})
    assert (config.log_max_size, config.log_max_files) == (1024 * 1024, 3)
    assert config.unsafe_sysctls == ("net.core.*", "kernel.msg*")
    for flag in ("--container-log-max-files=1", "--container-log-max-size=much", "--container-log-max-size=0"):
        with pytest.raises(UsageError, match=flag.partition("=")[0]):
            config_of(parse(["--kubeconfig=x", flag]))
    (tmp_path / "30.conf").write_text("kind: Pod\n")
    with pytest.raises(configfile.ConfigProblem, match=r"30\.conf is not a KubeletConfiguration"):
        configfile.read("", str(tmp_path))
