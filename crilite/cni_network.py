"""The pod network that CNI plugins make.

Before a sandbox is attached, its configuration and its arguments are written to ``<root>/cni/<sandbox>.json``, and afterwards the result as well: detaching
uses what was used for attaching, although the files in the configuration directory may have changed and the daemon may have been restarted or have
died in between. What is left of sandboxes that nobody knows is taken away after a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from kubeling.crilite import cni
from kubeling.crilite.attachment import Attachment
from kubeling.crilite.cni import CniError, Plugins
from kubeling.crilite.held import write_atomically
from kubeling.daemon.log import get_logger

log = get_logger("crilite.cni")

LINK = "eth0"


class CniNetwork:
    """The first network in `conf_dir`, by the plugins in `bin_dirs`. `cache` is a directory of our own."""

    def __init__(self, conf_dir: Path, bin_dirs: Sequence[Path], cache: Path) -> None:
        self._conf_dir = conf_dir
        self._plugins = Plugins(bin_dirs)
        self._cache = cache
        self._cidr = ""
        self._good: str = ""
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)

    def configure(self, cidr: str) -> None:
        self._cidr = cidr

    def problem(self) -> str:
        try:
            network = cni.first(self._conf_dir)
            described = json.dumps(network.raw(), sort_keys=True)
            if described != self._good:
                for plugin in network.plugins:
                    kind = str(plugin["type"])
                    known = self._plugins.versions(kind)
                    if network.version not in known:
                        return f"CNI plugin {kind} does not know version {network.version} of {network.name!r}: only {', '.join(known)}"
                self._good = described
            if network.has_status:
                for plugin in network.plugins:
                    self._plugins.run(str(plugin["type"]), "STATUS", {}, cni.config_for(network, plugin, {}))
        except CniError as error:
            return str(error)
        return ""

    def allocate(self, taken: Collection[str]) -> list[str]:
        return []

    def attach(self, one: Attachment) -> list[str]:
        network = cni.first(self._conf_dir)
        entry: dict[str, Any] = {
            "network": network.raw(),
            "environment": _environment(one),
            "capabilities": self._capabilities(one),
            "result": None,
        }
        self._save(one.id, entry)
        result: Any = None
        for plugin in network.plugins:
            config = cni.config_for(network, plugin, entry["capabilities"], result)
            result = self._plugins.run(str(plugin["type"]), "ADD", entry["environment"], config) or result
        entry["result"] = result
        self._save(one.id, entry)
        return cni.addresses(result, LINK)

    def detach(self, one: Attachment) -> None:
        entry = self._load(one.id)
        if entry is None:
            return
        if not os.path.exists(one.netns):
            entry["environment"]["CNI_NETNS"] = ""
        self._delete(one.id, entry)

    def _delete(self, name: str, entry: dict[str, Any]) -> None:
        network = cni.parse(entry["network"])
        for plugin in reversed(network.plugins):
            config = cni.config_for(network, plugin, entry["capabilities"], entry["result"])
            self._plugins.run(str(plugin["type"]), "DEL", entry["environment"], config)
        self._path(name).unlink(missing_ok=True)

    def check(self, one: Attachment) -> str:
        """What the plugins find wrong with a connection that was made; empty for nothing."""
        entry = self._load(one.id)
        if entry is None or entry["result"] is None:
            return "it is not known how it was connected"
        network = cni.parse(entry["network"])
        if not network.has_check:
            return ""
        try:
            for plugin in network.plugins:
                config = cni.config_for(network, plugin, entry["capabilities"], entry["result"])
                self._plugins.run(str(plugin["type"]), "CHECK", entry["environment"], config)
        except CniError as error:
            return str(error)
        return ""

    def retain(self, those: Sequence[Attachment]) -> None:
        known = {one.id for one in those}
        for path in sorted(self._cache.glob("*.json")):
            name = path.name.removesuffix(".json")
            entry = self._load(name) if name not in known else None
            if entry is None:
                if name not in known:
                    path.unlink(missing_ok=True)
                continue
            try:
                self._delete(name, {**entry, "environment": {**entry["environment"], "CNI_NETNS": ""}})
            except CniError as error:
                log.warning("what is left of a sandbox's network cannot be taken away", sandbox=name, error=error)
        for one in those:
            problem = self.check(one)
            if problem:
                log.warning("a pod's network is not as it was made", sandbox=one.id, problem=problem)
        self._collect(known)

    def _collect(self, known: set[str]) -> None:
        """Let plugins that can do so forget every attachment that we do not know, be it one that we never heard of."""
        with contextlib.suppress(CniError):
            network = cni.first(self._conf_dir)
            if not network.has_gc:
                return
            valid = [{"containerID": name, "ifname": LINK} for name in sorted(known)]
            for plugin in network.plugins:
                config = {**cni.config_for(network, plugin, {}), "cni.dev/valid-attachments": valid}
                self._plugins.run(str(plugin["type"]), "GC", {}, config)

    def _capabilities(self, one: Attachment) -> dict[str, Any]:
        """By the names of the conventions that come with the specification."""
        made: dict[str, Any] = {
            "portMappings": [
                {
                    "hostPort": port.host_port,
                    "containerPort": port.container_port,
                    "protocol": port.protocol,
                    "hostIP": port.host_ip,
                }
                for port in one.ports
            ],
            "io.kubernetes.cri.pod-annotations": dict(one.annotations),
        }
        if one.ingress or one.egress:
            # Rates in bits a second, bursts in bits: as much as the plugin can count where there is a rate, as upstream's runtimes say it.
            most = 2**31 - 1
            made["bandwidth"] = {
                "ingressRate": one.ingress,
                "ingressBurst": most if one.ingress else 0,
                "egressRate": one.egress,
                "egressBurst": most if one.egress else 0,
            }
        if any(one.dns.values()):
            made["dns"] = dict(one.dns)
        if one.cgroup:
            made["cgroupPath"] = one.cgroup
        if self._cidr:
            made["ipRanges"] = [[{"subnet": each}] for each in self._cidr.split(",")]
        return made

    def _path(self, name: str) -> Path:
        return self._cache / f"{name}.json"

    def _save(self, name: str, entry: dict[str, Any]) -> None:
        write_atomically(str(self._path(name)), json.dumps(entry).encode())

    def _load(self, name: str) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = json.loads(self._path(name).read_bytes())
            cni.parse(entry["network"])
            return entry if {"environment", "capabilities", "result"} <= set(entry) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _environment(one: Attachment) -> dict[str, str]:
    words = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": one.namespace,
        "K8S_POD_NAME": one.name,
        "K8S_POD_INFRA_CONTAINER_ID": one.id,
        "K8S_POD_UID": one.uid,
    }
    return {
        "CNI_CONTAINERID": one.id,
        "CNI_NETNS": one.netns,
        "CNI_IFNAME": LINK,
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in words.items()),
    }
