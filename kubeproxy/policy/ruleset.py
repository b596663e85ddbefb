"""From what the index knows to the text that nft takes. Pure.

One table of family inet. A packet that is forwarded from a pod of this node is looked up by its source address in the map `egress`, one to a pod of this node
by its destination in `ingress`; what a map names is the chain of all policies that select the pod: it jumps to each policy's chain, where a rule that fits
accepts, and drops what is left. The two directions are chains of their own at the same hook, so that a packet needs the consent of both. Every packet in the
direction in which its connection began is judged, so a policy that changes cuts what it no longer allows; answers pass.

Packets between a pod and its own node do not come by here: a node may always reach its pods (NetworkPolicy documentation), and its probes do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from kubeling.api.labels import EVERYTHING
from kubeling.kubeproxy.policy.index import Index
from kubeling.kubeproxy.policy.model import Block, Policy, Port, Rule, Scope
from kubeling.kubeproxy.text import chain_additions, chain_removals, element_lines, family_of, map_changes, short_hash

TABLE = "inet kubeling-policy"
Direction = Literal["ingress", "egress"]
#: Family → how nft calls its header and the type of its addresses.
_FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


@dataclass(slots=True)
class Ruleset:
    """All that is in the table besides its skeleton: chain → rules, set → its type and elements, map → elements."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    #: What the selections of the rules are, so that the others can be forgotten.
    scopes: set[Scope] = field(default_factory=set)


class Builder:
    """Makes rule sets of what `index` knows."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._families: tuple[int, ...] = (4,)

    def build(self) -> Ruleset:
        """The rules for the pods of this node."""
        rules = Ruleset(maps={f"{direction}{family}": {} for direction in ("ingress", "egress") for family in _FAMILIES})
        known: dict[int, set[str]] = {4: set(), 6: set()}
        isolated: dict[int, set[str]] = {4: set(), 6: set()}
        dual = any(":" in ip for pod in self._index.local.values() for ip in pod.ips)
        self._families = (4, 6) if dual else (4,)
        for key, pod in self._index.local.items():
            for ip in pod.ips:
                known[family_of(ip)].add(ip)
            policies = self._index.policies_for(key)
            for direction in ("ingress", "egress"):
                chosen = [each for each in policies if getattr(each, direction) is not None]
                if not chosen:
                    continue
                chain = self._together(rules, direction, chosen)
                for ip in pod.ips:
                    rules.maps[f"{direction}{family_of(ip)}"][ip] = f"jump {chain}"
                    isolated[family_of(ip)].add(ip)
        for family, (_, kind) in _FAMILIES.items():
            rules.sets[f"known{family}"] = (kind, frozenset(known[family]))
            # "A Pod cannot block access to itself": by way of a Service it meets itself here.
            rules.sets[f"self{family}"] = (f"{kind} . {kind}", frozenset(f"{ip} . {ip}" for ip in isolated[family]))
        return rules

    def _together(self, rules: Ruleset, direction: Direction, policies: list[Policy]) -> str:
        names = [f"{each.namespace}/{each.name}" for each in policies]
        chain = f"{direction}-{short_hash(' '.join(names))}"
        if chain not in rules.chains:
            rules.chains[chain] = (*(f"jump {self._chain(rules, direction, each)}" for each in policies), "drop")
        return chain

    def _chain(self, rules: Ruleset, direction: Direction, policy: Policy) -> str:
        chain = f"policy-{direction}-{short_hash(f'{policy.namespace}/{policy.name}')}"
        if chain not in rules.chains:
            body: dict[str, None] = {}
            for rule in getattr(policy, direction):
                body.update(dict.fromkeys(self._rule(rules, direction, policy, rule)))
            rules.chains[chain] = tuple(body)
        return chain

    def _rule(self, rules: Ruleset, direction: Direction, policy: Policy, rule: Rule) -> Iterator[str]:
        """Lines for one rule of a policy: peers times ports."""
        plain = [each for each in rule.ports or () if not each.name]
        ports = list(_port_matches(plain)) if rule.ports is not None else [""]
        for peer in rule.peers if rule.peers is not None else (None,):
            for match in self._peer(rules, direction, peer):
                yield from (_line(match, port) for port in ports)
        for port in rule.ports or ():
            if port.name:
                yield from self._named(rules, direction, policy, rule, port)

    def _peer(self, rules: Ruleset, direction: Direction, peer: Scope | Block | None) -> Iterator[str]:
        if peer is None:
            yield ""
            return
        side = "saddr" if direction == "ingress" else "daddr"
        if isinstance(peer, Block):
            header = _FAMILIES[peer.family][0]
            excepts = f" {header} {side} != {{ {', '.join(peer.excepts)} }}" if peer.excepts else ""
            yield f"{header} {side} {peer.cidr}{excepts}"
            return
        for family in self._families:
            yield f"{_FAMILIES[family][0]} {side} @{self._addresses(rules, peer, family)}"

    def _addresses(self, rules: Ruleset, scope: Scope, family: int) -> str:
        """The name of the set of a scope's addresses."""
        name = f"pods{family}-{_scope_hash(scope)}"
        if name not in rules.sets:
            rules.scopes.add(scope)
            members = self._index.selection(scope).addresses
            chosen = members if family == 4 and not any(":" in each for each in members) else None
            rules.sets[name] = (
                _FAMILIES[family][1],
                chosen if chosen is not None else frozenset(each for each in members if family_of(each) == family),
            )
        return name

    def _named(self, rules: Ruleset, direction: Direction, policy: Policy, rule: Rule, port: Port) -> Iterator[str]:
        """A port with a name means for each receiving pod what that pod gives this name. Ranges of addresses give no names."""
        if direction == "ingress":
            for match in (each for peer in (rule.peers or (None,)) for each in self._peer(rules, direction, peer)):
                for family, where in self._places(rules, policy.subject, port):
                    if not match or match.startswith(f"{_FAMILIES[family][0]} "):
                        yield _line(match, where)
            return
        everybody = Scope("", EVERYTHING, EVERYTHING)
        for peer in rule.peers if rule.peers is not None else (everybody,):
            if isinstance(peer, Scope):
                for _, where in self._places(rules, peer, port):
                    yield _line(where)

    def _places(self, rules: Ruleset, scope: Scope, port: Port) -> Iterator[tuple[int, str]]:
        """Family and match of address and number of a named port."""
        rules.scopes.add(scope)
        places = self._index.selection(scope).named((port.name, port.protocol))
        for family in self._families:
            header, kind = _FAMILIES[family]
            name = f"port{family}-{short_hash(f'{_scope_hash(scope)} {port.protocol} {port.name}')}"
            found = frozenset(f"{ip} . {port.protocol.lower()} . {number}" for ip, number in places if family_of(ip) == family)
            rules.sets[name] = (f"{kind} . inet_proto . inet_service", found)
            yield family, f"{header} daddr . meta l4proto . th dport @{name}"


