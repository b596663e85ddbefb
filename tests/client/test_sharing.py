"""What objects have in common is kept once, and they stay what they were."""

from __future__ import annotations

from typing import Any

import orjson

from kubeling.client import sharing
from kubeling.client.sharing import Sharing


def pod(number: int) -> dict[str, Any]:
    name = f"p-{number}"
    mounts = [{"name": f"token-{number}", "mountPath": "/token"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "x"}, "managedFields": [{"manager": "m"}]},
        "spec": {
            "nodeName": f"node-{number % 2}",
            "containers": [{"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "1"}}, "volumeMounts": mounts}],
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "volumes": [{"name": f"token-{number}", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        },
        "status": {"podIP": f"10.0.0.{number}", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def decoded(number: int) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(orjson.dumps(pod(number)))
    return found


def test_equal_parts_are_one_and_nothing_else_changes() -> None:
    share = Sharing()
    first, second, third = (share(decoded(number)) for number in (1, 2, 3))
    for number, each in ((1, first), (2, second), (3, third)):
        wanted = pod(number)
        del wanted["metadata"]["managedFields"]
        assert each == wanted
    assert second["metadata"]["labels"] is third["metadata"]["labels"]
    for part in ("tolerations",):
        assert second["spec"][part] is third["spec"][part]
    one, other = second["spec"]["containers"][0], third["spec"]["containers"][0]
    assert one["resources"] is other["resources"]
    assert one["image"] is other["image"]
    assert second["spec"]["volumes"][0]["projected"] is third["spec"]["volumes"][0]["projected"]
    assert second["status"]["conditions"] is third["status"]["conditions"]
    assert one is not other
    assert second["spec"]["volumes"] is not third["spec"]["volumes"]


def test_what_is_of_one_object_alone_is_not_held(monkeypatch: Any) -> None:
    monkeypatch.setattr(sharing, "MOST_PARTS", 16)
    monkeypatch.setattr(sharing, "MOST_SEEN", 64)
    monkeypatch.setattr(sharing, "MOST_STRINGS", 64)
    share = Sharing()
    for number in range(1000):
        share(decoded(number))
    assert len(share._parts) + len(share._older) <= 32
    assert len(share._strings) <= 64
    assert not any(b"token-9" in key for key in [*share._parts, *share._older])
    before = len(share._parts)
    for _ in range(50):
        share(decoded(2000))
    assert len(share._parts) == before, "an object that changes often fills nothing"
    assert share(decoded(1))["metadata"]["labels"] is share(decoded(2))["metadata"]["labels"], "what is met often stays"
