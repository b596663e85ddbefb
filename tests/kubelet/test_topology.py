"""Which NUMA nodes are chosen for a container, and who is turned away."""

from __future__ import annotations

from pathlib import Path

from kubeling.kubelet.topology import Hint, cpu_nodes, hints, merge

BOTH = frozenset({0, 1})
ZERO, ONE = frozenset({0}), frozenset({1})
CPUS = {cpu: {cpu // 2} for cpu in range(4)}


def test_hints_are_the_sets_that_would_do() -> None:
    assert hints(CPUS, [0, 1, 2, 3], 2) == [Hint(ZERO, True), Hint(ONE, True), Hint(BOTH, False)]
    # What is free now is on node 1; that one node could do is known from what there is at all.
    assert hints(CPUS, [1, 2, 3], 2) == [Hint(ONE, True), Hint(BOTH, False)]
    assert hints(CPUS, [1, 2], 2) == [Hint(BOTH, False)]
    # More than any one node has: two are the best there is.
    assert hints(CPUS, [0, 1, 2, 3], 3) == [Hint(BOTH, True)]
    assert hints(CPUS, [0], 2) == []
    assert hints({"a": ()}, ["a"], 1) is None


def test_what_all_can_serve_is_chosen() -> None:
    cpus, device = hints(CPUS, [1, 2, 3], 1), [Hint(ONE, True), Hint(BOTH, False)]
    for policy in ("best-effort", "restricted", "single-numa-node"):
        assert merge(policy, [cpus, device], BOTH) == (ONE, True)
    # Nobody minds: anything will do, and nobody is turned away.
    for policy in ("best-effort", "restricted", "single-numa-node", "none"):
        assert merge(policy, [None, None], BOTH) == (BOTH, True)


def test_policies_differ_where_there_is_nothing_that_all_like() -> None:
    cpus, device = [Hint(ZERO, True), Hint(BOTH, False)], [Hint(ONE, True), Hint(BOTH, False)]
    assert merge("best-effort", [cpus, device], BOTH)[1]
    assert not merge("restricted", [cpus, device], BOTH)[1]
    assert not merge("single-numa-node", [cpus, device], BOTH)[1]
    # Two nodes are the best that there is: restricted is content, single-numa-node is not.
    wide = [Hint(BOTH, True)]
    assert merge("restricted", [wide, None], BOTH) == (BOTH, True)
    assert not merge("single-numa-node", [wide, None], BOTH)[1]
    # It cannot be had at all.
    assert not merge("restricted", [[]], BOTH)[1]


def test_where_cpus_are(tmp_path: Path) -> None:
    for node, cpus in (("node0", "0-1"), ("node1", "2-3")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "cpulist").write_text(cpus + "\n")
    assert cpu_nodes([0, 2, 3], tmp_path) == {0: ZERO, 2: ONE, 3: ONE}
    assert cpu_nodes([0], tmp_path / "nothing") == {}
