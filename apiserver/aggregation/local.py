"""The groups that this server serves itself, as APIServices: one for each version, without a Service, always available.

Those of built-in groups are made once, when they are missing, and left alone from then on, so that an administrator can point one of them elsewhere. Those of custom
resources come and go with their definitions.
"""

from __future__ import annotations

import asyncio

from kubeling.api import errors, resources
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object
from kubeling.apiserver.context import Context
from kubeling.apiserver.registry import pipeline
from kubeling.apiserver.registry.pipeline import Options
from kubeling.apiserver.registry.planting import plant
from kubeling.apiserver.registry.store import Change
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger

log = get_logger("aggregation")

_MANAGED = "kube-aggregator.kubernetes.io/automanaged"
_ON_START, _ALWAYS = "onstart", "true"
#: Group → its priority; of a version, 15 unless it is named here.
_GROUPS = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
    "metrics.k8s.io": 100,
}
_VERSIONS = {
    "v1": 1,
    "autoscaling/v2": 30,
    "flowcontrol.apiserver.k8s.io/v1": 21,
    "metrics.k8s.io/v1beta1": 100,
    "admissionregistration.k8s.io/v1beta1": 12,
    "admissionregistration.k8s.io/v1alpha1": 9,
}
_CUSTOM = (1000, 100)
#: The aggregator's own group is not among them.
_OWN = "apiregistration.k8s.io"


class Local:
    """Run :meth:`run` as a task."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._awake = asyncio.Event()
        self._awake.set()
        context.definitions.on_kinds.append(self._awake.set)

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(base=0.2, limit=10)
        started = False
        while True:
            await self._awake.wait()
            self._awake.clear()
            try:
                await self._reconcile(started)
                started = True
                backoff.reset()
            except (ApiError, StoreError) as error:
                log.warning("the APIServices of this server's groups could not be written", error=str(error))
                await self._context.clock.sleep(backoff.next())
                self._awake.set()

    async def _reconcile(self, started: bool) -> None:
        context = self._context
        await context.definitions.refresh()
        await context.aggregated.loaded()
        builtin = {(each.group, each.version) for each in (*resources.BUILTIN, *context.config.more_kinds) if each.group != _OWN}
        served = {(each.resource.group, each.resource.version) for each in context.kinds if not each.is_builtin}
        present = {each.name: each.object() for each in context.aggregated.cache.entries()}
        if not started and not (
            not present and await plant(context, [_local(group, version, _ON_START) for group, version in sorted(builtin)])
        ):
            for group, version in sorted(builtin):
                if f"{version}.{group}" not in present:
                    await self._create(group, version, _ON_START)
        for group, version in sorted(served - builtin):
            if f"{version}.{group}" not in present:
                await self._create(group, version, _ALWAYS)
        wanted = {f"{version}.{group}" for group, version in served | builtin}
        for name, obj in present.items():
            if (obj["metadata"].get("labels") or {}).get(_MANAGED) == _ALWAYS and name not in wanted:
                await self._remove(name)

    async def _create(self, group: str, version: str, managed: str) -> None:
        from kubeling.apiserver.bootstrap import SELF

        context, made = self._context, _local(group, version, managed)
        served = context.kinds.find(_OWN, "v1", "apiservices")
        assert served is not None
        try:
            await pipeline.create(
                context, served, context.kinds.store(resources.API_SERVICES), "", made, Options(SELF, "kube-apiserver")
            )
        except ApiError as error:
            if not errors.is_already_exists(error):
                raise

    async def _remove(self, name: str) -> None:
        async def mutate(obj: Object) -> Change:
            ours = (obj["metadata"].get("labels") or {}).get(_MANAGED) == _ALWAYS
            return Change(None if ours else obj)

        try:
            await self._context.kinds.store(resources.API_SERVICES).change("", name, mutate)
        except ApiError as error:
            if not errors.is_not_found(error):
                raise


def _local(group: str, version: str, managed: str) -> Object:
    """The APIService of a version that this server serves itself."""
    priorities = _CUSTOM if managed == _ALWAYS else (_GROUPS.get(group, 1000), _VERSIONS.get(f"{group}/{version}".strip("/"), 15))
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {_MANAGED: managed}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": priorities[0], "versionPriority": priorities[1]},
    }
