"""DefaultBinder: the Binding is posted to the apiserver, which takes it only for a pod that has no node yet."""

from __future__ import annotations

from kubeling.api.resources import PODS
from kubeling.scheduler.handle import Handle
from kubeling.scheduler.plugin import Plugin
from kubeling.scheduler.types import Cycle


class DefaultBinder(Plugin):
    name = "DefaultBinder"

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def bind(self, cycle: Cycle, node: str) -> bool:
        pod, client = cycle.pod, self._handle.client
        assert client is not None, "a scheduler that binds has a client"
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await client.create(PODS, body, pod.namespace, name=pod.name, subresource="binding")
        return True
