"""The names of the cluster: what each Service and its endpoints are called. Pure; kept up to date Service by Service."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.meta import name_of, namespace_of, spec_of

Obj = dict[str, Any]

DNS_VERSION = "1.1.0"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an SRV record points."""

    port: int
    host: str


@dataclass(slots=True)
class Name:
    """All that is known under one name. A name that only has names below it exists too, with nothing here."""

    v4: list[str] = field(default_factory=list)
    v6: list[str] = field(default_factory=list)
    srv: list[Target] = field(default_factory=list)
    txt: list[str] = field(default_factory=list)
    ptr: list[str] = field(default_factory=list)
    cname: str = ""

    def add(self, address: str) -> None:
        """Add an address of either family, once."""
        family = self.v6 if ":" in address else self.v4
        if address not in family:
            family.append(address)


class Records:
    """Lower-case names without the final dot → :class:`Name`. `domain` is the cluster's, such as "cluster.local"."""

    def __init__(self, domain: str) -> None:
        self.domain = domain.lower().strip(".")
        #: Raised at every change, so that cached answers are told from fresh ones.
        self.generation = 0
        self._by_service: dict[tuple[str, str], dict[str, Name]] = {}
        self._names: dict[str, dict[tuple[str, str], Name]] = {}
        self._below: dict[str, int] = {}
        self._fixed = {f"dns-version.{self.domain}": Name(txt=[DNS_VERSION])}
        self._namespaces: set[str] = set()

    def set_service(self, service: Obj | None, key: tuple[str, str], slices: Iterable[Obj]) -> None:
        """Take the state of the Service `key` (namespace, name); None for a Service that is gone."""
        made = self._names_of(service, list(slices)) if service is not None else {}
        old = self._by_service.pop(key, {})
        if made == old:
            if made:
                self._by_service[key] = made
            return
        self.generation += 1
        for name in old:
            self._names[name].pop(key)
            if not self._names[name]:
                del self._names[name]
            self._count(name, -1)
        for name, entry in made.items():
            self._names.setdefault(name, {})[key] = entry
            self._count(name, 1)
        if made:
            self._by_service[key] = made

    def set_namespaces(self, names: Iterable[str]) -> None:
        """The namespaces that exist: a pod's name is only valid below one of them."""
        fresh = set(names)
        if fresh != self._namespaces:
            self._namespaces = fresh
            self.generation += 1

    def find(self, name: str) -> Name | None:
        """What is known under `name`; None where the name does not exist."""
        if fixed := self._fixed.get(name):
            return fixed
        if name == f"ns.dns.{self.domain}":
            # What our NS and SOA records call the server; the others of it are the same ones.
            return self.find(f"kube-dns.kube-system.svc.{self.domain}") or Name()
        found = self._names.get(name)
        if found:
            return _merged(found.values())
        if pod := self._pod(name):
            return pod
        exists = name in self._below or name in (self.domain, *(f"{label}.{self.domain}" for label in ("svc", "pod", "dns")))
        return Name() if exists or self._is_namespace(name) else None

    def is_ours(self, name: str) -> bool:
        """Whether we are the authority for `name`."""
        return name == self.domain or name.endswith("." + self.domain) or (name.endswith(".arpa") and name in self._names)

    def _count(self, name: str, step: int) -> None:
        """Keep count of the names below each ancestor, since an ancestor exists as long as there are any."""
        parent = name.partition(".")[2]
        while parent:
            count = self._below.get(parent, 0) + step
            if count:
                self._below[parent] = count
            else:
                del self._below[parent]
            parent = parent.partition(".")[2]

    def _is_namespace(self, name: str) -> bool:
        for kind in ("svc", "pod"):
            suffix = f".{kind}.{self.domain}"
            if name.endswith(suffix) and name.removesuffix(suffix) in self._namespaces:
                return True
        return False

    def _pod(self, name: str) -> Name | None:
        """`10-244-1-5.default.pod.cluster.local` stands for that address, and `fd00-1--5…` for fd00:1::5."""
        suffix = f".pod.{self.domain}"
        if not name.endswith(suffix):
            return None
        dashed, _, namespace = name.removesuffix(suffix).partition(".")
        if namespace not in self._namespaces:
            return None
        parts = dashed.split("-")
        if len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts):
            return Name(v4=[".".join(parts)])
        try:
            return Name(v6=[str(ipaddress.IPv6Address(dashed.replace("-", ":")))])
        except ValueError:
            return None

    def _names_of(self, service: Obj, slices: list[Obj]) -> dict[str, Name]:
        spec = spec_of(service)
        base = f"{name_of(service)}.{namespace_of(service)}.svc.{self.domain}".lower()
        names: dict[str, Name] = {base: Name()}
        if spec.get("type") == "ExternalName":
            names[base].cname = str(spec.get("externalName") or "").rstrip(".").lower()
            return names
        addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        if addresses and addresses != ["None"]:
            for address in addresses:
                names[base].add(address)
                names[_reverse(address)] = Name(ptr=[base])
            for port in spec.get("ports") or []:
                self._add_srv(names, base, port, Target(int(port["port"]), base))
            return names
        self._headless(names, base, slices, publish_unready=bool(spec.get("publishNotReadyAddresses")))
        return names

    def _headless(self, names: dict[str, Name], base: str, slices: list[Obj], *, publish_unready: bool) -> None:
        for each in slices:
            for endpoint in each.get("endpoints") or []:
                if (endpoint.get("conditions") or {}).get("ready") is False and not publish_unready:
                    continue
                for address in endpoint.get("addresses") or []:
                    names[base].add(address)
                    host = f"{(endpoint.get('hostname') or address.replace('.', '-').replace(':', '-')).lower()}.{base}"
                    names.setdefault(host, Name()).add(address)
                    names.setdefault(_reverse(address), Name()).ptr = [host]
                    for port in each.get("ports") or []:
                        if port.get("port"):
                            self._add_srv(names, base, port, Target(int(port["port"]), host))

    @staticmethod
    def _add_srv(names: dict[str, Name], base: str, port: Obj, target: Target) -> None:
        if not port.get("name"):
            return
        name = f"_{port['name']}._{(port.get('protocol') or 'TCP')}.{base}".lower()
        entry = names.setdefault(name, Name())
        if target not in entry.srv:
            entry.srv.append(target)


def _merged(entries: Iterable[Name]) -> Name:
    """One name may belong to several Services (a pod's reverse name): all of their records."""
    listed = list(entries)
    if len(listed) == 1:
        return listed[0]
    merged = Name()
    for entry in listed:
        merged.v4 += entry.v4
        merged.v6 += entry.v6
        merged.srv += entry.srv
        merged.ptr += [name for name in entry.ptr if name not in merged.ptr]
        merged.cname = merged.cname or entry.cname
    return merged


def _reverse(address: str) -> str:
    if ":" in address:
        return ipaddress.ip_address(address).reverse_pointer
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"
