"""What a pod network is told of a sandbox: who it is, and what it wants of the network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubeling.crilite.errors import InvalidArgument
from kubeling.proto import cri_pb2

_PROTOCOLS = {cri_pb2.TCP: "tcp", cri_pb2.UDP: "udp", cri_pb2.SCTP: "sctp"}
_INGRESS, _EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
#: What upstream accepts, in bits a second.
_SLOWEST, _FASTEST = 10**3, 10**15


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that leads to the pod. An empty `host_ip` stands for every address of the node."""

    protocol: str
    host_ip: str
    host_port: int
    container_port: int


@dataclass(frozen=True, slots=True)
class Attachment:
    id: str
    #: The file of its network namespace.
    netns: str
    #: The addresses that were allocated for it, one of each family, the main one first; none where the plugin chooses.
    ips: tuple[str, ...] = ()
    name: str = ""
    namespace: str = ""
    uid: str = ""
    ports: tuple[HostPort, ...] = ()
    #: Bits a second that may come in and go out, 0 for no limit.
    ingress: int = 0
    egress: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    dns: Mapping[str, list[str]] = field(default_factory=dict)
    cgroup: str = ""


def attachment(name: str, config: cri_pb2.PodSandboxConfig, netns: str, ips: Iterable[str], cgroup: str) -> Attachment:
    """From a sandbox's configuration; what it asks for and cannot be understood is an InvalidArgument."""
    dns = config.dns_config
    return Attachment(
        id=name,
        netns=netns,
        ips=tuple(ips),
        name=config.metadata.name,
        namespace=config.metadata.namespace,
        uid=config.metadata.uid,
        ports=tuple(
            HostPort(_PROTOCOLS[one.protocol], _address(one.host_ip), one.host_port, one.container_port)
            for one in config.port_mappings
            if one.host_port
        ),
        ingress=_rate(config.annotations, _INGRESS),
        egress=_rate(config.annotations, _EGRESS),
        annotations=dict(config.annotations),
        dns={"servers": list(dns.servers), "searches": list(dns.searches), "options": list(dns.options)},
        cgroup=cgroup,
    )


def _address(text: str) -> str:
    return "" if text in ("", "0.0.0.0", "::") else text


def _rate(annotations: Mapping[str, str], name: str) -> int:
    text = annotations.get(name, "")
    if not text:
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([kMGTP]i?|Ki)?", text)
    rate = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if not _SLOWEST <= rate <= _FASTEST:
        raise InvalidArgument(f"annotation {name}: {text!r} is not a rate between 1k and 1P bits a second")
    return rate
