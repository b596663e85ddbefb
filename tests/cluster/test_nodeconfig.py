"""What `--node-config` says of the kubelets and of crilite, and where it ends up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubeling.cluster import nodeconfig, plan
from kubeling.cluster.nodeconfig import NodeConfigError
from kubeling.cluster.topology import ClusterSpec, Layout, Topology, nodes_for, spec_from_json, spec_to_json


def test_a_file_becomes_flags_and_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").touch()
    (tmp_path / "net.d").mkdir()
    (tmp_path / "nodes.yaml").write_text("""
crilite:
  image-policy: policy.yaml
  registry-mirror: ["docker.io=https://one.example", "*=https://two.example"]
  cni-conf-dir: ./net.d
  max-concurrent-downloads: 5
kubelet:
  maxPods: 7
  systemReserved: {memory: 100Mi}
""")
    flags, kubelet = nodeconfig.load(tmp_path / "nodes.yaml")
    assert flags == (
        f"--image-policy={tmp_path}/policy.yaml",
        "--registry-mirror=docker.io=https://one.example",
        "--registry-mirror=*=https://two.example",
        f"--cni-conf-dir={tmp_path}/net.d",
        "--max-concurrent-downloads=5",
    )
    spec = ClusterSpec("t", workers=1, runtime_flags=flags, kubelet_config=kubelet)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec
    topology = Topology(spec, nodes_for(spec), Layout(tmp_path / "home", tmp_path / "run"), {})
    worker = topology.of("worker")[0]
    crilite = next(each for each in plan.daemons(topology, worker) if each.name == "crilite")
    assert set(flags) <= set(crilite.args)
    nodeconfig.write(topology, worker)
    folder = topology.layout.node(worker.name) / nodeconfig.FOLDER
    written = [json.loads(each.read_text()) for each in sorted(folder.glob("*.conf"))]
    assert [each["kind"] for each in written] == ["KubeletConfiguration"] * 2
    assert written[1]["maxPods"] == 7


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "a mapping with"),
        ({"crillite": {}}, "a mapping with"),
        ({"kubelet": ["maxPods"]}, "each is a mapping"),
        ({"crilite": {"root": "/x"}}, "nothing can be said of 'root'"),
        ({"crilite": {"image-policy": "none.yaml"}}, "there is no /nowhere/none.yaml"),
        ({"crilite": {"registry-mirror": {"docker.io": "https://x"}}}, "text, a number, or a list"),
    ],
)
def test_what_cannot_be_meant_is_said(found: Any, words: str) -> None:
    with pytest.raises(NodeConfigError, match=words):
        nodeconfig.parse(found, Path("/nowhere"))
