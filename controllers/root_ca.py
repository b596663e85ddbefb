"""Root CA publisher: each namespace has the ConfigMap `kube-root-ca.crt`, by which pods know the apiserver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeling.api.errors import ApiError, is_already_exists, is_namespace_terminating
from kubeling.api.meta import annotations_of, is_deleting, namespace_of
from kubeling.api.resources import CONFIG_MAPS, NAMESPACES
from kubeling.client.controller import Reconciler, Request
from kubeling.controllers.context import Context

NAME = "kube-root-ca.crt"
_DESCRIPTION = "kubernetes.io/description"
_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service "
    "IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)


class RootCaPublisher:
    def __init__(self, ctx: Context) -> None:
        self._client = ctx.client
        self._data = {"ca.crt": ctx.options.root_ca}
        self._namespaces = ctx.informers.informer(NAMESPACES)
        self._maps = ctx.informers.informer(CONFIG_MAPS, field_selector=f"metadata.name={NAME}")
        self._loop = Reconciler("root-ca-certificate-publisher", self.reconcile, workers=2, clock=ctx.clock)
        self._loop.watches(self._namespaces)
        self._loop.watches(self._maps, lambda config_map: (Request("", namespace_of(config_map)),))
        self.run = self._loop.run

    async def reconcile(self, request: Request) -> float | None:
        """Create the ConfigMap, or put back what somebody changed."""
        namespace = self._namespaces.store.get(request.name)
        if namespace is None or is_deleting(namespace):
            return None
        existing = self._maps.store.get(NAME, request.name)
        if existing is None:
            meta = {"name": NAME, "namespace": request.name, "annotations": {_DESCRIPTION: _TEXT}}
            try:
                await self._client.create(
                    CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": self._data}, request.name
                )
            except ApiError as error:
                if not (is_already_exists(error) or is_namespace_terminating(error)):
                    raise
        elif existing.get("data") != self._data or existing.get("binaryData"):
            meta = {**existing["metadata"], "annotations": {**annotations_of(existing), _DESCRIPTION: _TEXT}}
            await self._client.update(CONFIG_MAPS, {**existing, "metadata": meta, "data": self._data, "binaryData": {}})
        return None


def rootca(ctx: Context) -> Callable[[], Awaitable[None]]:
    """The publisher of the cluster's root CA."""
    return RootCaPublisher(ctx).run
