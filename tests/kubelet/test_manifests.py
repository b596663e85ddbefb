"""From a file to a static pod."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeling.kubelet.manifests import HASH, MIRROR, SOURCE, ManifestProblem, is_static, mirror_of, mirrors, static_pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YAML = b"""
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {a: b}}
spec:
  hostNetwork: true
  priorityClassName: system-node-critical
  containers: [{name: c, image: img, ports: [{containerPort: 80}]}]
"""


def made(data: bytes = YAML, path: str = "/m/web.yaml", node: str = "n1") -> dict[str, Any]:
    return static_pod(data, path, node, NOW)


def test_a_file_becomes_a_pod_of_this_node() -> None:
    pod = made()
    meta, spec = pod["metadata"], pod["spec"]
    assert (meta["name"], meta["namespace"], spec["nodeName"]) == ("web-n1", "default", "n1")
    assert meta["annotations"][SOURCE] == "file"
    assert meta["annotations"][HASH] == meta["uid"]
    assert len(meta["uid"]) == 32
    assert is_static(pod)
    assert spec["priority"] == 2_000_001_000
    assert spec["containers"][0]["ports"][0]["hostPort"] == 80
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert spec["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]


def test_the_uid_is_of_the_content_the_file_and_the_node() -> None:
    uid = made()["metadata"]["uid"]
    assert made()["metadata"]["uid"] == uid
    assert made(YAML.replace(b"img", b"other"))["metadata"]["uid"] != uid
    assert made(path="/m/other.yaml")["metadata"]["uid"] != uid
    assert made(node="n2")["metadata"]["uid"] != uid
    # How it is written down does not matter.
    assert made(YAML + b"\n# a remark\n")["metadata"]["uid"] == uid


def test_json_is_read_as_well() -> None:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "j"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert made(json.dumps(body).encode())["metadata"]["name"] == "j-n1"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "neither JSON nor YAML"),
        (b"kind: Pod\n", "not a Pod of v1"),
        (b"[1, 2]", "not a Pod of v1"),
        (b"\xff\xfe", "neither JSON nor YAML"),
        (YAML.replace(b"name: web,", b""), "metadata.name is missing"),
        (YAML.replace(b"name: c,", b"name: C_,"), "spec.containers[0].name"),
        (YAML.replace(b"containers: [{name: c, image: img, ports: [{containerPort: 80}]}]", b"containers: nothing"), "shape"),
        (YAML + b"  serviceAccountName: me\n", "service account"),
        (YAML + b"  volumes: [{name: s, secret: {secretName: x}}]\n", "volume of kind secret"),
        (YAML.replace(b"image: img,", b"image: img, envFrom: [{secretRef: {name: x}}],"), "environment"),
        (b"#" * (1024 * 1024 + 1), "more than"),
    ],
)
def test_what_is_no_static_pod_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(ManifestProblem, match=words.replace("[", r"\[")):
        made(data)


def test_the_mirror_names_the_version_that_it_mirrors() -> None:
    pod = made()
    mirror = mirror_of(pod, {"metadata": {"name": "n1", "uid": "node-uid"}})
    assert mirror["metadata"]["annotations"][MIRROR] == pod["metadata"]["uid"]
    assert mirror["metadata"]["ownerReferences"][0]["uid"] == "node-uid"
    assert "uid" not in mirror["metadata"]
    assert mirrors(pod, mirror)
    assert not mirrors(made(YAML.replace(b"img", b"other")), mirror)
