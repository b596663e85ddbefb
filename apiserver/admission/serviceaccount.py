"""ServiceAccount: every pod runs as an account of its namespace, and finds a token for it in its file system."""

from __future__ import annotations

from typing import Any

from kubeling.api import errors, names, resources
from kubeling.api.names import Random
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.cache.hub import Hub
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.daemon.clock import Clock

MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_MIRROR = "kubernetes.io/config.mirror"
#: The default account is made by a controller a moment after its namespace: as long may a pod wait for it.
_PATIENCE = 1.0
_TOKEN_SECONDS = 3607


class ServiceAccount(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds, hub: Hub, clock: Clock, random: Random) -> None:
        self._kinds = kinds
        self._hub = hub
        self._clock = clock
        self._random = random

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if attributes.resource.kind != "Pod" or attributes.operation != "CREATE" or attributes.subresource or pod is None:
            return
        if _MIRROR in (pod["metadata"].get("annotations") or {}):
            _check_mirror(attributes, pod)
            return
        spec = attributes.pod_spec
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = (await self._find(attributes, name)).object()
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        if _automounts(spec, account):
            self._mount(spec)

    async def _find(self, attributes: Attributes, name: str) -> Entry:
        store = self._kinds.store(resources.SERVICE_ACCOUNTS)
        until = self._clock.monotonic() + (_PATIENCE if name == "default" else 0)
        found = await store.peek(attributes.namespace, name)
        while found is None and (left := until - self._clock.monotonic()) > 0:
            # Any change of the store may be the one; nothing is asked meanwhile.
            await self._hub.wait_for(self._hub.revision + 1, left)
            found = store.cache.get(store.key(attributes.namespace, name))
        if found is None:
            why = f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found'
            raise errors.forbidden("", "pods", attributes.name, why)
        return found

    def _mount(self, spec: dict[str, Any]) -> None:
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        bare = [
            each for each in containers if not any(mount.get("mountPath") == MOUNT for mount in each.get("volumeMounts") or ())
        ]
        if not bare:
            return
        volume = next(
            (each["name"] for each in spec.get("volumes") or () if str(each.get("name", "")).startswith("kube-api-access-")), ""
        )
        if not volume:
            volume = "kube-api-access-" + names.suffix(self._random)
            spec["volumes"] = [*(spec.get("volumes") or ()), _volume(volume)]
        for container in bare:
            mount = {"name": volume, "readOnly": True, "mountPath": MOUNT}
            container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def _automounts(spec: dict[str, Any], account: dict[str, Any]) -> bool:
    """The pod's word counts before the account's; silence is consent."""
    for each in (spec, account):
        said = each.get("automountServiceAccountToken")
        if said is not None:
            return bool(said)
    return True


def _volume(name: str) -> dict[str, Any]:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 420}}


def _check_mirror(attributes: Attributes, pod: dict[str, Any]) -> None:
    """A node's own pods have no account."""
    if attributes.pod_spec.get("serviceAccountName"):
        raise errors.forbidden("", "pods", attributes.name, "a mirror pod may not reference service accounts")
