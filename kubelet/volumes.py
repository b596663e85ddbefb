"""The volumes of pods: made before their containers, kept up to date while they run, and taken away after them.

`ensure` may be called as often as one likes: it does only what is missing, and rewrites the files of a projection when what they are made of has
changed. Nothing is remembered that is not on disk too, so a restarted kubelet goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kubeling.api import quantity
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, metadata_of, namespace_of, spec_of, uid_of
from kubeling.api.resources import CONFIG_MAPS, SECRETS
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.kubelet import atomic, hostmounts, projection
from kubeling.kubelet.claims import Claims, Held, fs_group
from kubeling.kubelet.convert import BindMount
from kubeling.kubelet.csi_volumes import CSIVolumes
from kubeling.kubelet.devices import Grant
from kubeling.kubelet.env import ConfigError, expand
from kubeling.kubelet.hostpaths import VolumeProblem, host_path
from kubeling.kubelet.objects import NotSynced, ObjectCache, Reference
from kubeling.kubelet.tokens import TokenSource
from kubeling.kubelet.volumestats import VolumeStats

__all__ = ["KINDS", "VolumeManager", "VolumeProblem", "host_path", "is_held", "references_of"]

KINDS = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}
_PLUGINS = {
    "emptyDir": "empty-dir",
    "configMap": "configmap",
    "secret": "secret",
    "downwardAPI": "downward-api",
    "projected": "projected",
}
#: Volumes whose files hold secrets, or that are small: never on disk.
_IN_MEMORY = ("secret", "projected", "downwardAPI")


def is_recursive(mount: Mapping[str, Any], possible: bool) -> bool:
    """Whether a mount is to be read-only all the way down. ConfigError where it has to and cannot (KEP-3857)."""
    mode = mount.get("recursiveReadOnly") or "Disabled"
    if mode == "Enabled" and not possible:
        raise ConfigError(f'volume "{mount["name"]}" requested recursive read-only mode, but it is not supported by the runtime')
    return mode != "Disabled" and possible and bool(mount.get("readOnly"))


class VolumeManager:
    """Paths: `<pods dir>/<uid>/volumes/kubernetes.io~<plugin>/<volume>`, as upstream's."""

    def __init__(
        self,
        pods_dir: Path,
        client: Client,
        objects: ObjectCache,
        tokens: TokenSource,
        *,
        node_name: str,
        host_ips: Callable[[], tuple[str, ...]],
        allocatable: Callable[[], Mapping[str, str]],
        claims: Claims,
        csi: CSIVolumes,
        stats: VolumeStats,
        mounting: bool = True,
    ) -> None:
        self._pods_dir = pods_dir
        self._client = client
        self._objects = objects
        self._tokens = tokens
        self._node_name = node_name
        self._host_ips = host_ips
        self._allocatable = allocatable
        self._claims = claims
        self._csi = csi
        self._stats = stats
        self._mounting = mounting
        #: uid → volume → where it lies.
        self._paths: dict[str, dict[str, Path]] = {}
        #: uid → volume → what drivers have of it.
        self._held: dict[str, dict[str, Held]] = {}
        #: uid → when the first of its tokens has to be replaced.
        self._refresh: dict[str, datetime] = {}

    @property
    def pods_dir(self) -> Path:
        return self._pods_dir

    def pod_dir(self, uid: str) -> Path:
        return self._pods_dir / uid

    def refresh_at(self, uid: str) -> datetime | None:
        """When `ensure` must be called again even if nothing changes."""
        return self._refresh.get(uid)

    async def ensure(self, pod: Object, pod_ips: list[str]) -> bool:
        """Set up all volumes, or bring them up to date; whether any file changed. VolumeProblem names the first that fails."""
        uid = uid_of(pod)
        paths = self._paths.setdefault(uid, {})
        self._refresh.pop(uid, None)
        changed = False
        for volume in spec_of(pod).get("volumes") or ():
            name = volume["name"]
            try:
                if volume.get("image") is not None:
                    continue  # The runtime mounts it, see Starter.
                if projection.is_projection(volume):
                    path, wrote = await self._projection(pod, volume, pod_ips)
                    changed = changed or wrote
                    paths[name] = path
                elif is_held(volume):
                    paths[name] = await self._hold(pod, volume)
                elif name not in paths:
                    paths[name] = self._other(pod, volume)
            except (ConfigError, NotSynced, ApiError, ConnectionFailed, OSError, ValueError, VolumeProblem) as error:
                raise VolumeProblem(f'MountVolume.SetUp failed for volume "{name}" : {_words(error)}') from error
        return changed

    def mounts(
        self,
        pod: Object,
        container: Mapping[str, Any],
        environment: Mapping[str, str],
        images: Mapping[str, str],
        *,
        recursive: bool = False,
    ) -> list[BindMount]:
        """The volume mounts of a container; `images` are the runtime's names of those that are images, `recursive` is whether it can make mounts
        read-only all the way down. ConfigError where one cannot be had."""
        uid = uid_of(pod)
        paths = self._paths.get(uid, {})
        volumes = {each["name"]: each for each in spec_of(pod).get("volumes") or ()}
        held = self._held.get(uid, {})
        found: list[BindMount] = []
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            name = mount["name"]
            if name in images:
                found.append(BindMount(mount["mountPath"], "", read_only=True, image=images[name]))
                continue
            if name not in paths or (name in held and held[name].block):
                raise ConfigError(f'cannot find volume "{name}" to mount into container "{container["name"]}"')
            host = str(paths[name])
            sub = mount.get("subPath") or ""
            if mount.get("subPathExpr"):
                sub = expand(mount["subPathExpr"], environment)
                if "$(" in sub:
                    raise ConfigError(f"missing value for {sub}")
            if sub:
                host = self._sub_path(uid, paths[name], name, container["name"], index, sub)
            found.append(
                BindMount(
                    mount["mountPath"],
                    host,
                    read_only=bool(mount.get("readOnly")) or projection.is_projection(volumes.get(name) or {}),
                    propagation=mount.get("mountPropagation") or "None",
                    recursive=is_recursive(mount, recursive),
                )
            )
        return found

    def block_devices(self, pod: Object, container: Mapping[str, Any]) -> list[Grant]:
        """The volumes of volumeMode Block that a container has as devices. ConfigError where one cannot be had."""
        held = self._held.get(uid_of(pod), {})
        nodes = []
        for each in container.get("volumeDevices") or ():
            name = each["name"]
            if name not in held or not held[name].block:
                raise ConfigError(f'cannot find volume "{name}" to pass into container "{container["name"]}"')
            permissions = "r" if held[name].read_only else "mrw"
            nodes.append((str(each["devicePath"]), str(held[name].path), permissions))
        return [Grant((), nodes=tuple(nodes))] if nodes else []

    def _sub_path(self, uid: str, base: Path, volume: str, container: str, index: int, sub: str) -> str:
        if sub.startswith("/") or ".." in sub.split("/"):
            raise ConfigError(f'failed to prepare subPath for volumeMount "{volume}" of container "{container}"')
        target = self.pod_dir(uid) / "volume-subpaths" / volume / container / str(index)
        try:
            if not base.is_dir():
                raise NotADirectoryError(20, "not a directory", str(base))
            return hostmounts.pin(base, sub, target if self._mounting else None)
        except OSError as error:
            words = f'failed to prepare subPath for volumeMount "{volume}" of container "{container}": {error}'
            raise ConfigError(words) from error

    async def usage(self, uid: str, namespace: str) -> list[dict[str, Any]]:
        """How full the pod's volumes are, as `/stats/summary` says it."""
        return await self._stats.of_pod(uid, namespace, dict(self._paths.get(uid) or {}), dict(self._held.get(uid) or {}))

    async def teardown(self, uid: str) -> None:
        """Unmount and delete everything of the pod on disk. OSError where something holds on."""
        self._paths.pop(uid, None)
        self._refresh.pop(uid, None)
        self._held.pop(uid, None)
        self._stats.forget(uid)
        self._tokens.forget(uid)
        folder = self.pod_dir(uid)
        if folder.exists():
            # What is pinned of a volume goes before the volume.
            await asyncio.to_thread(hostmounts.unmount_under, folder / "volume-subpaths")
            await self._csi.take_back(uid)
            self._claims.use_changed()
            # A volume may hold a million files.
            await asyncio.to_thread(hostmounts.remove_tree, folder)

    def left_behind(self) -> list[str]:
        """The uids of all pods that have something on disk."""
        try:
            return [each.name for each in self._pods_dir.iterdir() if each.is_dir()]
        except FileNotFoundError:
            return []

    # -- each sort of volume ---------------------------------------------------------------------------------------------------------

    def _place(self, pod: Object, volume: Mapping[str, Any], field: str) -> Path:
        return self.pod_dir(uid_of(pod)) / "volumes" / f"kubernetes.io~{_PLUGINS[field]}" / str(volume["name"])

    async def _projection(self, pod: Object, volume: Mapping[str, Any], pod_ips: list[str]) -> tuple[Path, bool]:
        uid, namespace = uid_of(pod), namespace_of(pod)
        objects: dict[tuple[str, str], Object | None] = {}
        tokens: dict[tuple[str, int], str] = {}

        async def fetch(kind: str, name: str) -> None:
            objects[kind, name] = await self._objects.get(Reference(KINDS[kind], namespace, name))

        async def request(audience: str, seconds: int) -> None:
            token = await self._tokens.get(pod, audience, seconds)
            tokens[audience, seconds] = token.text
            self._look_at(uid, token.refresh_at)

        await _all(
            *(fetch(*each) for each in projection.references(volume)), *(request(*each) for each in projection.tokens(volume))
        )
        inputs = projection.Inputs(
            pod,
            lookup=lambda kind, name: objects.get((kind, name)),
            token=lambda audience, seconds: tokens[audience, seconds],
            node_name=self._node_name,
            host_ips=self._host_ips(),
            allocatable=self._allocatable(),
            pod_ips=pod_ips,
        )
        files = projection.payload(volume, inputs)
        field = next(each for each in _PLUGINS if volume.get(each) is not None)
        path = self._place(pod, volume, field)
        group = fs_group(pod)
        if not path.exists():
            path.mkdir(parents=True)
        if field in _IN_MEMORY and self._mounting:
            hostmounts.mount_tmpfs(path)
        if not path.joinpath("..data").is_symlink():
            if group is not None:
                hostmounts.chown(path, None, group)
            path.chmod(0o777 if group is None else 0o2777)
        return path, atomic.write(path, files, group)

    async def _hold(self, pod: Object, volume: Mapping[str, Any]) -> Path:
        """A claim, or an inline volume of a CSI driver."""
        uid, name = uid_of(pod), volume["name"]
        held = self._held.setdefault(uid, {})
        if name in held:
            await self._claims.look_again(pod, held[name])
        elif volume.get("csi") is not None:
            held[name] = await self._claims.inline(pod, volume)
        elif volume.get("persistentVolumeClaim") is not None:
            source = volume["persistentVolumeClaim"]
            held[name] = await self._claims.claim(pod, source["claimName"], read_only=bool(source.get("readOnly")))
        else:
            held[name] = await self._claims.claim(pod, f"{metadata_of(pod)['name']}-{name}")
        self._look_at(uid, held[name].again)
        return held[name].path

    def _look_at(self, uid: str, when: datetime | None) -> None:
        known = self._refresh.get(uid)
        if when is not None:
            self._refresh[uid] = when if known is None else min(known, when)

    def _other(self, pod: Object, volume: Mapping[str, Any]) -> Path:
        if volume.get("emptyDir") is not None:
            return self._empty_dir(pod, volume)
        if volume.get("hostPath") is not None:
            source = volume["hostPath"]
            return host_path(source["path"], source.get("type") or "")
        kind = next((key for key, value in volume.items() if key != "name" and value is not None), "none")
        raise VolumeProblem(f"no volume plugin matched: this node has no support for {kind} volumes")

    def _empty_dir(self, pod: Object, volume: Mapping[str, Any]) -> Path:
        source = volume["emptyDir"]
        path = self._place(pod, volume, "emptyDir")
        fresh = not path.exists()
        if fresh:
            path.mkdir(parents=True)
        medium = source.get("medium") or ""
        group = fs_group(pod)
        if medium == "Memory":
            size = quantity.units(source.get("sizeLimit"))
            if self._mounting:
                fresh = not os.path.ismount(path)
                hostmounts.mount_tmpfs(path, size)
        elif medium:
            raise VolumeProblem(f"the medium {medium} is not supported by this node")
        if fresh:
            path.chmod(0o777)
            if group is not None:
                hostmounts.chown(path, None, group)
                path.chmod(0o2777)
        return path


def is_held(volume: Mapping[str, Any]) -> bool:
    """Whether a volume is somebody else's, and is asked for by its claim or of its driver."""
    return any(volume.get(each) is not None for each in ("persistentVolumeClaim", "ephemeral", "csi"))


def references_of(pod: Object) -> set[Reference]:
    """Every object that the pod's volumes, environments and pulls need."""
    spec, namespace = spec_of(pod), namespace_of(pod)
    found: set[Reference] = set()
    for volume in spec.get("volumes") or ():
        for kind, name in projection.references(volume):
            found.add(Reference(KINDS[kind], namespace, name))
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            for each in container.get("envFrom") or ():
                for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if each.get(key):
                        found.add(Reference(KINDS[kind], namespace, each[key]["name"]))
            for each in container.get("env") or ():
                source = each.get("valueFrom") or {}
                for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if source.get(key):
                        found.add(Reference(KINDS[kind], namespace, source[key]["name"]))
    for each in spec.get("imagePullSecrets") or ():
        if each.get("name"):
            found.add(Reference(SECRETS, namespace, each["name"]))
    return found


async def _all(*work: Any) -> None:
    """Run together; the first failure is raised when all have ended."""
    for each in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