def _scope_hash(scope: Scope) -> str:
    return short_hash(f"{scope.namespace}|{scope.namespaces!r}|{scope.pods!r}")


def _line(*matches: str) -> str:
    return " ".join([*filter(None, matches), "accept"])


def _port_matches(ports: list[Port]) -> Iterator[str]:
    """One match a protocol."""
    for protocol in sorted({each.protocol for each in ports}):
        word = protocol.lower()
        numbers = [each for each in ports if each.protocol == protocol]
        if any(each.first is None for each in numbers):
            yield f"meta l4proto {word}"
            continue
        ranges = ", ".join(
            str(first) if first == last else f"{first}-{last}"
            for first, last in _merged((each.first or 0, each.last or 0) for each in numbers)
        )
        yield f"meta l4proto {word} th dport {{ {ranges} }}"


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without overlaps, which nft refuses."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def full(rules: Ruleset, pod_ranges: Iterable[str]) -> str:
    """A script that replaces the whole table, in one transaction."""
    lines = [f"add table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{"]
    for family, (_, kind) in _FAMILIES.items():
        lines += [f"  map {direction}{family} {{ type {kind} : verdict; }}" for direction in ("ingress", "egress")]
        lines.append(f"  set known{family} {{ type {kind}; }}")
        lines.append(f"  set self{family} {{ type {kind} . {kind}; }}")
    ours = list(pod_ranges)
    for direction, side, priority in (("egress", "saddr", 10), ("ingress", "daddr", 11)):
        lines.append(f"  chain {direction} {{")
        lines.append(f"    type filter hook forward priority {priority}; policy accept;")
        lines.append("    ct state related accept")
        lines.append("    ct state established ct direction reply accept")
        lines += [f"    {header} saddr . {header} daddr @self{family} accept" for family, (header, _) in _FAMILIES.items()]
        lines += [f"    {header} {side} vmap @{direction}{family}" for family, (header, _) in _FAMILIES.items()]
        for cidr in ours:
            header = _FAMILIES[family_of(cidr)][0]
            lines.append(f"    {header} {side} {cidr} {header} {side} != @known{family_of(cidr)} drop")
        lines.append("  }")
    lines.append("}")
    empty = Ruleset(
        sets={f"{name}{family}": (kind, frozenset()) for family in _FAMILIES for name, kind in _own_sets(family)},
        maps={f"{direction}{family}": {} for direction in ("ingress", "egress") for family in _FAMILIES},
    )
    return "\n".join(lines) + "\n" + changes(empty, rules)


def _own_sets(family: int) -> tuple[tuple[str, str], ...]:
    kind = _FAMILIES[family][1]
    return ("known", kind), ("self", f"{kind} . {kind}")


def removal() -> str:
    """A script that takes the table away, whether it is there or not."""
    return f"add table {TABLE}\ndelete table {TABLE}\n"


def changes(old: Ruleset, new: Ruleset) -> str:
    """A script that leads from `old` to `new`, in one transaction; empty where they are the same. Only what differs is touched."""
    lines = list(_set_changes(old, new))
    lines += chain_additions(TABLE, old.chains, new.chains)
    for name, elements in new.maps.items():
        lines += map_changes(TABLE, name, old.maps.get(name, {}), elements)
    lines += chain_removals(TABLE, old.chains, new.chains)
    lines += [f"delete set {TABLE} {name}" for name in old.sets if name not in new.sets]
    return "".join(f"{line}\n" for line in lines)


def _set_changes(old: Ruleset, new: Ruleset) -> Iterator[str]:
    for name, (kind, elements) in new.sets.items():
        before = old.sets.get(name)
        if before is None:
            yield f"add set {TABLE} {name} {{ type {kind}; }}"
            there: frozenset[str] = frozenset()
        else:
            there = before[1]
        if there is elements or there == elements:
            continue
        yield from element_lines("delete", TABLE, name, sorted(there - elements))
        yield from element_lines("add", TABLE, name, sorted(elements - there))
