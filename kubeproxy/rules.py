"""From service ports to the text that nft takes. Pure.

One table. Two maps decide in one look-up, however many Services there are: address, protocol and port to the chain of a service port, and node port
to chain. A service port's chain draws an endpoint's chain, that one rewrites the destination. What must have its source rewritten is marked on the way
and masqueraded at the end: traffic from outside the pods' range, through a node port (unless its source is to be kept), and hairpins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubeling.kubeproxy.model import Endpoint, ServicePort
from kubeling.kubeproxy.text import short_hash

TABLE = "ip kubeling-proxy"
MARK = "0x4000"


@dataclass(slots=True)
class Ruleset:
    """All that is in the table besides its skeleton: chain → its rules, map → its elements, affinity set → its time-out in seconds."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    node_ports: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    refused_node_ports: dict[str, str] = field(default_factory=dict)
    affinity_sets: dict[str, int] = field(default_factory=dict)


#: Map name in the table → attribute of Ruleset.
_MAPS = {"services": "services", "nodeports": "node_ports", "refused": "refused", "refused-nodeports": "refused_node_ports"}


def build(ports: Iterable[ServicePort], *, cluster_cidr: str) -> Ruleset:
    """The rules for these service ports. `cluster_cidr` is the pods' range; empty: nothing is masqueraded for coming from elsewhere."""
    rules = Ruleset()
    for port in ports:
        _add(rules, port, cluster_cidr)
    return rules


def _add(rules: Ruleset, port: ServicePort, cluster_cidr: str) -> None:
    proto = port.protocol.lower()
    identity = short_hash(port.key)
    if port.internal:
        masquerade = (f"ip saddr != {cluster_cidr} meta mark set meta mark or {MARK}",) if cluster_cidr else ()
        chain = f"svc-{identity}"
        rules.chains[chain] = (*masquerade, *_draw(rules, port, identity, port.internal))
        for ip in port.cluster_ips:
            rules.services[f"{ip} . {proto} . {port.port}"] = f"goto {chain}"
    else:
        for ip in port.cluster_ips:
            rules.refused[f"{ip} . {proto} . {port.port}"] = "goto refuse"
    if not (port.node_port or port.external_ips):
        return
    outside = [f"{ip} . {proto} . {port.port}" for ip in port.external_ips]
    if not port.external:
        # With policy Local the connection belongs to another node: it is dropped, so that a balancer's retry finds that one.
        verdict = "goto silent" if port.external_local else "goto refuse"
        rules.refused.update(dict.fromkeys(outside, verdict))
        if port.node_port:
            rules.refused_node_ports[f"{proto} . {port.node_port}"] = verdict
        return
    chain = f"ext-{identity}"
    masquerade = () if port.external_local else (f"meta mark set meta mark or {MARK}",)
    rules.chains[chain] = (*masquerade, *_draw(rules, port, identity, port.external))
    if outside and port.source_ranges:
        # Only the load balancer's address is guarded: the node port leads to the unguarded chain, as upstream has it.
        allowed = ", ".join(port.source_ranges)
        rules.chains[f"lb-{identity}"] = (f"ip saddr {{ {allowed} }} goto {chain}", "drop")
        rules.services.update(dict.fromkeys(outside, f"goto lb-{identity}"))
    else:
        rules.services.update(dict.fromkeys(outside, f"goto {chain}"))
    if port.node_port:
        rules.node_ports[f"{proto} . {port.node_port}"] = f"goto {chain}"


def _draw(rules: Ruleset, port: ServicePort, identity: str, endpoints: tuple[Endpoint, ...]) -> tuple[str, ...]:
    """Rules that go to one of the endpoints: the one this client had before, else any."""
    chains = []
    sticky = []
    for endpoint in endpoints:
        chain = f"ep-{short_hash(f'{identity}/{endpoint.ip}:{endpoint.port}')}"
        chains.append(chain)
        body = [f"ip saddr {endpoint.ip} meta mark set meta mark or {MARK}"]
        if port.affinity_seconds:
            name = f"seen-{chain[3:]}"
            rules.affinity_sets[name] = port.affinity_seconds
            body.append(f"update @{name} {{ ip saddr }}")
            sticky.append(f"ip saddr @{name} goto {chain}")
        body.append(f"meta l4proto {port.protocol.lower()} dnat to {endpoint.ip}:{endpoint.port}")
        rules.chains[chain] = tuple(body)
    choices = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
    return (*sticky, f"numgen random mod {len(chains)} vmap {{ {choices} }}")


def full(rules: Ruleset, node_ips: Iterable[str]) -> str:
    """A script that replaces the whole table, in one transaction."""
    addresses = ", ".join(sorted(set(node_ips)))
    skeleton = f"""add table {TABLE}
delete table {TABLE}
table {TABLE} {{
  set node-ips {{ type ipv4_addr; elements = {{ {addresses} }}; }}
  map services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map nodeports {{ type inet_proto . inet_service : verdict; }}
  map refused {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map refused-nodeports {{ type inet_proto . inet_service : verdict; }}
  chain refuse {{ meta l4proto tcp reject with tcp reset; reject; }}
  chain silent {{ drop; }}
  chain dispatch {{
    ip daddr . meta l4proto . th dport vmap @services
    ip daddr @node-ips meta l4proto . th dport vmap @nodeports
  }}
  chain check {{
    ct state new ip daddr . meta l4proto . th dport vmap @refused
    ct state new ip daddr @node-ips meta l4proto . th dport vmap @refused-nodeports
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; jump dispatch; }}
  chain output {{ type nat hook output priority -100; policy accept; jump dispatch; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & {MARK} == {MARK} masquerade
  }}
  chain filter-input {{ type filter hook input priority filter; policy accept; jump check; }}
  chain filter-forward {{ type filter hook forward priority filter; policy accept; jump check; }}
  chain filter-output {{ type filter hook output priority filter; policy accept; jump check; }}
}}
"""
    return skeleton + changes(Ruleset(), rules)


def changes(old: Ruleset, new: Ruleset) -> str:
    """A script that leads from `old` to `new`, in one transaction; empty where they are the same. Only what differs is touched."""
    lines: list[str] = []
    for name, seconds in new.affinity_sets.items():
        if name not in old.affinity_sets:
            lines.append(f"add set {TABLE} {name} {{ type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; }}")
    # Chains first without their rules, since these refer to each other.
    lines += [f"add chain {TABLE} {name}" for name in new.chains if name not in old.chains]
    for name, body in new.chains.items():
        if name in old.chains:
            if old.chains[name] == body:
                continue
            lines.append(f"flush chain {TABLE} {name}")
        lines += [f"add rule {TABLE} {name} {rule}" for rule in body]
    for name, attribute in _MAPS.items():
        lines += _element_changes(name, getattr(old, attribute), getattr(new, attribute))
    gone = [name for name in old.chains if name not in new.chains]
    lines += [f"flush chain {TABLE} {name}" for name in gone]
    lines += [f"delete chain {TABLE} {name}" for name in gone]
    lines += [f"delete set {TABLE} {name}" for name in old.affinity_sets if name not in new.affinity_sets]
    return "".join(line + "\n" for line in lines)


def _element_changes(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    removed = [key for key, verdict in old.items() if new.get(key) != verdict]
    added = [f"{key} : {verdict}" for key, verdict in new.items() if old.get(key) != verdict]
    lines = []
    if removed:
        lines.append(f"delete element {TABLE} {name} {{ {', '.join(removed)} }}")
    if added:
        lines.append(f"add element {TABLE} {name} {{ {', '.join(added)} }}")
    return lines
