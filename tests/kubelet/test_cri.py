"""What is read of a pod when its sandboxes are known."""

from __future__ import annotations

from typing import Any

from kubeling.kubelet.cri import Runtime, RuntimeFailure
from kubeling.proto import cri_pb2

UID = "a-uid"


def answer(sandbox: str, attempt: int, *containers: tuple[str, int], stamp: int = 1) -> cri_pb2.PodSandboxStatusResponse:
    found = cri_pb2.PodSandboxStatusResponse(timestamp=stamp)
    found.status.id, found.status.metadata.attempt, found.status.metadata.name = sandbox, attempt, "web"
    for name, number in containers:
        status = found.containers_statuses.add(id=f"{name}-{number}", state=cri_pb2.CONTAINER_RUNNING)
        status.metadata.name, status.metadata.attempt = name, number
    return found


class Asked(Runtime):
    """A runtime without a connection: it answers what it was given, and says when everything is read."""

    def __init__(self, answers: dict[str, cri_pb2.PodSandboxStatusResponse]) -> None:
        self.pb = cri_pb2
        self.answers = answers
        self.whole = 0
        self._runtime = self

    PodSandboxStatus = None

    async def _call(self, method: Any, request: Any, timeout: float = 0) -> Any:
        try:
            return self.answers[request.pod_sandbox_id]
        except KeyError:
            raise RuntimeFailure("NOT_FOUND", "no such sandbox") from None

    async def pod(self, uid: str) -> Any:
        self.whole += 1


async def test_one_call_for_each_sandbox_tells_of_its_containers() -> None:
    runtime = Asked({"new": answer("new", 1, ("a", 0), ("a", 1)), "old": answer("old", 0, ("b", 0))})
    found = await runtime.pod_of(UID, ["old", "new"])
    assert runtime.whole == 0
    assert [each.id for each in found.sandboxes] == ["new", "old"]
    assert [(each.id, each.sandbox_id) for each in found.containers] == [("a-1", "new"), ("a-0", "new"), ("b-0", "old")]


async def test_everything_is_read_where_that_is_not_told_or_a_sandbox_is_gone() -> None:
    for answers, ids in (({"s": answer("s", 0, stamp=0)}, ["s"]), ({"s": answer("s", 0)}, ["s", "gone"]), ({}, [])):
        runtime = Asked(answers)
        await runtime.pod_of(UID, ids)
        assert runtime.whole == 1
