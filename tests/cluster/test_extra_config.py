"""What `--extra-config` says, and on which daemons' lines it ends up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kubeling.cluster import extra, plan, staticpods
from kubeling.cluster.extra import ExtraConfigError
from kubeling.cluster.topology import ClusterSpec, Daemon, Layout, Topology, nodes_for, spec_from_json, spec_to_json


def topology_of(words: tuple[str, ...], tmp_path: Path, *, static_pods: bool = False) -> Topology:
    spec = ClusterSpec("t", workers=1, extra=words, static_pods=static_pods)
    return Topology(spec, nodes_for(spec), Layout(tmp_path / "home", tmp_path / "run"), {})


def daemon(topology: Topology, name: str) -> Daemon:
    return next(each for each in plan.daemons(topology, topology.of("control-plane")[0]) if each.name == name)


def test_words_become_flags_of_their_daemons_and_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audit.yaml").write_text("rules: []\n")
    words = extra.parse(
        [
            "apiserver.runtime-config=api/alpha=true",
            "apiserver.audit-policy-file=audit.yaml",
            "controller-manager.--node-monitor-grace-period=10s",
            "apiserver.authorization-mode=AlwaysAllow",
        ]
    )
    topology = topology_of(words, tmp_path)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(topology.spec)))) == topology.spec
    kept = topology.layout.extra / "1"
    assert daemon(topology, "apiserver").args[-3:] == (
        "--runtime-config=api/alpha=true",
        f"--audit-policy-file={kept}",
        "--authorization-mode=AlwaysAllow",
    )
    assert daemon(topology, "controllers").args[-1] == "--node-monitor-grace-period=10s"
    topology.layout.root.mkdir()
    extra.copy(words, topology.layout)
    assert kept.read_text() == "rules: []\n"


def test_a_static_pod_sees_the_files(tmp_path: Path) -> None:
    (tmp_path / "scheduler.yaml").touch()
    topology = topology_of(extra.parse([f"scheduler.config={tmp_path}/scheduler.yaml"]), tmp_path, static_pods=True)
    pod = staticpods.manifest(topology, daemon(topology, "scheduler"))
    assert {"path": str(topology.layout.extra / "0"), "type": "File"} in [each.get("hostPath") for each in pod["spec"]["volumes"]]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("runtime-config", "write COMPONENT.FLAG=VALUE"),
        ("apiserver=1", "write COMPONENT.FLAG=VALUE"),
        ("api.v=1", "there is no component 'api'; there are apiserver,"),
        ("kubelet.v=1", "--node-config"),
        ("scheduler.config=none.yaml", "there is no file /"),
    ],
)
def test_what_cannot_be_meant_is_refused(word: str, problem: str) -> None:
    with pytest.raises(ExtraConfigError, match=problem):
        extra.parse([word])


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("apiserver.nonsense=1", "apiserver: unrecognized arguments: --nonsense=1"),
        ("apiserver.runtime-config=v9=true", "argument --runtime-config: 'v9' is not known"),
        ("etcd.v=much", "etcd: argument --v: invalid int value: 'much'"),
    ],
)
def test_daemons_are_asked_whether_they_understand_it(word: str, problem: str) -> None:
    extra.check(extra.parse(["proxy.v=1"]), os.environ)
    with pytest.raises(ExtraConfigError, match=problem):
        extra.check(extra.parse([word]), os.environ)
