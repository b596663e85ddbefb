"""What goes into a pod's resolv.conf and /etc/hosts, and what it is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.meta import Object, metadata_of, namespace_of, spec_of

MAX_SERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
_HOSTNAME_LIMIT = 63
_FQDN_LIMIT = 64


@dataclass(frozen=True, slots=True)
class DNS:
    """The three kinds of lines of resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeDNS:
    """What this node knows: the cluster's servers and domain, and its own resolv.conf."""

    servers: tuple[str, ...] = ()
    domain: str = ""
    host: DNS = field(default_factory=DNS)


def parse_resolv_conf(text: str) -> DNS:
    """The later `search` and `options` lines replace earlier ones, as the resolver does it."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if not words:
            continue
        match words[0]:
            case "nameserver" if len(words) > 1:
                servers.append(words[1])
            case "search":
                searches = tuple(each.rstrip(".") or "." for each in words[1:])
            case "options":
                options = tuple(words[1:])
    return DNS(tuple(servers), searches, options)


def pod_dns(pod: Object, node: NodeDNS) -> DNS:
    """By the pod's dnsPolicy, with its dnsConfig added."""
    spec = spec_of(pod)
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))
    if policy == "None":
        base = DNS()
    elif cluster and node.servers:
        namespace = namespace_of(pod)
        own = [f"{namespace}.svc.{node.domain}", f"svc.{node.domain}", node.domain] if node.domain else []
        base = DNS(node.servers, (*own, *node.host.searches), ("ndots:5",))
    else:
        base = node.host
    return _limited(_merged(base, spec.get("dnsConfig") or {}))


def _merged(base: DNS, extra: dict[str, Any]) -> DNS:
    options = {each.partition(":")[0]: each for each in base.options}
    for each in extra.get("options") or ():
        value = each.get("value")
        options[each["name"]] = f"{each['name']}:{value}" if value else each["name"]
    return DNS(
        _unique([*base.servers, *(extra.get("nameservers") or ())]),
        _unique([*base.searches, *(extra.get("searches") or ())]),
        tuple(options.values()),
    )


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _limited(dns: DNS) -> DNS:
    """The resolver reads no more than this, so no more is written."""
    searches: list[str] = []
    for each in dns.searches[:MAX_SEARCHES]:
        if sum(map(len, searches)) + len(searches) + len(each) > MAX_SEARCH_CHARACTERS:
            break
        searches.append(each)
    return DNS(dns.servers[:MAX_SERVERS], tuple(searches), dns.options)


def resolv_conf(dns: DNS) -> str:
    """The file's text."""
    lines = []
    if dns.searches:
        lines.append("search " + " ".join(dns.searches))
    lines += [f"nameserver {each}" for each in dns.servers]
    if dns.options:
        lines.append("options " + " ".join(dns.options))
    return "".join(line + "\n" for line in lines)


def pod_hostname(pod: Object) -> str:
    """`spec.hostname`, else the pod's name, cut to what a host may be called."""
    spec = spec_of(pod)
    name = spec.get("hostname") or metadata_of(pod).get("name") or ""
    return name if len(name) <= _HOSTNAME_LIMIT else name[:_HOSTNAME_LIMIT].rstrip("-.")


def pod_domain(pod: Object, cluster_domain: str) -> str:
    """The domain of a pod that has a subdomain: `<subdomain>.<namespace>.svc.<cluster domain>`; empty for others."""
    subdomain = spec_of(pod).get("subdomain")
    return f"{subdomain}.{namespace_of(pod)}.svc.{cluster_domain}" if subdomain else ""


class NameTooLong(ValueError):
    """The kernel has no room for the name that the pod is to have."""


def kernel_hostname(pod: Object, cluster_domain: str) -> str:
    """What the pod calls itself: with `setHostnameAsFQDN` its whole name, where it has a domain. NameTooLong, in upstream's words, where that is too long."""
    name, domain = pod_hostname(pod), pod_domain(pod, cluster_domain)
    if not domain or not spec_of(pod).get("setHostnameAsFQDN"):
        return name
    whole = f"{name}.{domain}"
    if len(whole) > _FQDN_LIMIT:
        raise NameTooLong(
            f"failed to construct FQDN from Pod hostname and cluster domain, FQDN {whole} is too long "
            f"({_FQDN_LIMIT} characters is the max, {len(whole)} characters requested)"
        )
    return whole


def hosts_file(pod: Object, ips: Sequence[str], cluster_domain: str, host_text: str) -> str:
    """/etc/hosts of the pod's containers; on the host's network it begins as the host's own."""
    spec = spec_of(pod)
    if spec.get("hostNetwork"):
        text = host_text if host_text.endswith("\n") or not host_text else host_text + "\n"
        text = "# Kubernetes-managed hosts file (host network).\n" + text
    else:
        text = (
            "# Kubernetes-managed hosts file.\n"
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\n"
            "fe00::0\tip6-mcastprefix\n"
            "fe00::1\tip6-allnodes\n"
            "fe00::2\tip6-allrouters\n"
        )
        name, domain = pod_hostname(pod), pod_domain(pod, cluster_domain)
        for ip in ips:
            text += f"{ip}\t{name}.{domain}\t{name}\n" if domain else f"{ip}\t{name}\n"
    aliases = spec.get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for each in aliases:
            names = "\t".join(each.get("hostnames") or ())
            text += f"{each['ip']}\t{names}\n"
    return text
