"""Which node uses which object, by way of the pods that are bound to it.

Secret, ConfigMap, claim and service account ← pod → node; Secret ← volume ← claim ← pod; VolumeAttachment → node. Only what pods say is followed, and only for pods that have
a node and are not over. Kept up by the changes in the watch caches; a question is one or two look-ups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from kubeling.api import errors, references, resources
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.cache.follower import Follower, follow
from kubeling.apiserver.cache.watcher import Event
from kubeling.apiserver.registry.kinds import Kinds

#: How long a request waits for what a server that has just been started has to learn.
_PATIENCE = 10.0
_MIRROR = "kubernetes.io/config.mirror"
_OVER = frozenset({"Succeeded", "Failed"})

#: Kind (plural), namespace, name.
Key = tuple[str, str, str]


class _Pod(NamedTuple):
    node: str
    over: bool
    #: Whether it has ephemeral containers, the one thing by which what it refers to can change.
    changeable: bool
    uses: tuple[Key, ...]


class _Volume(NamedTuple):
    claim: Key
    secrets: frozenset[tuple[str, str]]


class Graph:
    """Run :meth:`run` as a task."""

    def __init__(self, kinds: Kinds) -> None:
        self._pods: dict[str, _Pod] = {}
        #: What pods refer to → node → how many of its pods do.
        self._users: dict[Key, dict[str, int]] = {}
        self._volumes: dict[str, _Volume] = {}
        self._by_secret: dict[tuple[str, str], set[str]] = {}
        self._attachments: dict[str, str] = {}
        self._pod_store = kinds.store(resources.PODS)
        self._followers = [
            Follower(self._pod_store.cache, self._replace_pods, self._apply_pod),
            Follower(kinds.store(resources.PERSISTENT_VOLUMES).cache, self._replace_volumes, self._apply_volume),
            Follower(kinds.store(resources.VOLUME_ATTACHMENTS).cache, self._replace_attachments, self._apply_attachment),
        ]

    async def run(self) -> None:
        """Follow until cancelled."""
        await follow(self._followers)

    async def catch_up(self) -> None:
        """Until every change is known that was made before this call. Raises 503 or 504 where that takes too long."""
        try:
            async with asyncio.timeout(_PATIENCE):
                for each in self._followers:
                    await each.loaded.wait()
        except TimeoutError:
            raise errors.service_unavailable("it is not known yet what nodes use") from None
        # The revision that this waits for is the same for all kinds.
        await self._pod_store.cache.fresh()

    # Questions

    def uses(self, node: str, kind: str, namespace: str, name: str) -> bool:
        """Whether a pod on `node` needs the Secret, ConfigMap, claim or service account (`serviceaccounts`)."""
        if node in self._users.get((kind, namespace, name), ()):
            return True
        if kind != "secrets":
            return False
        return any(self.uses_volume(node, each) for each in self._by_secret.get((namespace, name), ()))

    def uses_volume(self, node: str, name: str) -> bool:
        """Whether a pod on `node` has a claim to the volume."""
        volume = self._volumes.get(name)
        return volume is not None and node in self._users.get(volume.claim, ())

    def runs(self, node: str, namespace: str, name: str) -> bool:
        """Whether the pod is bound to `node`."""
        pod = self._pods.get(self._pod_store.key(namespace, name))
        return pod is not None and pod.node == node

    def attaches(self, node: str, name: str) -> bool:
        """Whether the VolumeAttachment is of `node`."""
        return self._attachments.get(name) == node

    # Pods

    def _replace_pods(self, entries: Iterable[Entry]) -> None:
        self._pods.clear()
        self._users.clear()
        for entry in entries:
            self._put_pod(entry)

    def _apply_pod(self, event: Event) -> None:
        if event.type == "DELETED":
            self._drop_pod(event.entry.key)
        else:
            self._put_pod(event.entry)

    def _put_pod(self, entry: Entry) -> None:
        node = entry.fields.get("spec.nodeName", "")
        if not node:
            return
        over = entry.fields.get("status.phase", "") in _OVER
        known = self._pods.get(entry.key)
        changeable = b'"ephemeralContainers"' in entry.raw
        if known is not None:
            if known[:3] == (node, over, changeable) and not changeable:
                return
            self._drop_pod(entry.key)
        uses: tuple[Key, ...] = ()
        if not over:
            uses = _uses(entry)
            for key in uses:
                nodes = self._users.setdefault(key, {})
                nodes[node] = nodes.get(node, 0) + 1
        self._pods[entry.key] = _Pod(node, over, changeable, uses)

    def _drop_pod(self, key: str) -> None:
        known = self._pods.pop(key, None)
        if known is None:
            return
        for used in known.uses:
            nodes = self._users[used]
            if nodes[known.node] > 1:
                nodes[known.node] -= 1
                continue
            del nodes[known.node]
            if not nodes:
                del self._users[used]

    # Volumes

    def _replace_volumes(self, entries: Iterable[Entry]) -> None:
        self._volumes.clear()
        self._by_secret.clear()
        for entry in entries:
            self._put_volume(entry)

    def _apply_volume(self, event: Event) -> None:
        known = self._volumes.pop(event.entry.name, None)
        if known is not None:
            for secret in known.secrets:
                self._by_secret[secret].discard(event.entry.name)
                if not self._by_secret[secret]:
                    del self._by_secret[secret]
        if event.type != "DELETED":
            self._put_volume(event.entry)

    def _put_volume(self, entry: Entry) -> None:
        volume = entry.object()
        claim = (volume.get("spec") or {}).get("claimRef") or {}
        key = ("persistentvolumeclaims", claim.get("namespace") or "", claim.get("name") or "")
        secrets = references.volume_secrets(volume)
        self._volumes[entry.name] = _Volume(key, secrets)
        for secret in secrets:
            self._by_secret.setdefault(secret, set()).add(entry.name)

    # Attachments

    def _replace_attachments(self, entries: Iterable[Entry]) -> None:
        self._attachments = {entry.name: _attached_to(entry) for entry in entries}

    def _apply_attachment(self, event: Event) -> None:
        if event.type == "DELETED":
            self._attachments.pop(event.entry.name, None)
        else:
            self._attachments[event.entry.name] = _attached_to(event.entry)


def _attached_to(entry: Entry) -> str:
    return (entry.object().get("spec") or {}).get("nodeName") or ""


def _uses(entry: Entry) -> tuple[Key, ...]:
    pod = entry.object()
    if _MIRROR in (pod["metadata"].get("annotations") or {}):
        # What a node says of itself gives it no rights.
        return ()
    found = references.of_pod(pod)
    namespace = entry.namespace
    uses: list[Key] = [("secrets", namespace, each) for each in found.secrets]
    uses += [("configmaps", namespace, each) for each in found.config_maps]
    uses += [("persistentvolumeclaims", namespace, each) for each in found.claims]
    if found.account:
        uses.append(("serviceaccounts", namespace, found.account))
    return tuple(uses)
